"""Colours less their mean, over their deviation."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from funcnn.augment.augmentation import Augmentation
from funcnn.core.usage import in_a_word
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Key


@functools.partial(Augmentation, random=False)
def normalise(
    key: Key | None, x: Array, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> Array:
    """Each channel less its mean, over its deviation, in training and in evaluation alike.

    Shapes: x, y (N, H, W, C); mean and std one number, or one for each of the C channels. It draws
    nothing and needs no key. Computed in float32 at least.

    Raises:
        TypeError: x is not floating point.
        ValueError: std is not positive, or mean or std has another number of channels.

    >>> normalise(None, jnp.array([[[[1.0, 8.0]]]]), mean=(0.0, 4.0), std=2.0).ravel()
    Array([0.5, 2. ], dtype=float32)
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"normalise: x must be floating point, found {in_a_word(x)}; cast it first")
    centred = x.astype(accumulator(x)) - _channels("mean", mean, x)
    return (centred / _deviation(std, x)).astype(x.dtype)


@normalise.defbackward
def _backward(
    key: Key | None, dy: Array, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> Array:
    return (dy.astype(accumulator(dy)) / _deviation(std, dy)).astype(dy.dtype)


def _deviation(std: float | Sequence[float], x: Array) -> Array:
    values = _channels("std", std, x)
    if not np.all(np.asarray(std) > 0):
        raise ValueError(f"normalise: std is positive, found {std!r}")
    return values


def _channels(name: str, value: float | Sequence[float], x: Array) -> Array:
    array = np.asarray(value)
    if array.shape not in ((), x.shape[-1:]):
        raise ValueError(
            f"normalise: {name} is one number or one for each of {x.shape[-1]} channels, "
            f"found {value!r}"
        )
    per_channel = np.broadcast_to(array, x.shape[-1:])[None, None, None]  # (1, 1, 1, C)
    return jnp.asarray(per_channel, accumulator(x))
