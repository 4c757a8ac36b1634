"""Batch norm: by the batch's own statistics in training, by given ones in evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.normalization.rows import Moments, along_last, checked, moments, over_rows
from funcnn.rules.shared.arguments import describe
from funcnn.rules.shared.case_data import normal, uniform
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key


def _checked(x: ArrayLike, scale: ArrayLike, bias: ArrayLike, epsilon: float) -> tuple[Array, ...]:
    x, scale, bias = checked("batch_norm", x, epsilon, scale=scale, bias=bias)
    if math.prod(x.shape[:-1]) == 0 or x.ndim < 2:
        raise ValueError(
            "batch_norm: x must have shape (N, ..., C) and at least one row to take the mean of, "
            f"found {describe(x)}"
        )
    return x, scale, bias


@rule
def batch_norm(
    x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    r"""Batch norm in training, y = x̂ scale + bias with the batch's own mean and variance.

    Shapes: x, y (N, ..., C); scale, bias, mean, variance (C,); epsilon > 0 is static. Returns (y,
    mean, variance), the two over all n rows of C (images and pixels), variance biased (divided by
    n), in float32 at least; x̂ = (x - mean) / sqrt(variance + epsilon).

    Derivation: mean and variance are functions of x and differentiated as such. As in `layer_norm`,
    down a column; scale is one number there, so that r scale comes out and both means are known:
        dbias = Σ dy,   dscale = Σ dy x̂,   dx = r scale (dy - dbias/n - x̂ dscale/n).
    With cotangents of the statistics themselves, ∂mean/∂x = 1/n and ∂variance/∂x = 2 (x - mean)/n =
    2 x̂/(r n), so that dx has dmean/n + 2 x̂ dvariance/(r n) more.
    Kept for the backward pass: x, which the layer before keeps anyway, and three numbers a channel
    (see `Moments`); x̂ is computed again, behind a barrier. Autodiff keeps four arrays of the
    size of x. As epsilon > 0 there are no kinks: a constant channel has x̂ = 0. A channel with NaN
    or ∞ is NaN. In a batch that is sharded the means are those of the whole batch, as jit sees it.

    Earns its place in memory, and in accuracy where the mean is large against the deviation.

    Source: Ioffe, Szegedy, Batch normalization, 2015.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes do not fit, there is no row, or epsilon is not positive.

    >>> y, mean, variance = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1))
    >>> y.round(3).tolist(), mean.tolist(), variance.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    x, scale, bias = _checked(x, scale, bias, epsilon)
    precise, axes = x.astype(accumulator(x)), tuple(range(x.ndim - 1))
    mean = jnp.mean(precise, axes)  # (C,)
    centred = precise - along_last(mean, x)
    variance = jnp.mean(centred * centred, axes)  # (C,)
    normalized = centred * along_last(jax.lax.rsqrt(variance + epsilon), x)
    y = normalized * along_last(scale, x) + along_last(bias, x)
    return y.astype(x.dtype), mean, variance


def batch_norm_forward(
    x: Array, scale: Array, bias: Array, *, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Moments, Array]]:
    x, scale, bias = _checked(x, scale, bias, epsilon)
    columns, variance = moments(x, tuple(range(x.ndim - 1)), epsilon)  # (1, ..., C) each
    y = columns.standardized(x) * along_last(scale, x) + along_last(bias, x)
    mean, variance = (columns.centre + columns.shift).ravel(), variance.ravel()
    # A vmap over scale or bias alone must batch all outputs: of one that it leaves unbatched, JAX
    # counts the cotangent once for each element of the batch (0.10), or raises (0.12).
    never, any_value = jnp.zeros_like(mean, bool), (scale + bias).astype(mean.dtype)
    mean, variance = (jax.lax.select(never, any_value, a) for a in (mean, variance))
    return (y.astype(x.dtype), mean, variance), (x, columns, scale)


def batch_norm_backward(
    res: tuple[Array, Moments, Array], cotangents: tuple[Array, Array, Array], *, epsilon: float
) -> tuple[Array, Array, Array]:
    (x, columns, scale), (dy, dmean, dvariance) = jax.lax.optimization_barrier((res, cotangents))
    rows = math.prod(x.shape[:-1])
    normalized = columns.standardized(x)  # (N, ..., C)
    precise, rstd = dy.astype(normalized.dtype), columns.rstd.ravel()
    dscale, dbias = over_rows(precise * normalized), over_rows(precise)  # (C,) each
    slope = rstd * scale.astype(rstd.dtype)
    shift = (slope * dbias - dmean) / rows
    along = (slope * dscale - 2 * dvariance / rstd) / rows
    dx = along_last(slope, x) * precise - along_last(shift, x) - normalized * along_last(along, x)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


batch_norm.defvjp(batch_norm_forward, batch_norm_backward)


