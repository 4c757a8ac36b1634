"""The rules: functions of arrays with hand-derived gradients. The page is their table of contents.

linear, convolution: products with weights. activation, gate: elementwise functions. softmax, loss:
what classifiers end in. pooling, dropout: what images and regularisation need.
"""

from funcnn.registry import registered_rules
from funcnn.rules.activation import elu, leaky_relu, relu, sigmoid, softplus, tanh
from funcnn.rules.convolution import conv
from funcnn.rules.dropout import dropout
from funcnn.rules.gate import gelu, silu
from funcnn.rules.global_pooling import global_average_pool, global_max_pool
from funcnn.rules.linear import linear
from funcnn.rules.loss import logistic, softmax_cross_entropy, squared_error
from funcnn.rules.pooling import average_pool, max_pool
from funcnn.rules.softmax import log_softmax, softmax

__all__ = [
    "average_pool",
    "conv",
    "dropout",
    "elu",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logistic",
    "max_pool",
    "registered_rules",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "tanh",
]
