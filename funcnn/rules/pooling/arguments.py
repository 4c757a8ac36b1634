"""What the poolings share: their windows, XLA's own reduction, and how much a window holds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.rules.shared.arguments import describe, floating
from funcnn.rules.shared.windows import Windows, per_axis
from funcnn.types import Array, ArrayLike, Function, Padding, Shape


# Each dy goes to one element of x, or is shared out among several.
def _conserved(
    args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    return jnp.sum(cotangents[0]), jnp.sum(dy)


CONSERVED = {"sum dx = sum dy": _conserved}


def pool_windows(
    rule: str, x: ArrayLike, window: int | Shape, stride: int | Shape | None, padding: Padding
) -> tuple[Array, Windows]:
    """x and its windows, or one line that says which argument does not fit.

    >>> pool_windows("max_pool", jnp.zeros((2, 5, 3)), 2, None, ((2, 0),))
    Traceback (most recent call last):
    ValueError: max_pool: the padding must be smaller than the window, or some windows hold no
    element; found padding ((2, 0),) and window (2,)
    """
    x = images(rule, x)
    size = x.shape[1:-1]
    if len(per_axis(window, len(size))) == len(size) + 1:
        raise ValueError(
            f"{rule}: the window {window} has {len(size) + 1} axes and x {len(size)} spatial ones; "
            f"has x a batch axis? found {describe(x)}"
        )
    windows = Windows.of(rule, size, window, window if stride is None else stride, padding)
    for k, pair in zip(windows.window, windows.padding, strict=True):
        if max(pair) >= k:
            raise ValueError(
                f"{rule}: the padding must be smaller than the window, or some windows hold no "
                f"element; found padding {windows.padding} and window {windows.window}"
            )
    return x, windows


def images(rule: str, x: ArrayLike) -> Array:
    """x as an array, or one line that says what it should be.

    >>> images("max_pool", jnp.zeros((4, 4)))
    Traceback (most recent call last):
    ValueError: max_pool: x must have shape (N, W, C) or (N, H, W, C), found float32[4, 4]
    """
    (x,) = floating(rule, x=x)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"{rule}: x must have shape (N, W, C) or (N, H, W, C), found {describe(x)}"
        )
    return x


def reduce_windows(x: Array, windows: Windows, start: float, combine: Function) -> Array:
    """One value for each window, by XLA's own reduction.

    >>> x = jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1)
    >>> reduce_windows(x, Windows.of("pool", (3,), 2, 1, "VALID"), 0, lax.add).ravel()
    Array([4., 5.], dtype=float32)
    """
    return lax.reduce_window(
        x,
        np.array(start, x.dtype),
        combine,
        (1, *windows.window, 1),
        (1, *windows.stride, 1),
        ((0, 0), *windows.padding, (0, 0)),
    )


def counts(windows: Windows, like: Array) -> Array:
    """How many elements of x each window holds, as an array with the shape of `like`.

    >>> counts(Windows.of("pool", (3,), 2, 2, "SAME"), jnp.zeros((1, 2, 1))).ravel()
    Array([2., 1.], dtype=float32)
    """
    axes = zip(
        windows.size, windows.output, windows.window, windows.stride, windows.padding, strict=True
    )
    number = np.ones((1,) * (len(windows.size) + 2))
    for axis, (n, m, k, s, (lo, _)) in enumerate(axes, 1):
        first = np.arange(m) * s - lo
        along = np.minimum(first + k, n) - np.maximum(first, 0)
        number = number * along.reshape([-1 if a == axis else 1 for a in range(number.ndim)])
    return jnp.broadcast_to(jnp.asarray(number, like.dtype), like.shape)


def whole_image(rule: str, x: ArrayLike) -> tuple[Array, Windows]:
    """x and the one window that is the whole image.

    >>> whole_image("global_max_pool", jnp.zeros((2, 5, 3)))[1].window
    (5,)
    """
    x = images(rule, x)
    size = x.shape[1:-1]
    return x, Windows.of(rule, size, size, size, "VALID")
