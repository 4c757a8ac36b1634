"""Softmax and its logarithm, with gradients that stay accurate where one element has it all."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import floating
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Function, Key


def largest(x: Array, axis: int) -> Array:
    """The maximum along the axis, which stays; 0 for a row of -∞, where -∞ - (-∞) would be NaN.

    >>> largest(jnp.array([[1.0, 3.0], [-jnp.inf, -jnp.inf]]), -1)
    Array([[3.],
           [0.]], dtype=float32)
    """
    m = jnp.max(x, axis, keepdims=True, initial=-jnp.inf)
    return jnp.where(m == -jnp.inf, 0, m)


def exp_difference(x: Array, m: Array) -> Array:
    """exp(x - m), with the digits that x - m loses.

    A difference near 100 is rounded by up to 4e-6 in float32, and exp of it is off by 64 units in
    the last place. But the rounding error r is a number that five more additions give exactly
    (Knuth, The art of computer programming, vol. 2, 4.2.2, theorem B): with d the rounded
    difference, x - m = d + r, and exp(d + r) is exp(d) (1 + r) but for r². The derivative is all in
    d: that of r is 0. In the example the truth is 1.7724852e-28.

    >>> x, m = jnp.array(0.1), jnp.array(64.0)
    >>> float(jnp.exp(x - m)), float(exp_difference(x, m))
    (1.772482439033155e-28, 1.77248520755745e-28)
    """
    d = x - m
    rest = d - x  # -m, but for rounding
    r = (x - (d - rest)) - (m + rest)
    r = jax.lax.stop_gradient(jnp.where(jnp.abs(d) < jnp.inf, r, 0))
    return jnp.exp(d) * (1 + r)  # exp(d) r alone might be flushed to 0


def _top(p: Array, axis: int) -> tuple[Array, Array]:
    """Where p is largest along the axis, and at how many places; nowhere in a row of zeros."""
    top = (p == jnp.max(p, axis, keepdims=True, initial=0)) & (p > 0)
    return top, jnp.maximum(jnp.sum(top, axis, keepdims=True, dtype=p.dtype), 1)


def _checked(name: str, x: ArrayLike, axis: int) -> Array:
    (x,) = floating(name, x=x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"{name}: axis must be between {-x.ndim} and {x.ndim - 1}, found {axis}"
            if x.ndim
            else f"{name}: x must have at least one axis, found a scalar"
        )
    return x


@rule
def softmax(x: ArrayLike, *, axis: int = -1) -> Array:
    r"""Softmax along an axis, y_i = exp x_i / Σ_j exp x_j.

    Shapes: x, y (...); axis is a static number.

    Derivation: ∂y_i/∂x_k = y_i ([i = k] - y_k), so
        dx_i = y_i (dy_i - Σ_j y_j dy_j).
    As Σ_j y_j = 1, the same number c may be taken off every dy_j:
        dx_i = y_i (h_i - Σ_j y_j h_j) with h_j = dy_j - c.
    With c = dy_m for an element m with y_m > 1/2, h_m = 0: where y_m is 1 but for rounding, dx_m
    is then the sum over the small ones, and not the difference of two equal numbers, in which they
    drown. Where there is none such, c = 0: dx_i is small then where dy_m alone is not 0, and the
    shift would make it a difference of two numbers near dy_m.
    In the exponentials stand the digits that a difference of logits loses, see `exp_difference`.
    The rounding errors of the sum below the line, and of the division by it, are common to the
    row: the backward pass takes them off, as Σ y - 1 shows them.
    Kept for the backward pass: y alone, in the dtype of x.
    An element -∞ (masked) has y = 0 and dx = 0. A row of -∞ only gives zeros, and zero gradient,
    where jax.nn.softmax gives NaN. A row with +∞ or NaN is NaN. There are no kinks.

    Earns its place in accuracy: logits (20, 0) have the gradient ±2.06e-9, autodiff gives
    (0, 2.06e-9) in float32. For a cotangent of one class, and logits of any spread, 99.9 % of the
    elements are within 4 units in the last place, where logits near 100 cost autodiff 64. It keeps
    one array of the size of x, and autodiff two.

    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs,
    1990, for the derivative; the shift of dy by its value at the maximum follows from Σ dx = 0.

    Raises:
        TypeError: x is not floating point.
        ValueError: there is no such axis.

    >>> softmax(jnp.array([0.0, 0.0, -jnp.inf]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    x = _checked("softmax", x, axis)
    precise = x.astype(accumulator(x))
    # Softmax does not depend on the shift, so that it takes no part in the derivative.
    e = jnp.exp(precise - jax.lax.stop_gradient(largest(precise, axis)))
    total = jnp.sum(e, axis, keepdims=True)
    return (e / jnp.where(total == 0, 1, total)).astype(x.dtype)  # 0 in a row of -inf


def softmax_forward(x: Array, *, axis: int) -> tuple[Array, Array]:
    x = _checked("softmax", x, axis)
    precise = x.astype(accumulator(x))
    e = exp_difference(precise, jax.lax.stop_gradient(largest(precise, axis)))
    total = jnp.sum(e, axis, keepdims=True)
    y = (e / jnp.where(total == 0, 1, total)).astype(x.dtype)  # 0 in a row of -inf
    return y, y


def softmax_backward(y: Array, dy: Array, *, axis: int) -> tuple[Array]:
    p, g = y.astype(accumulator(y)), dy.astype(accumulator(y))
    p = p - p * jax.lax.stop_gradient(_excess(p, axis))
    h = g - jnp.sum(jnp.where(p > 0.5, g, 0), axis, keepdims=True)
    return ((p * (h - jnp.sum(p * h, axis, keepdims=True))).astype(dy.dtype),)


def _excess(p: Array, axis: int) -> Array:
    """By how much the sum of p, which should be 1, is larger."""
    # Multiples of 2^-12 add up exactly, and what is left over is small.
    coarse = jnp.round(p * 2**12) / 2**12
    return (jnp.sum(coarse, axis, keepdims=True) - 1) + jnp.sum(p - coarse, axis, keepdims=True)


softmax.defvjp(softmax_forward, softmax_backward)


def _sums_to_zero(axis: int) -> dict[str, Function]:
    # Positive and negative parts, so that the comparison has a scale.
    def law(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        dx = cotangents[0]
        return jnp.sum(jnp.maximum(dx, 0), axis), jnp.sum(jnp.maximum(-dx, 0), axis)

    return {"dx sums to zero": law}


def _softmax_cases(key: Key) -> Iterator[Case]:
    infinity = jnp.inf
    yield Case("rows", (2 * normal(key, (7, 5)),), laws=_sums_to_zero(-1))
    yield Case("first axis", (normal(key, (3, 11)),), {"axis": 0}, laws=_sums_to_zero(0))
    yield Case("inner axis", (normal(key, (2, 5, 3)),), {"axis": 1}, laws=_sums_to_zero(1))
    yield Case("vector", (normal(key, (13,)),))
    yield Case("ties", (jnp.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 0.0]]),))
    yield Case("offset", (normal(key, (3, 5)) + 1000,))
    yield Case(
        "masked", (jnp.array([[0.5, -infinity, 1.5], [-infinity, -infinity, 3.0]]),), kinks=True
    )
    yield Case("one class", (normal(key, (3, 1)),))
    yield Case("no rows", (jnp.zeros((0, 3)),))
    yield Case("no classes", (jnp.zeros((3, 0)),))


