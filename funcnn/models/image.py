"""Models that classify images."""

from __future__ import annotations

from collections.abc import Sequence

from funcnn import layers
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.models.shared import sizes


def _activation(name: str) -> Layer:
    layer = getattr(layers, name) if name in layers.__all__ else None
    if not isinstance(layer, Layer) or name in {
        "flatten",
        "global_average_pool",
        "global_max_pool",
    }:
        raise ValueError(
            f"activation: a layer without options is wanted, such as 'relu', found {name!r}"
        )
    return layer


def mlp(
    hidden: Sequence[int] = (64, 32),
    activation: str = "relu",
    classes: int = 10,
    dropout: float = 0.0,
) -> Layer:
    """A multilayer perceptron: dense layers with an activation between them; returns logits.

    Args:
        hidden: the widths of the hidden layers.
        activation: the name of an activation layer.
        classes: how many logits come out.
        dropout: the rate of the dropout after each activation; 0 for none.

    >>> model = mlp(hidden=[8])
    >>> list(model.parts)
    ['flatten_0', 'dense_0', 'relu_0', 'dense_1']
    """
    sequence = [layers.flatten]
    for width in sizes("mlp", "hidden", hidden):
        sequence += [layers.dense(width), _activation(activation)]
        sequence += [layers.dropout(dropout)] if dropout else []
    return chain(*sequence, layers.dense(classes))


def lenet(
    channels: Sequence[int] = (32, 64),
    hidden: int = 128,
    classes: int = 10,
    dropout: float = 0.25,
    batch_norm: bool = False,
) -> Layer:
    """A small convolutional network, after LeCun et al. 1998; returns logits.

    3x3 convolutions with relu, each followed by 2x2 max pooling, then a hidden dense layer. Images
    need at least 2 ** len(channels) pixels a side.

    Args:
        channels: how many channels come out of each convolution.
        hidden: the width of the hidden dense layer.
        classes: how many logits come out.
        dropout: the rate of the dropout before each dense layer; 0 for none.
        batch_norm: whether one stands between each convolution, then without a bias, and its relu.

    >>> model = lenet(channels=[8], dropout=0.0)
    >>> list(model.parts)
    ['conv_0', 'relu_0', 'max_pool_0', 'flatten_0', 'dense_0', 'relu_1', 'dense_1']
    """
    sequence = []
    for width in sizes("lenet", "channels", channels):
        sequence += [layers.conv(width, (3, 3), bias=not batch_norm)]
        sequence += [layers.batch_norm()] if batch_norm else []
        sequence += [layers.relu, layers.max_pool((2, 2))]
    drop = [layers.dropout(dropout)] if dropout else []
    head = [layers.flatten, *drop, layers.dense(hidden), layers.relu, *drop, layers.dense(classes)]
    return chain(*sequence, *head)
