"""Normalisation of each image by its own statistics: group norm, and instance norm, its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.normalization.rows import (
    Moments,
    along_last,
    checked,
    moments,
    over_rows,
    projected,
    sums_to_zero,
)
from funcnn.rules.shared.arguments import describe
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Function, Key, Shape

_WITHIN = (1, 3)  # the axes of (N, P, G, C / G) over which one group's mean is taken


def _checked(
    name: str, x: ArrayLike, scale: ArrayLike, bias: ArrayLike, groups: int | None, epsilon: float
) -> tuple[Array, Array, Array, Shape]:
    """x, scale, bias, and the shape (N, pixels, groups, channels of a group) of x."""
    x, scale, bias = checked(name, x, epsilon, scale=scale, bias=bias)
    if x.ndim < 2:
        raise ValueError(f"{name}: x must have shape (N, ..., C), found {describe(x)}")
    channels = x.shape[-1]
    count: int = channels if groups is None else groups
    if channels and (count < 1 or channels % count):
        raise ValueError(f"{name}: {channels} channels cannot be divided into {count} groups")
    inside = channels // count if channels else 0
    return x, scale, bias, (x.shape[0], math.prod(x.shape[1:-1]), count, inside)


def _reference(x: Array, scale: Array, bias: Array, shape: Shape, epsilon: float) -> Array:
    precise = x.astype(accumulator(x)).reshape(shape)  # (N, P, G, C / G)
    centred = precise - jnp.mean(precise, _WITHIN, keepdims=True)
    variance = jnp.mean(centred * centred, _WITHIN, keepdims=True)  # (N, 1, G, 1)
    normalized = (centred * jax.lax.rsqrt(variance + epsilon)).reshape(x.shape)
    return (normalized * along_last(scale, x) + along_last(bias, x)).astype(x.dtype)


def _forward(
    x: Array, scale: Array, bias: Array, shape: Shape, epsilon: float
) -> tuple[Array, tuple[Array, Moments, Array]]:
    rows, _ = moments(x.reshape(shape), _WITHIN, epsilon)  # (N, 1, G, 1) each
    normalized = rows.standardized(x.reshape(shape)).reshape(x.shape)
    y = normalized * along_last(scale, x) + along_last(bias, x)
    return y.astype(x.dtype), (x, rows, scale)


def _backward(
    res: tuple[Array, Moments, Array], dy: Array, groups: int
) -> tuple[Array, Array, Array]:
    (x, rows, scale), dy = jax.lax.optimization_barrier((res, dy))
    shape = x.shape[0], math.prod(x.shape[1:-1]), groups, scale.size // groups if groups else 0
    normalized = rows.standardized(x.reshape(shape))  # (N, P, G, C / G)
    precise = dy.astype(normalized.dtype)
    g = (precise * along_last(scale, x)).reshape(shape)
    dx = (rows.rstd * projected(g, normalized, _WITHIN)).reshape(x.shape)
    dscale, dbias = over_rows(precise * normalized.reshape(x.shape)), over_rows(precise)  # (C,)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


@rule
def group_norm(
    x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, groups: int, epsilon: float = 1e-5
) -> Array:
    r"""Group norm, y = x̂ scale + bias, with the mean and variance of each image's channel groups.

    Shapes: x, y (N, ..., C); scale, bias (C,); one floating-point dtype. C is divided into `groups`
    runs of neighbours; x̂ = (x - mean) / sqrt(variance + epsilon), each mean over the pixels and
    channels of one image's group. groups and epsilon > 0 are static.

    Derivation: as `layer_norm`, a row being one image's group: with g = dy scale,
        dx = r (g - mean(g) - x̂ mean(g x̂)),
    and dscale = Σ dy x̂, dbias = Σ dy over images and pixels.
    Kept for the backward pass: x, which the layer before keeps anyway, and three numbers for each
    image and group; x̂ is computed again, behind a barrier. Autodiff keeps three arrays of the size
    of x. Sums are taken in float32 at least.
    As epsilon > 0 there are no kinks: a constant group has x̂ = 0. A group with NaN or ∞ is NaN.

    Earns its place in memory and in accuracy at a large mean, as layer_norm.

    Source: Wu, He, Group normalization, 2018.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes do not fit, groups do not divide C, or epsilon is not positive.

    >>> x = jnp.array([[1.0, 3.0, 50.0, 40.0]])
    >>> group_norm(x, jnp.ones(4), jnp.zeros(4), groups=2).round(3)
    Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    x, scale, bias, shape = _checked("group_norm", x, scale, bias, groups, epsilon)
    return _reference(x, scale, bias, shape, epsilon)


