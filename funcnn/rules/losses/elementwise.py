"""Losses, one value a row; the cost is their mean, which the caller takes."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.losses.weighing import checked_weights, counted, weighed, weights_of
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.case_data import normal, uniform
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, Residuals


@rule
def squared_error(y: ArrayLike, target: ArrayLike) -> Array:
    r"""Half the squared distance of each row, l = ½ Σ_d (y_d - t_d)².

    Shapes: y, target (..., D), one floating-point dtype; l (...).

    Derivation: ∂l/∂y_d = y_d - t_d = -∂l/∂t_d, so with the residual r = y - t
        dy_d = dl r_d and dt_d = -dl r_d,
    which is why the half is there. It is the sum of optax.l2_loss over the last axis. No kinks;
    NaN stays NaN in its row.
    Kept for the backward pass: r alone, as autodiff does.

    Earns its place by teaching: XLA makes the same program of autodiff.

    Source: Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes differ, or there is no axis.

    >>> squared_error(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 0.0], [3.0, 3.0]]))
    Array([2. , 0.5], dtype=float32)
    """
    y, target = _same_shape(y, target)
    r = y - target
    return 0.5 * jnp.sum(r * r, -1)  # (...)


def squared_error_forward(y: Array, target: Array) -> tuple[Array, Array]:
    y, target = _same_shape(y, target)
    r = y - target
    precise = r.astype(accumulator(r))
    return (0.5 * jnp.sum(precise * precise, -1)).astype(y.dtype), r  # (...)


def squared_error_backward(r: Array, dl: Array) -> tuple[Array, Array]:
    dy = r * dl[..., None]  # (..., D)
    return dy, -dy


def _same_shape(y: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    y, target = floating("squared_error", y=y, target=target)
    same_dtype("squared_error", y=y, target=target)
    if y.ndim == 0 or y.shape != target.shape:
        raise ValueError(
            "squared_error: y and target must have one shape (..., D), "
            f"found {describe(y)} and {describe(target)}"
        )
    return y, target


squared_error.defvjp(squared_error_forward, squared_error_backward)


@squared_error.defcases
def squared_error_cases(key: Key) -> Iterator[Case]:
    def opposite(
        args: tuple[Array, ...], dl: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        return cotangents[0], -cotangents[1]

    def case(name: str, *shape: int, offset: float = 0.0) -> Case:
        ky, kt = jax.random.split(key)
        y, target = (normal(k, shape) + offset for k in (ky, kt))
        return Case(name, (y, target), laws={"dy = -dt": opposite})

    yield case("rows", 7, 3)
    yield case("cube", 2, 5, 3)
    yield case("vector", 11)
    yield case("offset", 5, 3, offset=100.0)
    yield case("size one", 1, 1)
    yield case("no rows", 0, 3)
    yield case("no columns", 3, 0)


@rule
def logistic(
    z: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None, *, ignored: int | None = None
) -> Array:
    r"""Binary cross entropy from the logit, l = v (-t log σ(z) - (1 - t) log σ(-z)).

    Shapes: z, target, l (...); z floating point; target in [0, 1], floating point, or 0 and 1 as
    integers or bools; weights v (...) floating point, or None for 1. Where an integer target is
    `ignored`, l is 0, without gradient, and z may be anything.

    Derivation, with v = 1: log σ(z) = -softplus(-z), so l = softplus(z) - t z; with |z| taken out
        l = (1 - t) |z| + log1p(e^(-|z|)) where z ≥ 0,   t |z| + log1p(e^(-|z|)) elsewhere,
    a sum of numbers ≥ 0, in which nothing cancels. The derivative of softplus is σ, so
        dz = dl (σ(z) - t) = dl ((1 - t) σ(z) - t σ(-z)),   dt = -dl z.
    The second form of dz is exact for t = 1 also where σ(z) is 1 but for rounding. Both of σ(±z)
    follow from e^(-|z|). As l is linear in v, dz and dt are v times these, and dv = dl l/v, the
    loss without its weight. An integer or bool target has no cotangent. No kinks: the branches of l
    meet smoothly. At ±∞ the loss is its limit, 0 or ∞; NaN stays NaN.
    Kept for the backward pass: z and target, and with weights v and l/v; autodiff keeps three
    arrays more.

    Earns its place in loops by what it keeps, and in accuracy against σ(z) - t and against the
    derivative of softplus(z) - t z, which are exactly 0 in float32 from z = 18 on; autodiff of the
    form of l above, or of optax.sigmoid_binary_cross_entropy, is accurate too.

    Source: Cox, The regression analysis of binary sequences, 1958.

    Raises:
        TypeError: z or weights are not floating point, or target no number.
        ValueError: the shapes differ; ignored is no integer, or the targets are none.

    >>> logistic(jnp.array([0.0, 20.0, 20.0]), jnp.array([1, 1, 0]))
    Array([6.9314718e-01, 2.0611537e-09, 2.0000000e+01], dtype=float32)
    """
    z, target, weights = _logit_and_target(z, target, weights)
    mask = counted("logistic", target, ignored)
    if mask is not None:  # else the derivative where z is NaN would be NaN times 0
        z, target = jnp.where(mask, z, 0), jnp.where(mask, target, 0)
    t = target.astype(z.dtype)
    magnitude = jnp.where(z >= 0, z, -z)
    loss = jnp.where(z >= 0, 1 - t, t) * magnitude + jnp.log1p(jnp.exp(-magnitude))
    return weighed(loss, weights, mask)[0]


def logistic_forward(
    z: Array, target: Array, weights: Array | None, *, ignored: int | None
) -> tuple[Array, Residuals]:
    z, target, weights = _logit_and_target(z, target, weights)
    mask = counted("logistic", target, ignored)
    precise = z.astype(accumulator(z))
    t = target.astype(precise.dtype)
    magnitude = jnp.where(precise >= 0, precise, -precise)
    weight = jnp.where(precise >= 0, 1 - t, t)
    # 0 · ∞ is 0 here: a sure answer that is right costs nothing.
    loss = jnp.where(weight == 0, 0, weight * magnitude) + jnp.log1p(jnp.exp(-magnitude))
    l, of_weights = weighed(loss, weights, mask)
    return l.astype(z.dtype), (z, target, of_weights)


def logistic_backward(
    res: Residuals, dl: Array, *, ignored: int | None
) -> tuple[Array, Array | None, Array | None]:
    z, target, of_weights = res
    mask = counted("logistic", target, ignored)
    precise = z.astype(accumulator(z))
    g, dv = weights_of(dl.astype(accumulator(z)), of_weights)
    t = target.astype(precise.dtype)
    e = jnp.exp(-jnp.abs(precise))
    larger, smaller = 1 / (1 + e), e / (1 + e)
    right = precise >= 0
    slope = (1 - t) * jnp.where(right, larger, smaller) - t * jnp.where(right, smaller, larger)
    dz = (g * slope).astype(z.dtype)
    dz = dz if mask is None else jnp.where(mask, dz, 0)
    if not jnp.issubdtype(target.dtype, jnp.floating):
        return dz, None, dv
    return dz, (-precise * g).astype(target.dtype), dv


def _logit_and_target(
    z: ArrayLike, target: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    (z,), target = floating("logistic", z=z), jnp.asarray(target)
    if jnp.issubdtype(target.dtype, jnp.complexfloating):
        raise TypeError(f"logistic: target must be real, found {describe(target)}")
    if z.shape != target.shape:
        raise ValueError(
            "logistic: z and target must have one shape, one logit a row, "
            f"found {describe(z)} and {describe(target)}"
        )
    return z, target, checked_weights("logistic", weights, "z", z)


logistic.defvjp(logistic_forward, logistic_backward)


@logistic.defcases
def logistic_cases(key: Key) -> Iterator[Case]:
    kz, kt = jax.random.split(key)
    yield Case("soft targets", (2 * normal(kz, (7, 3)), uniform(kt, (7, 3))))
    yield Case("integers", (normal(kz, (11,)), (uniform(kt, (11,)) < 0.5).astype(int)))
    yield Case("bools", (normal(kz, (2, 5)), uniform(kt, (2, 5)) < 0.5))
    some = (3 * uniform(kt, (11,))).astype(int)
    yield Case("weights", (normal(kz, (7, 3)), uniform(kt, (7, 3)), uniform(kz, (7, 3))))
    yield Case("ignored, weights", (normal(kz, (11,)), some, uniform(kz, (11,))), {"ignored": 2})
    yield Case("size one", (jnp.array([0.75]), jnp.array([0.5])))
    yield Case("zero logit", (jnp.zeros(3), jnp.array([0.0, 0.25, 1.0])))
    yield Case("scalar", (jnp.array(0.5), jnp.array(1.0)))
    yield Case("empty", (jnp.zeros((0, 3)), jnp.zeros((0, 3))))
    z = jnp.array([-80.0, -40.0, -17.0, 17.0, 40.0, 80.0])
    for t in (0.0, 1.0):
        yield Case(f"tail of {t:.0f}", (z, jnp.full(6, t)))
