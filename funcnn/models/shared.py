"""What several models have in common: their options, and rows of the same layers."""

from __future__ import annotations

from collections.abc import Sequence

from funcnn import layers
from funcnn.core.layer import Layer
from funcnn.core.usage import positive_integer


def sizes(model: str, name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Sizes as integers; a ValueError in the name of the model where one is none above 0.

    >>> sizes("vae", "hidden", [64, 32])
    (64, 32)
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{model}: {name} is several sizes, [64, 32], found {values!r}")
    return tuple(positive_integer(model, name, value) for value in values)


def dense_relu(widths: Sequence[int]) -> list[Layer]:
    """A dense layer and a relu for each width.

    >>> [layer.kind for layer in dense_relu([8, 4])]
    ['dense', 'relu', 'dense', 'relu']
    """
    return [layer for width in widths for layer in (layers.dense(width), layers.relu)]