def group_norm_forward(
    x: Array, scale: Array, bias: Array, *, groups: int, epsilon: float
) -> tuple[Array, tuple[Array, Moments, Array]]:
    x, scale, bias, shape = _checked("group_norm", x, scale, bias, groups, epsilon)
    return _forward(x, scale, bias, shape, epsilon)


def group_norm_backward(
    res: tuple[Array, Moments, Array], dy: Array, *, groups: int, epsilon: float
) -> tuple[Array, Array, Array]:
    return _backward(res, dy, groups)


group_norm.defvjp(group_norm_forward, group_norm_backward)


def _case(
    key: Key,
    name: str,
    *shape: int,
    offset: float = 0.0,
    law: Function | None = None,
    **static: float,
) -> Case:
    kx, ks, kb = jax.random.split(key, 3)
    x, scale, bias = normal(kx, shape) + offset, normal(ks, shape[-1:]), normal(kb, shape[-1:])
    return Case(name, (x, scale, bias), static, laws={"dx sums to zero": law} if law else {})


@group_norm.defcases
def group_norm_cases(key: Key) -> Iterator[Case]:
    def grouped(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        dx = cotangents[0]
        parts = dx.reshape(dx.shape[0], -1, 2, dx.shape[-1] // 2)
        return sums_to_zero(_WITHIN)(args, dy, (parts,))

    yield _case(key, "images", 2, 3, 2, 6, groups=2, law=grouped)
    yield _case(key, "1-D", 3, 5, 4, groups=2, law=grouped)
    yield _case(key, "rows", 3, 8, groups=2, law=grouped)
    yield _case(key, "one group", 2, 3, 5, groups=1, law=sums_to_zero((1, 2)))
    yield _case(key, "a group a channel", 2, 5, 3, groups=3, law=sums_to_zero((1,)))
    yield _case(key, "offset", 2, 5, 4, groups=2, offset=50.0, law=grouped)
    yield _case(key, "large epsilon", 2, 3, 4, groups=2, epsilon=0.5, law=grouped)
    yield _case(key, "one element", 1, 1, 1, groups=1)
    yield _case(key, "no images", 0, 3, 4, groups=2)
    yield _case(key, "no pixels", 2, 0, 4, groups=2)


@rule
def instance_norm(
    x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, epsilon: float = 1e-5
) -> Array:
    r"""Instance norm, y = x̂ scale + bias, with the mean and variance of each image's channel.

    Shapes: x, y (N, ..., C); scale, bias (C,); one floating-point dtype; epsilon > 0 is static.

    Derivation: `group_norm` with as many groups as channels, its means over the pixels alone:
        dx = r (g - mean(g) - x̂ mean(g x̂)) with g = dy scale,   dscale = Σ dy x̂,   dbias = Σ dy.
    Kept for the backward pass: x, and three numbers for each image and channel; x̂ is computed
    again, behind a barrier. Autodiff keeps three arrays of the size of x.
    As epsilon > 0 there are no kinks: a constant channel has x̂ = 0. A channel with NaN or ∞ is NaN.

    Earns its place in memory and in accuracy at a large mean, as layer_norm.

    Source: Ulyanov, Vedaldi, Lempitsky, Instance normalization, 2016.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes do not fit, or epsilon is not positive.

    >>> x = jnp.array([[[1.0, 50.0], [3.0, 40.0]]])
    >>> instance_norm(x, jnp.ones(2), jnp.zeros(2)).round(3)
    Array([[[-1.,  1.],
            [ 1., -1.]]], dtype=float32)
    """
    x, scale, bias, shape = _checked("instance_norm", x, scale, bias, None, epsilon)
    return _reference(x, scale, bias, shape, epsilon)


def instance_norm_forward(
    x: Array, scale: Array, bias: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Moments, Array]]:
    x, scale, bias, shape = _checked("instance_norm", x, scale, bias, None, epsilon)
    return _forward(x, scale, bias, shape, epsilon)


def instance_norm_backward(
    res: tuple[Array, Moments, Array], dy: Array, *, epsilon: float
) -> tuple[Array, Array, Array]:
    return _backward(res, dy, groups=dy.shape[-1])


instance_norm.defvjp(instance_norm_forward, instance_norm_backward)


@instance_norm.defcases
def instance_norm_cases(key: Key) -> Iterator[Case]:
    law = sums_to_zero((1,))
    yield _case(key, "images", 2, 3, 4, 3, law=None)
    yield _case(key, "1-D", 3, 7, 4, law=law)
    yield _case(key, "offset", 2, 5, 4, offset=50.0, law=law)
    yield _case(key, "large epsilon", 2, 5, 3, epsilon=0.5, law=law)
    yield _case(key, "one element", 1, 1, 1)
    yield _case(key, "no images", 0, 3, 4)
    yield _case(key, "no channels", 2, 3, 0)
