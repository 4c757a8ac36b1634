"""The rules: functions of arrays with hand-derived gradients. The page is their table of contents.

Read activation first. linear, convolution, embedding: products with weights, rows of a table.
activation, gate: elementwise functions. softmax, losses: what classifiers end in. pooling,
dropout: what images and regularisation need. normalization: mean 0 and variance 1. recurrent,
attention, position: whole sequences. shared: what they need, and no rule.
"""

from funcnn.core.registry import registered_rules as registered_rules
from funcnn.names import reexported as _reexported
from funcnn.rules.activation import elu as elu
from funcnn.rules.activation import leaky_relu as leaky_relu
from funcnn.rules.activation import relu as relu
from funcnn.rules.activation import sigmoid as sigmoid
from funcnn.rules.activation import softplus as softplus
from funcnn.rules.activation import tanh as tanh
from funcnn.rules.attention.attention import attention as attention
from funcnn.rules.attention.attention import attention_implementation as attention_implementation
from funcnn.rules.convolution.conv import conv as conv
from funcnn.rules.convolution.transposed import conv_transposed as conv_transposed
from funcnn.rules.dropout import dropout as dropout
from funcnn.rules.embedding import embedding as embedding
from funcnn.rules.gate import geglu as geglu
from funcnn.rules.gate import gelu as gelu
from funcnn.rules.gate import silu as silu
from funcnn.rules.gate import swiglu as swiglu
from funcnn.rules.linear import linear as linear
from funcnn.rules.losses.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from funcnn.rules.losses.elementwise import logistic as logistic
from funcnn.rules.losses.elementwise import squared_error as squared_error
from funcnn.rules.losses.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from funcnn.rules.normalization.batch import batch_norm as batch_norm
from funcnn.rules.normalization.batch import batch_norm_evaluation as batch_norm_evaluation
from funcnn.rules.normalization.group import group_norm as group_norm
from funcnn.rules.normalization.group import instance_norm as instance_norm
from funcnn.rules.normalization.rows import layer_norm as layer_norm
from funcnn.rules.normalization.rows import rms_norm as rms_norm
from funcnn.rules.pooling.whole_image import global_average_pool as global_average_pool
from funcnn.rules.pooling.whole_image import global_max_pool as global_max_pool
from funcnn.rules.pooling.windowed import average_pool as average_pool
from funcnn.rules.pooling.windowed import max_pool as max_pool
from funcnn.rules.position import rotary as rotary
from funcnn.rules.recurrent.gru import gru as gru
from funcnn.rules.recurrent.lstm import lstm as lstm
from funcnn.rules.recurrent.rnn import rnn as rnn
from funcnn.rules.softmax import log_softmax as log_softmax
from funcnn.rules.softmax import softmax as softmax

__all__ = _reexported(__file__)
