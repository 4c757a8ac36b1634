"""Layers: rules with their parameters. This page is their table of contents."""

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
from funcnn.layers.linear import conv, dense
from funcnn.layers.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from funcnn.layers.shape import dropout, flatten

__all__ = [
    "average_pool",
    "conv",
    "dense",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "leaky_relu",
    "log_softmax",
    "max_pool",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