# Tails: rows with a spread of 20 to 80, every difference exact. Here float64 loses digits too.
def _tails() -> Array:
    return jnp.array(
        [[20.0, 0.0, -3.5], [0.0, 40.0, 39.5], [-16.0, -8.0, 24.0], [0.0, 0.25, -80.0]]
    )


def _shifted_by_largest(x: Array, axis: int) -> tuple[Array, Array]:
    """x minus its largest element, which does take part in the derivative here."""
    index = jnp.argmax(x, axis, keepdims=True)
    is_first = jax.lax.broadcasted_iota(index.dtype, x.shape, axis % x.ndim) == index
    return x - jnp.sum(jnp.where(is_first, x, 0), axis, keepdims=True), is_first


@softmax.defcases
def softmax_cases(key: Key) -> Iterator[Case]:
    # As a function of the differences to the largest logit, whose own are exactly 0, automatic
    # differentiation sums the small terms and cancels nothing.
    def accurate(x: Array, *, axis: int = -1) -> Array:
        d, is_first = _shifted_by_largest(x, axis)
        rest = jnp.sum(jnp.where(is_first, 0, jnp.exp(d)), axis, keepdims=True)
        return jnp.where(is_first, 1, jnp.exp(d)) / (1 + rest)

    yield from _softmax_cases(key)
    yield Case("tail", (_tails(),), reference=accurate, laws=_sums_to_zero(-1))