@batch_norm.defcases
def batch_norm_cases(key: Key) -> Iterator[Case]:
    kx, ks, kb = jax.random.split(key, 3)

    def summed(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        return cotangents[2], over_rows(dy)

    def case(name: str, *shape: int, offset: float = 0.0, **static: float) -> Case:
        args = offset + normal(kx, shape), normal(ks, shape[-1:]), normal(kb, shape[-1:])
        return Case(name, args, static, laws={"dbias is the sum of dy": summed})

    yield case("rows", 7, 3)
    yield case("images", 2, 3, 2, 5)
    yield case("1-D", 2, 3, 4)
    yield case("offset", 9, 4, offset=50.0)
    yield case("large epsilon", 5, 3, epsilon=0.5)
    yield case("one channel", 5, 1)
    yield case("no channels", 3, 0)
    yield Case("constant channel", (jnp.full((3, 2), 4.0), normal(ks, (2,)), normal(kb, (2,))))


@rule
def batch_norm_evaluation(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
) -> Array:
    r"""Batch norm in evaluation, y = (x - mean) scale / sqrt(variance + epsilon) + bias.

    Shapes: x, y (N, ..., C); scale, bias (C,) in the dtype of x; mean, variance (C,) in its dtype
    or a wider one, as `batch_norm` returns them; epsilon > 0 is static.

    Derivation: an affine function of each element, with r = (variance + epsilon)^(-1/2), u = (x -
    mean) r and ∂r/∂variance = -r³/2; all sums over images and pixels:
        dx = dy scale r,   dscale = Σ dy u,   dbias = Σ dy,
        dmean = -scale r Σ dy = -scale r dbias,
        dvariance = Σ dy scale (x - mean) (-r³/2)
                  = -scale r² dscale / 2,
    so that two sums give all four. The mean is taken off first: folded into the bias it would take
    the digits of x with it where it is large.
    Kept for the backward pass: x, and the parameters; autodiff keeps four arrays of the size of
    x. There are no kinks; NaN stays in its element. A row does not depend on its batch.

    Earns its place in memory in a loop; elsewhere XLA does as well with autodiff.

    Source: Ioffe, Szegedy, Batch normalization, 2015, algorithm 2.

    Raises:
        TypeError: an argument is not floating point, or the dtypes of x, scale and bias differ.
        ValueError: the shapes do not fit, or epsilon is not positive.

    >>> one = jnp.ones(1)
    >>> batch_norm_evaluation(jnp.array([[5.0]]), one, one, one, 4 * one).round().tolist()
    [[3.0]]
    """
    x, scale, bias, mean, variance = _given(x, scale, bias, mean, variance, epsilon)
    normalized = (x.astype(mean.dtype) - along_last(mean, x)) * along_last(
        jax.lax.rsqrt(variance + epsilon), x
    )
    return (normalized * along_last(scale, x) + along_last(bias, x)).astype(x.dtype)


def batch_norm_evaluation_forward(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, ...]]:
    y = batch_norm_evaluation.reference(x, scale, bias, mean, variance, epsilon=epsilon)
    return y, tuple(jnp.asarray(a) for a in (x, scale, mean, variance))


def batch_norm_evaluation_backward(
    res: tuple[Array, ...], dy: Array, *, epsilon: float
) -> tuple[Array, ...]:
    x, scale, mean, variance = res
    wide = accumulator(x)
    rstd = jax.lax.rsqrt(variance.astype(wide) + epsilon)  # (C,)
    precise, slope = dy.astype(wide), rstd * scale.astype(wide)
    normalized = (x.astype(wide) - along_last(mean, x)) * along_last(rstd, x)
    dscale, dbias = over_rows(precise * normalized), over_rows(precise)  # (C,) each
    dx = (precise * along_last(slope, x)).astype(x.dtype)
    dmean, dvariance = -slope * dbias, -slope * rstd * dscale / 2
    of_parameters = dscale.astype(scale.dtype), dbias.astype(scale.dtype)
    return dx, *of_parameters, dmean.astype(mean.dtype), dvariance.astype(variance.dtype)


def _given(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """The arguments, the statistics in the precision in which sums are taken."""
    name = "batch_norm_evaluation"
    x, scale, bias = checked(name, x, epsilon, scale=scale, bias=bias)
    wide = accumulator(x)
    low = {"mean": jnp.asarray(mean), "variance": jnp.asarray(variance)}
    for label, value in low.items():
        if value.dtype not in (wide, x.dtype) or value.shape != x.shape[-1:]:
            raise ValueError(
                f"{name}: {label} must be {wide}[{x.shape[-1]}], found {describe(value)}"
            )
    return x, scale, bias, low["mean"].astype(wide), low["variance"].astype(wide)


batch_norm_evaluation.defvjp(batch_norm_evaluation_forward, batch_norm_evaluation_backward)


@batch_norm_evaluation.defcases
def batch_norm_evaluation_cases(key: Key) -> Iterator[Case]:
    keys = jax.random.split(key, 5)

    def opposite(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        return over_rows(cotangents[0]), -cotangents[3]

    def case(name: str, *shape: int, **static: float) -> Case:
        x = normal(keys[0], shape)
        scale, bias, mean = (normal(k, shape[-1:]) for k in keys[1:4])
        args = x, scale, bias, mean, 0.25 + uniform(keys[4], shape[-1:])
        return Case(name, args, static, laws={"dmean is minus the sum of dx": opposite})

    yield case("rows", 7, 3)
    yield case("images", 2, 3, 2, 5)
    yield case("large epsilon", 5, 3, epsilon=0.5)
    yield case("one element", 1, 1)
    yield case("no rows", 0, 3)
    yield case("no channels", 3, 0)
