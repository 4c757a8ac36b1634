"""Where a query and a key stand: rotary positions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import describe, floating
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, PyTree


@rule
def rotary(x: ArrayLike, positions: ArrayLike | None = None, *, base: float = 10000.0) -> Array:
    r"""Rotary positions: each pair (x_i, x_{i+W/2}) is turned by the angle position · base^(-2i/W).

    Shapes: x, y (B, T, heads, W), W even, floating point; positions (B or 1, T) integers, or None
    for 0, 1, 2, ...; base a static number > 1.

    Derivation: with the angle a, c = cos a and s = sin a, a pair (u, v) becomes (u c - v s,
    v c + u s). A product q · k of two that are turned so depends on the difference of their
    positions alone. The map is linear in x and a rotation, whose transpose is its inverse: dx is dy
    turned by -a. There are no kinks, NaN goes through; the sum of squares of dx
    is that of dy.
    Angles, cosines and sines are taken in float32 at least, whatever the dtype of x: at position
    1,000 bfloat16 does not know the angle.
    Kept for the backward pass: the positions, if any. Autodiff keeps the cosines and the sines.

    Earns its place in loops, where what autodiff keeps is stacked; unrolled it does what XLA does.

    Source: Su et al., RoFormer, 2021; pairs of halves as in GPT-NeoX and Llama.

    Raises:
        TypeError: x is not floating point, or the positions no integers.
        ValueError: x has not four axes, W is odd, the positions do not fit, or base is at most 1.

    >>> x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    >>> rotary(jnp.tile(x, (1, 2, 1, 1)))[0, :, 0].round(3)  # cos t, sin t
    Array([[1.   , 0.   ],
           [0.54 , 0.841]], dtype=float32)
    """
    x, positions = _checked(x, positions, base)
    return _turned(x, positions, base, 1)


def rotary_forward(x: Array, positions: Array | None, *, base: float) -> tuple[Array, Array | None]:
    x, positions = _checked(x, positions, base)
    return _turned(x, positions, base, 1), positions


def rotary_backward(positions: Array | None, dy: Array, *, base: float) -> tuple[Array, None]:
    return _turned(dy, positions, base, -1), None


def _turned(x: Array, positions: Array | None, base: float, sign: int) -> Array:
    precise, half = accumulator(x), x.shape[-1] // 2
    t = jnp.arange(x.shape[1])[None] if positions is None else positions  # (B or 1, T)
    frequency = jnp.exp(jnp.arange(half, dtype=precise) * (-math.log(base) / max(half, 1)))
    angle = t.astype(precise)[:, :, None, None] * frequency[None, None, None]  # (B or 1, T, 1, W/2)
    c, s = jnp.cos(angle), sign * jnp.sin(angle)
    u, v = jnp.split(x.astype(precise), 2, -1)  # with the batch open a slice would be a gather
    return jnp.concatenate([u * c - v * s, v * c + u * s], -1).astype(x.dtype)


def _checked(x: ArrayLike, positions: ArrayLike | None, base: float) -> tuple[Array, Array | None]:
    (x,) = floating("rotary", x=x)
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ValueError(f"rotary: x has shape (B, T, heads, W) with W even, found {describe(x)}")
    if not 1 < base < math.inf:
        raise ValueError(f"rotary: base is a number above 1, found {base}")
    if positions is None:
        return x, None
    positions = jnp.asarray(positions)
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise TypeError(f"rotary: positions are integers, found {describe(positions)}")
    if positions.ndim != 2 or positions.shape[1] != x.shape[1]:
        raise ValueError(
            f"rotary: positions have shape (B or 1, {x.shape[1]}), found {describe(positions)}"
        )
    if positions.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"rotary: x has {x.shape[0]} samples, positions {positions.shape[0]}; give one row "
            "for each, or one for all"
        )
    return x, positions


rotary.defvjp(rotary_forward, rotary_backward)


@rotary.defcases
def rotary_cases(key: Key) -> Iterator[Case]:
    # A rotation: dx is as long as dy, and x · dx is y · dy.
    def isometry(
        args: tuple[PyTree, ...], dy: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        return jnp.sum(cotangents[0] ** 2, -1), jnp.sum(dy**2, -1)

    laws = {"dx is as long as dy": isometry}
    x = normal(key, (2, 5, 3, 6))
    yield Case("in order", (x,), laws=laws)
    yield Case("positions", (x, jnp.array([[0, 1, 2, 3, 4], [7, 5, 300, 0, 0]])), laws=laws)
    yield Case("one row of positions", (x, jnp.array([[3, 4, 5, 6, 7]])), {"base": 50.0}, laws=laws)
    yield Case("narrow positions", (x[:, :1], jnp.array([[200], [3]], jnp.uint8)), laws=laws)
    yield Case("size one", (normal(key, (1, 1, 1, 2)),))
    yield Case("no places", (jnp.zeros((2, 0, 3, 4)),))
    yield Case("no width", (jnp.zeros((2, 3, 1, 0)),))
