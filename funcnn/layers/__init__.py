"""Layers: rules with their parameters. This page is their table of contents.

linear: dense and convolutions, the first file to read. embedding: rows of a table. activation,
pooling, shape: no parameters. normalization: scale and bias. recurrent: whole sequences.
bidirectional: both of their directions.
"""

from funcnn.layers.activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from funcnn.layers.bidirectional import bidirectional
from funcnn.layers.embedding import embedding
from funcnn.layers.linear import conv, conv_transposed, dense
from funcnn.layers.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from funcnn.layers.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from funcnn.layers.recurrent import gru, lstm, rnn
from funcnn.layers.shape import dropout, flatten

__all__ = [
    "average_pool",
    "batch_norm",
    "bidirectional",
    "conv",
    "conv_transposed",
    "dense",
    "dropout",
    "elu",
    "embedding",
    "flatten",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "lstm",
    "max_pool",
    "relu",
    "rms_norm",
    "rnn",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
