"""Activations that multiply x by a smooth gate between 0 and 1, silu and gelu; and units of two.

They are not monotone, so that their derivative does not follow from the output: x is kept. In
swiglu and geglu the gate has an input of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.activation import pointwise_cases, times
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, PyTree


def _finite_below(x: Array) -> Array:
    """x, with the lowest finite number for -∞: the gate is 0 for both, and -∞ · 0 is NaN."""
    return jnp.where(x == -jnp.inf, float(jnp.finfo(x.dtype).min), x)


@rule
def silu(x: ArrayLike) -> Array:
    r"""Sigmoid-weighted linear unit, y = x σ(x), also called swish.

    Shapes: x, y (...).

    Derivation: by the product rule, and as σ' = σ(x) σ(-x),
        dy/dx = σ(x) + x σ(x) σ(-x) = σ(x) (1 + x σ(-x))
    so dx = σ(x) (1 + x σ(-x)) dy. No kinks; y(-∞) = 0 with derivative 0, y(∞) = ∞ with derivative
    1, where jax.nn.silu gives NaN. NaN stays NaN.
    Kept for the backward pass: x alone; autodiff keeps x, σ(x) and 1 - σ(x).

    Earns its place in loops, where all that is kept is stacked; unrolled, XLA does as well.

    Source: Elfwing, Uchibe, Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2017.

    >>> silu(jnp.array([-jnp.inf, 0.0, 100.0]))
    Array([ -0.,   0., 100.], dtype=float32)
    """
    (x,) = floating("silu", x=x)
    x = _finite_below(x)
    return x * jax.lax.logistic(x)


def silu_forward(x: Array) -> tuple[Array, Array]:
    return silu.reference(x), x


def silu_backward(x: Array, dy: Array) -> tuple[Array]:
    # At 1000 the derivative is 0 or 1 in every dtype; beyond, infinity times 0 would be NaN.
    x = jnp.clip(x.astype(accumulator(x)), -1000, 1000)
    return (times(dy, jax.lax.logistic(x) * (1 + x * jax.lax.logistic(-x))),)


silu.defvjp(silu_forward, silu_backward)


@silu.defcases
def silu_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    yield Case("tail", (jnp.array([-80.0, -40.0, -20.0, 20.0, 40.0, 80.0, 1e20]),))


@rule
def gelu(x: ArrayLike, *, approximate: bool = True) -> Array:
    r"""Gaussian error linear unit, y = x Φ(x), with Φ the normal distribution function.

    Shapes: x, y (...); `approximate` (static) chooses the tanh form, as in jax.nn.gelu.

    Derivation: dy/dx = Φ(x) + x Φ'(x), with
    - the erf form, Φ(x) = erfc(-x/√2) / 2 and Φ'(x) = exp(-x²/2) / √(2π);
    - the tanh form, Φ(x) = (1 + tanh u) / 2 = σ(2u) with u = √(2/π) (x + 0.044715 x³), and
      Φ'(x) = 2 u' σ(2u) σ(-2u) with u' = √(2/π) (1 + 3 · 0.044715 x²). σ(2u) is accurate in the
      left tail, where 1 + tanh u cancels.
    So dx = (Φ + x Φ') dy. No kinks; y(-∞) = 0 with derivative 0, y(∞) = ∞ with derivative 1, and
    ±1e20 likewise, where autodiff of the tanh form gives NaN as x³ overflows. NaN stays NaN.
    Kept for the backward pass: x alone; autodiff keeps 5 arrays of the tanh form, 3 of the other.

    Earns its place in loops, where all that is kept is stacked (2.6 times less memory in scanned
    layers); unrolled, XLA does as well.

    Source: Hendrycks, Gimpel, Gaussian error linear units, 2016.

    >>> gelu(jnp.array([-jnp.inf, 0.0, 100.0]))
    Array([ -0.,   0., 100.], dtype=float32)
    """
    (x,) = floating("gelu", x=x)
    precise = _finite_below(x.astype(accumulator(x)))
    return (precise * _distribution(precise, approximate)).astype(x.dtype)


def _distribution(x: Array, approximate: bool) -> Array:
    if approximate:
        return jax.lax.logistic(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * jax.lax.erfc(-math.sqrt(0.5) * x)


def _density(x: Array, approximate: bool) -> Array:
    if approximate:
        # σ(-2u) = 1 - σ(2u), without the cancellation, as u is odd in x.
        both = _distribution(x, True) * _distribution(-x, True)
        return 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2) * both
    return jnp.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def gelu_forward(x: Array, *, approximate: bool) -> tuple[Array, Array]:
    return gelu.reference(x, approximate=approximate), x


def gelu_backward(x: Array, dy: Array, *, approximate: bool) -> tuple[Array]:
    # At 50 the derivative is 0 or 1 in every dtype; beyond, x³ overflows and times 0 is NaN.
    x = jnp.clip(x.astype(accumulator(x)), -50, 50)
    return (times(dy, _distribution(x, approximate) + x * _density(x, approximate)),)


gelu.defvjp(gelu_forward, gelu_backward)


@gelu.defcases
def gelu_cases(key: Key) -> Iterator[Case]:
    tail = jnp.array([-8.0, -5.0, 5.0, 8.0, 1e20])
    for approximate in (True, False):
        yield from pointwise_cases(key, approximate=approximate)
        yield Case("tail", (tail,), {"approximate": approximate})


@rule
def swiglu(x: ArrayLike, gate: ArrayLike) -> Array:
    r"""A unit with a gate, y = x silu(gate).

    Shapes: x, gate, y (...), one floating-point dtype.

    Derivation: the product rule: dx = silu(gate) dy, dgate = x silu'(gate) dy, with silu and silu'
    from `silu`. No kinks. A gate of -∞ is shut: y = 0 unless x is infinite or NaN.
    Kept for the backward pass: x and gate; autodiff keeps those, silu(gate), σ and 1 - σ.

    Earns its place in loops, where all that is kept is stacked; unrolled, XLA does as well.

    Source: Shazeer, GLU variants improve transformer, 2020.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes differ.

    >>> swiglu(jnp.array([2.0, 2.0]), jnp.array([0.0, 100.0]))
    Array([  0., 200.], dtype=float32)
    """
    x, gate = _pair("swiglu", x, gate)
    return x * silu.reference(gate)


def swiglu_forward(x: Array, gate: Array) -> tuple[Array, tuple[Array, Array]]:
    return swiglu.reference(x, gate), (x, gate)


def swiglu_backward(res: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, gate = res
    y, kept = silu.forward(gate)
    (dgate,) = silu.backward(kept, times(dy, x))
    return times(dy, y), dgate


swiglu.defvjp(swiglu_forward, swiglu_backward)


@rule
def geglu(x: ArrayLike, gate: ArrayLike, *, approximate: bool = True) -> Array:
    r"""A unit with a gate, y = x gelu(gate).

    Shapes: x, gate, y (...), one floating-point dtype; `approximate` as in `gelu`.

    Derivation: the product rule: dx = gelu(gate) dy, dgate = x gelu'(gate) dy, with gelu and gelu'
    from `gelu`. No kinks. A gate of -∞ is shut: y = 0 unless x is infinite or NaN.
    Kept for the backward pass: x and gate; autodiff keeps what it keeps for `gelu` besides.

    Earns its place in loops, where all that is kept is stacked; unrolled, XLA does as well.

    Source: Shazeer, GLU variants improve transformer, 2020.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes differ.

    >>> geglu(jnp.array([2.0, 2.0]), jnp.array([0.0, 100.0]))
    Array([  0., 200.], dtype=float32)
    """
    x, gate = _pair("geglu", x, gate)
    return x * gelu.reference(gate, approximate=approximate)


def geglu_forward(x: Array, gate: Array, *, approximate: bool) -> tuple[Array, tuple[Array, Array]]:
    return geglu.reference(x, gate, approximate=approximate), (x, gate)


def geglu_backward(
    res: tuple[Array, Array], dy: Array, *, approximate: bool
) -> tuple[Array, Array]:
    x, gate = res
    y, kept = gelu.forward(gate, approximate=approximate)
    (dgate,) = gelu.backward(kept, times(dy, x), approximate=approximate)
    return times(dy, y), dgate


geglu.defvjp(geglu_forward, geglu_backward)


def _pair(name: str, x: ArrayLike, gate: ArrayLike) -> tuple[Array, Array]:
    x, gate = floating(name, x=x, gate=gate)
    same_dtype(name, x=x, gate=gate)
    if x.shape != gate.shape:
        raise ValueError(
            f"{name}: x and gate have one shape, found {describe(x)} and {describe(gate)}"
        )
    return x, gate


# Linear in x: both sides are Σ y dy.
def _euler(
    args: tuple[PyTree, ...], dy: Array, cotangents: tuple[PyTree, ...]
) -> tuple[Array, Array]:
    return jnp.sum(args[0] * cotangents[0]), jnp.sum(swiglu.reference(*args) * dy)


def _pair_cases(key: Key, tail: Array, **static: bool) -> Iterator[Case]:
    kx, kg = jax.random.split(key)
    for name, shape in {"rows": (5, 7), "one": (1,), "scalar": (), "nothing": (0, 3)}.items():
        yield Case(name, (normal(kx, shape), normal(kg, shape)), static)
    yield Case("tail", (tail[::-1] / 3, tail), static)


@swiglu.defcases
def swiglu_cases(key: Key) -> Iterator[Case]:
    laws = {"sum x dx = sum y dy": _euler}
    yield Case("square", (normal(key, (3, 4)), normal(key, (3, 4))), laws=laws)
    yield from _pair_cases(key, jnp.array([-80.0, -20.0, 20.0, 80.0]))


@geglu.defcases
def geglu_cases(key: Key) -> Iterator[Case]:
    for approximate in (True, False):
        yield from _pair_cases(key, jnp.array([-8.0, -5.0, 5.0, 8.0]), approximate=approximate)
