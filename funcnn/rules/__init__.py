"""The rules: functions of arrays with hand-derived gradients. The page is their table of contents.

linear, convolution: products with weights. activation, gate: elementwise functions. softmax, loss,
cross_entropy: what classifiers end in. pooling, dropout: what images and regularisation need.
normalization, group_norm, batch_norm: mean 0 and variance 1. recurrent, lstm, gru: whole sequences.
"""

from funcnn.registry import registered_rules
from funcnn.rules.activation import elu, leaky_relu, relu, sigmoid, softplus, tanh
from funcnn.rules.batch_norm import batch_norm, batch_norm_evaluation
from funcnn.rules.convolution import conv
from funcnn.rules.convolution_transposed import conv_transposed
from funcnn.rules.cross_entropy import softmax_cross_entropy
from funcnn.rules.dropout import dropout
from funcnn.rules.embedding import embedding
from funcnn.rules.gate import gelu, silu
from funcnn.rules.global_pooling import global_average_pool, global_max_pool
from funcnn.rules.group_norm import group_norm, instance_norm
from funcnn.rules.gru import gru
from funcnn.rules.linear import linear
from funcnn.rules.linear_cross_entropy import linear_cross_entropy
from funcnn.rules.loss import logistic, squared_error
from funcnn.rules.lstm import lstm
from funcnn.rules.normalization import layer_norm, rms_norm
from funcnn.rules.pooling import average_pool, max_pool
from funcnn.rules.recurrent import rnn
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
