"""The rules: functions of arrays with hand-derived gradients. The page is their table of contents.

Read activation first. linear, convolution, embedding: products with weights, rows of a table.
activation, gate: elementwise functions. softmax, losses: what classifiers end in. pooling, dropout:
what images and regularisation need. normalization: mean 0 and variance 1. recurrent: whole
sequences. shared: what they need, and no rule.
"""

from funcnn.core.registry import registered_rules
from funcnn.rules.activation import elu, leaky_relu, relu, sigmoid, softplus, tanh
from funcnn.rules.convolution.conv import conv
from funcnn.rules.convolution.transposed import conv_transposed
from funcnn.rules.dropout import dropout
from funcnn.rules.embedding import embedding
from funcnn.rules.gate import gelu, silu
from funcnn.rules.linear import linear
from funcnn.rules.losses.cross_entropy import softmax_cross_entropy
from funcnn.rules.losses.elementwise import logistic, squared_error
from funcnn.rules.losses.linear_cross_entropy import linear_cross_entropy
from funcnn.rules.normalization.batch import batch_norm, batch_norm_evaluation
from funcnn.rules.normalization.group import group_norm, instance_norm
from funcnn.rules.normalization.rows import layer_norm, rms_norm
from funcnn.rules.pooling.whole_image import global_average_pool, global_max_pool
from funcnn.rules.pooling.windowed import average_pool, max_pool
from funcnn.rules.recurrent.gru import gru
from funcnn.rules.recurrent.lstm import lstm
from funcnn.rules.recurrent.rnn import rnn
from funcnn.rules.softmax import log_softmax, softmax

__all__ = [
    "average_pool",
    "batch_norm",
    "batch_norm_evaluation",
    "conv",
    "conv_transposed",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_cross_entropy",
    "log_softmax",
    "logistic",
    "lstm",
    "max_pool",
    "registered_rules",
    "relu",
    "rms_norm",
    "rnn",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "tanh",
]
