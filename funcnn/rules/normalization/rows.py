"""Normalisation of each row by its own statistics: layer norm and RMS norm.

Group and instance norm (group.py) and batch norm (batch.py) use the `Moments` below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Function, Key


class Moments(NamedTuple):
    """Three numbers for each mean that is taken: x̂ = ((x - centre) - shift) rstd.

    `centre` is the mean as it comes out of a sum, off by a few units in its last place, which at a
    mean of 10⁴ and a deviation of 1 is 10⁻³ deviations. `shift` is the mean of x - centre, which is
    small and therefore right, and puts that back. `rstd` is 1 / sqrt(variance + epsilon).
    """

    centre: Array
    shift: Array
    rstd: Array

    def standardized(self, x: Array) -> Array:
        """x̂, in the precision of the moments."""
        return (x.astype(self.rstd.dtype) - self.centre - self.shift) * self.rstd


def moments(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Moments, Array]:
    """The moments of x over the axes, which stay, and the (biased) variance.

    The variance is the mean of the squares of what is centred. The mean of x² less the square of
    the mean reads x once less, and has no digit right where the mean is 4,000 deviations.
    Source: Chan, Golub, LeVeque, Algorithms for computing the sample variance, 1983.

    >>> found, variance = moments(jnp.array([[1e6, 1e6 + 2]]), (1,), 1e-5)
    >>> found.standardized(jnp.array([[1e6, 1e6 + 2]])).round(3), variance
    (Array([[-1.,  1.]], dtype=float32), Array([[1.]], dtype=float32))
    """
    x = x.astype(accumulator(x))
    centre = jnp.mean(x, axes, keepdims=True)
    near = x - centre
    shift = jnp.mean(near, axes, keepdims=True)
    variance = jnp.mean((near - shift) ** 2, axes, keepdims=True)
    return Moments(centre, shift, jax.lax.rsqrt(variance + epsilon)), variance


def projected(g: Array, normalized: Array, axes: tuple[int, ...]) -> Array:
    """g less its parts along 1 and along x̂: g - mean(g) - x̂ mean(g x̂).

    >>> projected(jnp.array([3.0, 1.0, 2.0]), jnp.array([1.0, -1.0, 0.0]), (0,)).round(3)
    Array([ 0.333, -0.333,  0.   ], dtype=float32)
    """
    along = jnp.mean(g * normalized, axes, keepdims=True)
    return g - jnp.mean(g, axes, keepdims=True) - normalized * along


def checked(name: str, x: ArrayLike, epsilon: float, **parameters: ArrayLike) -> tuple[Array, ...]:
    """x and the parameters, one number for each element of its last axis, or one clear line.

    >>> checked("rms_norm", jnp.ones((2, 3)), 1e-6, scale=jnp.ones(2))
    Traceback (most recent call last):
    ValueError: rms_norm: scale must have shape (3,), the last axis of x, found float32[2]
    """
    x, *values = floating(name, x=x, **parameters)
    same_dtype(name, x=x, **dict(zip(parameters, values, strict=True)))
    if x.ndim == 0:
        raise ValueError(f"{name}: x must have at least one axis, found {describe(x)}")
    for label, value in zip(parameters, values, strict=True):
        if value.shape != x.shape[-1:]:
            raise ValueError(
                f"{name}: {label} must have shape ({x.shape[-1]},), the last axis of x, "
                f"found {describe(value)}"
            )
    if not epsilon > 0:
        raise ValueError(f"{name}: epsilon must be positive, found {epsilon}")
    return x, *values


def along_last(parameter: Array, x: Array) -> Array:
    """A parameter (D,) in the shape of x (..., D) and in the precision in which sums are taken.

    >>> along_last(jnp.array([1.0, 2.0]), jnp.zeros((2, 2), jnp.bfloat16)).dtype
    dtype('float32')
    """
    return jnp.broadcast_to(parameter.astype(accumulator(x)), x.shape)


def over_rows(a: Array) -> Array:
    """The sum over all axes but the last.

    >>> over_rows(jnp.ones((2, 3, 2)))
    Array([6., 6.], dtype=float32)
    """
    return jnp.sum(a, range(a.ndim - 1))


@rule
def layer_norm(x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, epsilon: float = 1e-5) -> Array:
    r"""Layer norm, y = x̂ scale + bias with x̂ = (x - mean) / sqrt(variance + epsilon), row by row.

    Shapes: x, y (..., D); scale, bias (D,); one floating-point dtype. Mean and variance (biased,
    the mean of the squares) are those of each row of D, epsilon a static number > 0.

    Derivation: with c = x - mean, r = (mean(c²) + epsilon)^(-1/2), x̂ = c r and g = dy scale,
        ∂c_i/∂x_j = [i = j] - 1/D,   ∂r/∂x_j = -r³ c_j / D   (Σ c = 0, so the mean has no share),
        dx_j = Σ_i g_i (r ∂c_i/∂x_j + c_i ∂r/∂x_j)
             = r (g_j - mean(g) - x̂_j mean(g x̂)):
    g without its parts along 1 and x̂, the directions in which y does not change; epsilon stands
    in r alone. Over all rows dscale = Σ dy x̂ and dbias = Σ dy.
    Kept for the backward pass: x, which the layer before keeps anyway, and three numbers a row (see
    `Moments`); x̂ is computed again, behind a barrier, without which XLA would keep it. Autodiff
    keeps three arrays of the size of x. Sums are taken in float32 at least.
    As epsilon > 0 there are no kinks: a constant row has x̂ = 0. A row with NaN or ∞ is NaN.

    Earns its place in memory (a third of what autodiff keeps, in a loop), and in accuracy where the
    mean is large against the deviation: the mean is corrected. In time it is a tie on a CPU.

    Source: Ba, Kiros, Hinton, Layer normalization, 2016.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: scale or bias have not the shape (D,), or epsilon is not positive.

    >>> layer_norm(jnp.array([[1.0, 3.0], [5.0, 5.0]]), jnp.ones(2), jnp.zeros(2)).round(3)
    Array([[-1.,  1.],
           [ 0.,  0.]], dtype=float32)
    """
    x, scale, bias = checked("layer_norm", x, epsilon, scale=scale, bias=bias)
    precise = x.astype(accumulator(x))
    centred = precise - jnp.mean(precise, -1, keepdims=True)
    variance = jnp.mean(centred * centred, -1, keepdims=True)  # (..., 1)
    normalized = centred * jax.lax.rsqrt(variance + epsilon)  # (..., D)
    return (normalized * along_last(scale, x) + along_last(bias, x)).astype(x.dtype)


def layer_norm_forward(
    x: Array, scale: Array, bias: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Moments, Array]]:
    x, scale, bias = checked("layer_norm", x, epsilon, scale=scale, bias=bias)
    rows, _ = moments(x, (-1,), epsilon)  # (..., 1) each
    y = rows.standardized(x) * along_last(scale, x) + along_last(bias, x)
    return y.astype(x.dtype), (x, rows, scale)


def layer_norm_backward(
    res: tuple[Array, Moments, Array], dy: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    (x, rows, scale), dy = jax.lax.optimization_barrier((res, dy))
    normalized = rows.standardized(x)  # (..., D)
    precise = dy.astype(normalized.dtype)
    g = precise * along_last(scale, x)
    dx = rows.rstd * projected(g, normalized, (-1,))
    dscale, dbias = over_rows(precise * normalized), over_rows(precise)  # (D,) each
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


layer_norm.defvjp(layer_norm_forward, layer_norm_backward)


def sums_to_zero(axes: tuple[int, ...]) -> Function:
    """The law Σ dx = 0 over the axes: y does not change where all of x is shifted.

    >>> sums_to_zero((0,))((), None, (jnp.array([1.0, -3.0, 2.0]),))
    (Array(3., dtype=float32), Array(3., dtype=float32))
    """

    def law(
        args: tuple[Array, ...], dy: Array | None, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        dx = cotangents[0]
        return jnp.sum(jnp.maximum(dx, 0), axes), jnp.sum(jnp.maximum(-dx, 0), axes)

    return law


def radial(
    args: tuple[Array, ...],
    dy: Array,
    cotangents: tuple[Array, ...],
    *,
    epsilon: float,
    centre: bool = True,
) -> tuple[Array, Array]:
    """The law Σ c dx = epsilon r³ Σ c g: y would not change where c is stretched, but for epsilon.

    >>> x, zeros = jnp.array([1.0, -1.0]), jnp.zeros(2)
    >>> radial((x, jnp.ones(2)), zeros, (zeros,), epsilon=1.0)
    (Array(0., dtype=float32), Array(0., dtype=float32))
    """
    x, scale = args[:2]
    c = x - jnp.mean(x, -1, keepdims=True) if centre else x
    r = jax.lax.rsqrt(jnp.mean(c * c, -1) + epsilon)
    along = jnp.sum(c * dy * jnp.broadcast_to(scale, dy.shape), -1)
    return jnp.sum(c * cotangents[0], -1), epsilon * r**3 * along


@layer_norm.defcases
def layer_norm_cases(key: Key) -> Iterator[Case]:
    kx, ks, kb = jax.random.split(key, 3)

    def case(
        name: str, *shape: int, offset: float = 0.0, size: float = 1.0, **static: float
    ) -> Case:
        x, width = offset + size * normal(kx, shape), shape[-1:]
        laws = {"dx sums to zero": sums_to_zero((-1,))}
        if "epsilon" in static:
            laws["c dx"] = lambda *values: radial(*values, **static)
        return Case(name, (x, normal(ks, width), normal(kb, width)), static, laws=laws)

    yield case("rows", 5, 7)
    yield case("cube", 2, 3, 11)
    yield case("vector", 13)
    yield case("large epsilon", 3, 5, epsilon=0.5)
    yield case("offset", 4, 9, offset=50.0)
    yield case("small", 3, 8, size=1e-3, epsilon=1e-5)
    yield case("one column", 3, 1)
    yield case("no rows", 0, 3)
    yield case("no columns", 3, 0)
    yield Case("constant row", (jnp.full((2, 3), 4.0), normal(ks, (3,)), normal(kb, (3,))))


@rule
def rms_norm(x: ArrayLike, scale: ArrayLike, *, epsilon: float = 1e-6) -> Array:
    r"""RMS norm, y = x̂ scale with x̂ = x / sqrt(mean(x²) + epsilon), row by row.

    Shapes: x, y (..., D); scale (D,); one floating-point dtype; epsilon a static number > 0.

    Derivation: with r = (mean(x²) + epsilon)^(-1/2), x̂ = x r and g = dy scale, ∂r/∂x_j = -r³ x_j/D,
        dx_j = r g_j + Σ_i g_i x_i ∂r/∂x_j = r (g_j - x̂_j mean(g x̂)),
    the layer norm's without its mean(g). Over all rows dscale = Σ dy x̂.
    Kept for the backward pass: x, which the layer before keeps anyway, and r, one number a row; x̂
    is computed again, behind a barrier. Autodiff keeps three arrays of the size of x. Sums are
    taken in float32 at least.
    As epsilon > 0 there are no kinks: a row of zeros has x̂ = 0. A row with NaN or ∞ is NaN.

    Earns its place in memory, a third of what autodiff keeps in a loop; in time it is a tie on a
    CPU.

    Source: Zhang, Sennrich, Root mean square layer normalization, 2019.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: scale has not the shape (D,), or epsilon is not positive.

    >>> rms_norm(jnp.array([[3.0, -3.0], [0.0, 0.0]]), jnp.ones(2)).round(3)
    Array([[ 1., -1.],
           [ 0.,  0.]], dtype=float32)
    """
    x, scale = checked("rms_norm", x, epsilon, scale=scale)
    precise = x.astype(accumulator(x))
    rstd = jax.lax.rsqrt(jnp.mean(precise * precise, -1, keepdims=True) + epsilon)  # (..., 1)
    return (precise * rstd * along_last(scale, x)).astype(x.dtype)


def rms_norm_forward(
    x: Array, scale: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    x, scale = checked("rms_norm", x, epsilon, scale=scale)
    precise = x.astype(accumulator(x))
    rstd = jax.lax.rsqrt(jnp.mean(precise * precise, -1, keepdims=True) + epsilon)  # (..., 1)
    return (precise * rstd * along_last(scale, x)).astype(x.dtype), (x, rstd, scale)


def rms_norm_backward(
    res: tuple[Array, Array, Array], dy: Array, *, epsilon: float
) -> tuple[Array, Array]:
    (x, rstd, scale), dy = jax.lax.optimization_barrier((res, dy))
    normalized = x.astype(rstd.dtype) * rstd  # (..., D)
    precise = dy.astype(rstd.dtype)
    g = precise * along_last(scale, x)
    dx = rstd * (g - normalized * jnp.mean(g * normalized, -1, keepdims=True))
    return dx.astype(x.dtype), over_rows(precise * normalized).astype(scale.dtype)


rms_norm.defvjp(rms_norm_forward, rms_norm_backward)


@rms_norm.defcases
def rms_norm_cases(key: Key) -> Iterator[Case]:
    kx, ks = jax.random.split(key)

    def case(name: str, *shape: int, size: float = 1.0, epsilon: float = 1e-6) -> Case:
        args = size * normal(kx, shape), normal(ks, shape[-1:])
        laws = {"x dx": lambda *values: radial(*values, epsilon=epsilon, centre=False)}
        return Case(name, args, {"epsilon": epsilon}, laws=laws if epsilon > 1e-3 else {})

    yield case("rows", 5, 7)
    yield case("cube", 2, 3, 11)
    yield case("vector", 13)
    yield case("large epsilon", 3, 5, epsilon=0.5)
    yield case("small", 3, 8, size=1e-3)
    # In one column dx = epsilon r³ g, what the difference of two equal numbers leaves.
    yield case("one row", 1, 5)
    yield case("no rows", 0, 3)
    yield case("no columns", 3, 0)
    yield Case("row of zeros", (jnp.zeros((2, 3)), normal(ks, (3,))))
