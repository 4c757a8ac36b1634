"""What several models have in common: their options, and rows of the same layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from inspect import signature
from typing import Any

import jax.numpy as jnp

from funcnn import layers
from funcnn.core.layer import Layer
from funcnn.core.usage import in_a_word, positive_integer
from funcnn.spelling import did_you_mean
from funcnn.types import Array, PyTree


def sizes(model: str, name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Sizes as integers; a ValueError in the name of the model where one is none above 0.

    >>> sizes("vae", "hidden", [64, 32])
    (64, 32)
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{model}: {name} is several sizes, [64, 32], found {values!r}")
    return tuple(positive_integer(model, name, value) for value in values)


def checked_tokens(model: str, x: PyTree) -> Array:
    """Tokens (B, T); a TypeError or ValueError in the name of the model where they are none.

    >>> checked_tokens("gpt", jnp.zeros((2, 3)))
    Traceback (most recent call last):
    TypeError: gpt: x is tokens, integers (B, T), found float32[2, 3]
    """
    wrong = f"{model}: x is tokens, integers (B, T), found {in_a_word(x)}"
    if not jnp.issubdtype(getattr(x, "dtype", float), jnp.integer):
        raise TypeError(wrong)
    if x.ndim != 2:
        raise ValueError(wrong)
    return x


def block_options(
    model: str, options: Mapping[str, Any], drawn_here: Set[str] = frozenset()
) -> dict[str, Any]:
    """Options of `fnn.transformer_block`; a TypeError in the name of the model for what is none.

    >>> block_options("bert", {"windows": 3})
    Traceback (most recent call last):
    TypeError: bert: its blocks take no option 'windows' (did you mean window?)
    """
    known = {*signature(layers.transformer_block).parameters, *signature(layers.attend).parameters}
    if unknown := sorted({*options} - (known - drawn_here)):
        hint = did_you_mean(unknown[0], known - drawn_here)
        raise TypeError(f"{model}: its blocks take no option {unknown[0]!r}{hint}")
    return dict(options)


def dense_relu(widths: Sequence[int]) -> list[Layer]:
    """A dense layer and a relu for each width.

    >>> [layer.kind for layer in dense_relu([8, 4])]
    ['dense', 'relu', 'dense', 'relu']
    """
    return [layer for width in widths for layer in (layers.dense(width), layers.relu)]
