"""Global pooling: the largest element or the mean of each whole image."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.core.registry import Case, rule
from funcnn.rules.pooling.arguments import CONSERVED, reduce_windows, whole_image
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array, ArrayLike, Key


@rule
def global_max_pool(x: ArrayLike) -> Array:
    r"""The largest element of each image and channel, y[c] = max_p x[p, c].

    Shapes: x (N, H, W, C) or (N, W, C), y (N, C).

    Derivation, kinks (ties) and NaN: as `max_pool` with one window, the whole image; the
    first of several largest elements takes all of dy. (`jnp.max` would split it.)
    Kept for the backward pass: the place of the largest element, one integer for each output.

    Earns its place by memory, and by time on a CPU: see `max_pool`.

    Source: Lin, Chen, Yan, Network in network, 2014 (the mean), and max_pool.

    Raises:
        TypeError: x is not floating point.
        ValueError: x has another rank or no pixel.

    >>> global_max_pool(jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1))
    Array([[3.]], dtype=float32)
    """
    x, windows = whole_image("global_max_pool", x)
    return reduce_windows(x, windows, -np.inf, lax.max).reshape(x.shape[0], x.shape[-1])


def global_max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Windows]]:
    x, windows = whole_image("global_max_pool", x)
    pixels = x.reshape(x.shape[0], math.prod(windows.size), x.shape[-1])  # (N, H*W, C)
    # argmax gives the first of several, and the first NaN.
    return jnp.max(pixels, axis=1), (jnp.argmax(pixels, axis=1), windows)


def global_max_pool_backward(res: tuple[Array, Windows], dy: Array) -> tuple[Array]:
    place, windows = res
    batch, channels = dy.shape
    shape = (batch, math.prod(windows.size), channels)
    number = lax.broadcasted_iota(place.dtype, shape, 1)
    chosen = number == jnp.broadcast_to(place[:, None], shape)
    dx = jnp.where(chosen, jnp.broadcast_to(dy[:, None], shape), 0)  # (N, H*W, C)
    return (dx.reshape(batch, *windows.size, channels),)


global_max_pool.defvjp(global_max_pool_forward, global_max_pool_backward)


def _global_cases(key: Key) -> Iterator[Case]:
    for name, shape in {
        "images": (3, 5, 2, 7),
        "1-D": (2, 11, 3),
        "one element": (1, 1, 1, 1),
        "more than 256 pixels": (2, 17, 19, 1),
    }.items():
        yield Case(name, (normal(key, shape),), laws=CONSERVED)
    yield Case("no images", (jnp.zeros((0, 5, 4, 3)),))
    yield Case("no channels", (jnp.zeros((2, 5, 4, 0)),))


@global_max_pool.defcases
def global_max_pool_cases(key: Key) -> Iterator[Case]:
    yield from _global_cases(key)
    ties = jnp.maximum(jnp.round(normal(key, (3, 5, 2, 7))), 0)
    yield Case("ties", (ties,), kinks=True, laws=CONSERVED)


@rule
def global_average_pool(x: ArrayLike) -> Array:
    r"""The mean of each image and channel, y[c] = Σ_p x[p, c] / n.

    Shapes: x (N, H, W, C) or (N, W, C), y (N, C); n = H W.

    Derivation: dx[p, c] = dy[c] / n for every pixel p.
    Kept for the backward pass: nothing but shapes. The map is linear: there are no kinks,
    and NaN reaches the mean of its image and channel.

    Earns its place by teaching: autodiff does the same.

    Source: Lin, Chen, Yan, Network in network, 2014.

    Raises:
        TypeError: x is not floating point.
        ValueError: x has another rank or no pixel.

    >>> global_average_pool(jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1))
    Array([[2.]], dtype=float32)
    """
    x, windows = whole_image("global_average_pool", x)
    total = jnp.sum(x, range(1, x.ndim - 1), dtype=accumulator(x))  # (N, C)
    return (total / math.prod(windows.size)).astype(x.dtype)


def global_average_pool_forward(x: Array) -> tuple[Array, Windows]:
    return global_average_pool.reference(x), whole_image("global_average_pool", x)[1]


def global_average_pool_backward(windows: Windows, dy: Array) -> tuple[Array]:
    batch, channels = dy.shape
    share = (dy.astype(accumulator(dy)) / math.prod(windows.size)).astype(dy.dtype)
    share = share.reshape(batch, *(1 for _ in windows.size), channels)
    return (jnp.broadcast_to(share, (batch, *windows.size, channels)),)


global_average_pool.defvjp(global_average_pool_forward, global_average_pool_backward)


@global_average_pool.defcases
def global_average_pool_cases(key: Key) -> Iterator[Case]:
    yield from _global_cases(key)
