"""The linear map, the operation in which a network spends its time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator, contract
from funcnn.types import Array, ArrayLike, Key, PyTree


@rule
def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    r"""Linear map, y = x w + b: the lecture's z = θᵀ x + θ₀ for rows x.

    Shapes: x (..., D), w (D, K), b (K,) or None, y (..., K); one floating-point dtype.

    Derivation: with one row n of all leading axes together, y[n,k] = Σ_d x[n,d] w[d,k] + b[k], so
        dx[n,d] = Σ_k dy[n,k] ∂y[n,k]/∂x[n,d] = Σ_k dy[n,k] w[d,k]    dx = dy wᵀ
        dw[d,k] = Σ_n x[n,d] dy[n,k]                                  dw = xᵀ dy
        db[k]   = Σ_n dy[n,k]
    each one matrix product or sum over all rows at once, accumulated in float32 at least.
    Kept for the backward pass: x and w, as autodiff does. There are no kinks; NaN goes through.

    Earns its place by teaching: in float32 XLA makes the same two products out of autodiff. In
    bfloat16 the bias is added before the sum is rounded, and db is accumulated in float32.

    Source: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, 1986.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes do not fit.

    >>> linear(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]]))
    Array([1., 2., 5.], dtype=float32)
    """
    x, w, b = _checked(x, w, b)
    y = x @ w  # (..., K)
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def linear_forward(
    x: Array, w: Array, b: Array | None
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    x, w, b = _checked(x, w, b)
    y = jnp.matmul(x, w, preferred_element_type=accumulator(x))  # (..., K)
    if b is not None:
        y = y + jnp.broadcast_to(b, y.shape).astype(y.dtype)
    # b is here for its dtype and because None has no cotangent; the caller keeps it anyway.
    return y.astype(x.dtype), (x, w, b)


def linear_backward(
    res: tuple[Array, Array, Array | None], dy: Array
) -> tuple[Array, Array, Array | None]:
    x, w, b = res
    depth, width = w.shape
    rows = math.prod(x.shape[:-1])
    x_rows, dy_rows = x.reshape(rows, depth), dy.reshape(rows, width)  # (N, D), (N, K)
    dx = contract(dy, w, dy.ndim - 1, 1).astype(x.dtype)  # (..., D)
    dw = contract(x_rows, dy_rows, 0, 0).astype(w.dtype)  # (D, K)
    if b is None:
        return dx, dw, None
    return dx, dw, jnp.sum(dy_rows, axis=0, dtype=accumulator(dy)).astype(b.dtype)  # (K,)


def _checked(x: ArrayLike, w: ArrayLike, b: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    x, w = floating("linear", x=x, w=w)
    if b is not None:
        (b,) = floating("linear", b=b)
    same_dtype("linear", x=x, w=w, b=b)
    if w.ndim != 2:
        raise ValueError(f"linear: w must have shape (D, K), found {describe(w)}")
    if x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"linear: the last axis of x must have the {w.shape[0]} rows of w, "
            f"found x {describe(x)} and w {describe(w)}"
        )
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(
            f"linear: b must have shape ({w.shape[1]},) as w {describe(w)} has {w.shape[1]} "
            f"columns, found {describe(b)}"
        )
    return x, w, b


linear.defvjp(linear_forward, linear_backward)


@linear.defcases
def linear_cases(key: Key) -> Iterator[Case]:
    kx, kw, kb = jax.random.split(key, 3)
    w, b = normal(kw, (5, 3)), normal(kb, (3,))

    # Linear in w for fixed x and the other way round: both sides are Σ dy (x w).
    def euler(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[1] * cotangents[1])

    laws = {"sum x dx = sum w dw": euler}
    yield Case("rows", (normal(kx, (7, 5)), w, b), laws=laws)
    yield Case("two leading axes", (normal(kx, (2, 11, 5)), w, b), laws=laws)
    yield Case("vector", (normal(kx, (5,)), w, b), laws=laws)
    yield Case("no bias", (normal(kx, (7, 5)), w), laws=laws)
    yield Case("size one", (normal(kx, (1, 1)), normal(kw, (1, 1)), normal(kb, (1,))), laws=laws)
    yield Case("large mean", (normal(kx, (13, 5)) + 100, w, b), laws=laws)
    yield Case("no rows", (jnp.zeros((0, 5)), w, b))
    yield Case("no inputs", (jnp.zeros((7, 0)), jnp.zeros((0, 3)), b))
    yield Case("no outputs", (normal(kx, (7, 5)), jnp.zeros((5, 0)), jnp.zeros(0)))