@rule
def log_softmax(x: ArrayLike, *, axis: int = -1) -> Array:
    r"""Logarithm of the softmax along an axis, y_i = x_i - log Σ_j exp x_j.

    Shapes: x, y (...); axis is a static number.

    Derivation: with p = softmax(x), ∂y_i/∂x_k = [i = k] - p_k, so
        dx_i = dy_i - p_i S with S = Σ_j dy_j.
    At the largest element m, where p_m may be 1 but for rounding, take dy_m out of S: with the
    sums P = Σ_{j≠m} p_j = 1 - p_m and R = Σ_{j≠m} dy_j over the others,
        dx_m = dy_m - p_m (dy_m + R) = P dy_m - p_m R
    in which nothing cancels that is not small in truth. Where n elements are tied for the largest
    and D is the sum of their dy, n p_m = 1 - P gives dx_m = (dy_m - D/n) + P D/n - p_m R.
    Value: y_i = (x_i - x_m) - log1p(Σ_{j≠m} exp(x_j - x_m)), so that y_m keeps its digits too. In
    the exponentials, and so in p, stand the digits that x_j - x_m loses, see `exp_difference`.
    Kept for the backward pass: p in the dtype of x. Recomputed from y it would lose |y| units in
    the last place, and all digits in bfloat16.
    An element -∞ (masked) has y = -∞ and p = 0: it takes no part in the other elements, and its own
    dx_i = dy_i is 0 unless the loss uses y_i. A row of -∞ only stays -∞, with dx = dy, where
    jax.nn.log_softmax gives NaN. A row with +∞ or NaN is NaN. There are no kinks.

    Earns its place in accuracy: 1.5 units in the last place on two logits with a spread of 0 to
    30, where autodiff is off by 1.7e7.

    Source: as for softmax; the sum over the others is the usual form of 1 - p_m.

    Raises:
        TypeError: x is not floating point.
        ValueError: there is no such axis.

    >>> log_softmax(jnp.array([20.0, 0.0]))
    Array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    x = _checked("log_softmax", x, axis)
    precise = x.astype(accumulator(x))
    d = precise - jax.lax.stop_gradient(largest(precise, axis))
    total = jnp.sum(jnp.exp(d), axis, keepdims=True)
    return (d - jnp.log(jnp.where(total == 0, 1, total))).astype(x.dtype)


def log_softmax_forward(x: Array, *, axis: int) -> tuple[Array, Array]:
    x = _checked("log_softmax", x, axis)
    precise = x.astype(accumulator(x))
    # No stop_gradient here: a second derivative needs that of the shift, as d = 0 is left out.
    m = largest(precise, axis)
    d, e = precise - m, exp_difference(precise, m)
    # The largest are those with d = 0; all but one of them count among the others.
    others = jnp.sum(jnp.where(d == 0, 0, e), axis, keepdims=True)
    ties = jnp.sum(d == 0, axis, keepdims=True, dtype=d.dtype)
    others = others + jnp.maximum(ties - 1, 0)
    p = e / (1 + others)  # 0 in a row of -inf
    return (d - jnp.log1p(others)).astype(x.dtype), p.astype(x.dtype)


def log_softmax_backward(p: Array, dy: Array, *, axis: int) -> tuple[Array]:
    p, g = p.astype(accumulator(p)), dy.astype(accumulator(p))
    top, ties = _top(p, axis)

    def total(a: Array) -> Array:
        return jnp.sum(a, axis, keepdims=True)

    others_p, others_g = total(jnp.where(top, 0, p)), total(jnp.where(top, 0, g))
    mean_top = total(jnp.where(top, g, 0)) / ties
    at_top = (g - mean_top) + others_p * mean_top - p * others_g
    elsewhere = g - p * (ties * mean_top + others_g)
    return (jnp.where(top, at_top, elsewhere).astype(dy.dtype),)


log_softmax.defvjp(log_softmax_forward, log_softmax_backward)


@log_softmax.defcases
def log_softmax_cases(key: Key) -> Iterator[Case]:
    def accurate(x: Array, *, axis: int = -1) -> Array:
        d, is_first = _shifted_by_largest(x, axis)
        return d - jnp.log1p(jnp.sum(jnp.where(is_first, 0, jnp.exp(d)), axis, keepdims=True))

    yield from _softmax_cases(key)
    yield Case("tail", (_tails(),), reference=accurate, laws=_sums_to_zero(-1))
