"""Activations that act on each element alone, with a kink or with two saturated ends.

Those that multiply x by a gate (silu, gelu) stand in gate.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import floating
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator, tanh_slope
from funcnn.types import Array, ArrayLike, Function, Key


def times(dy: Array, slope: Array) -> Array:
    """The cotangent dy * slope, multiplied in the precision of the slope and rounded once.

    >>> times(jnp.ones(2, jnp.bfloat16), jnp.array([0.5, 2.0])).dtype
    dtype(bfloat16)
    """
    return (dy.astype(slope.dtype) * slope).astype(dy.dtype)


def pointwise_cases(key: Key, **static: Hashable) -> Iterator[Case]:
    """The shapes on which every activation is checked; each adds its own tails and kinks."""
    yield Case("normal", (2 * normal(key, (5, 7)),), static)
    yield Case("cube", (normal(key, (2, 3, 11)),), static)
    yield Case("scalar", (jnp.array(0.75),), static)
    yield Case("size one", (jnp.array([-1.25]),), static)
    yield Case("empty", (jnp.zeros((0, 3)),), static)


@rule
def relu(x: ArrayLike) -> Array:
    r"""Rectified linear unit, y = max(0, x).

    Shapes: x, y (...).

    Derivation: dy/dx is 1 where x > 0 and 0 where x < 0, so dx = dy [y > 0].
    At the kink x = 0 the subgradient 0 is taken, as jax.nn.relu does; `jnp.maximum(x, 0)` would
    give 0.5 there. NaN stays NaN, and lets dy through.
    Kept for the backward pass: y alone, which the next layer keeps anyway; autodiff keeps a
    one-byte mask beside it.

    Earns its place by teaching: XLA makes the same program of both.

    Source: Nair, Hinton, Rectified linear units improve restricted Boltzmann machines, 2010.

    >>> relu(jnp.array([-1.0, 0.0, 2.0]))
    Array([0., 0., 2.], dtype=float32)
    """
    (x,) = floating("relu", x=x)
    return jnp.where(x <= 0, 0, x)


def relu_forward(x: Array) -> tuple[Array, Array]:
    y = relu.reference(x)
    return y, y


def relu_backward(y: Array, dy: Array) -> tuple[Array]:
    return (jnp.where(y <= 0, 0, dy),)


relu.defvjp(relu_forward, relu_backward)


# relu and leaky_relu are positively homogeneous: x dx = y dy, element by element.
def _homogeneous(slope: float) -> dict[str, Function]:
    def law(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        (x,) = args
        return jnp.sum(x * cotangents[0]), jnp.sum(jnp.where(x > 0, x, slope * x) * dy)

    return {"sum x dx = sum y dy": law}


@relu.defcases
def relu_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    yield Case("law", (normal(key, (3, 13)),), laws=_homogeneous(0.0))
    yield Case("kink", (jnp.array([[-1.0, -0.0, 0.0], [0.0, 1.0, 2.0]]),), kinks=True)
    yield Case("large", (jnp.array([-1e30, 1e30, 1e-30]),), kinks=True)


@rule
def leaky_relu(x: ArrayLike, *, slope: float = 0.01) -> Array:
    r"""Leaky rectified linear unit, y = x where x ≥ 0 and slope · x elsewhere.

    Shapes: x, y (...); slope is a static number.

    Derivation: dy/dx is 1 where x > 0 and slope where x < 0, so dx = dy or slope · dy.
    At the kink x = 0 the derivative 1 is taken, as jax.nn.leaky_relu does. NaN stays NaN.
    Kept for the backward pass: the mask x ≥ 0, one byte an element. The sign of y would not do:
    it says nothing for a slope ≤ 0, and slope · x underflows to 0 before x does.

    Earns its place by teaching: autodiff keeps the same mask.

    Source: Maas, Hannun, Ng, Rectifier nonlinearities improve neural network acoustic models, 2013.

    >>> leaky_relu(jnp.array([-1.0, 0.0, 2.0]), slope=0.5)
    Array([-0.5,  0. ,  2. ], dtype=float32)
    """
    (x,) = floating("leaky_relu", x=x)
    return jnp.where(x >= 0, x, slope * x)


def leaky_relu_forward(x: Array, *, slope: float) -> tuple[Array, Array]:
    return leaky_relu.reference(x, slope=slope), x >= 0


def leaky_relu_backward(positive: Array, dy: Array, *, slope: float) -> tuple[Array]:
    return (jnp.where(positive, dy, slope * dy),)


leaky_relu.defvjp(leaky_relu_forward, leaky_relu_backward)


@leaky_relu.defcases
def leaky_relu_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    yield from (Case(f"slope {s}", (normal(key, (3, 5)),), {"slope": s}) for s in (-1, 0))
    yield Case("law", (normal(key, (3, 13)),), {"slope": 0.25}, laws=_homogeneous(0.25))
    yield Case("kink", (jnp.array([[-1.0, -0.0, 0.0], [0.0, 1.0, 2.0]]),), kinks=True)


@rule
def elu(x: ArrayLike, *, alpha: float = 1.0) -> Array:
    r"""Exponential linear unit, y = x where x > 0 and alpha (eˣ - 1) elsewhere.

    Shapes: x, y (...); alpha is a static number.

    Derivation: dy/dx is 1 where x > 0 and alpha eˣ elsewhere, so dx = dy or alpha eˣ dy.
    At x = 0 the derivative alpha is taken, as jax.nn.elu does; for alpha = 1 there is no kink.
    NaN stays NaN; y(-∞) = -alpha with derivative 0.
    Kept for the backward pass: x. From y the derivative is y + alpha, which is how autodiff takes
    it (as expm1 + 1), and which is exactly 0 in float32 below x = -17.4, where eˣ is 3e-8.

    Earns its place in the left tail: the derivative is exact to the last place there.

    Source: Clevert, Unterthiner, Hochreiter, Fast and accurate deep network learning by
    exponential linear units, 2015.

    >>> elu(jnp.array([-jnp.inf, 0.0, 2.0]))
    Array([-1.,  0.,  2.], dtype=float32)
    """
    (x,) = floating("elu", x=x)
    # The inner where keeps e^x from overflowing on the branch that is not taken.
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x)))


def elu_forward(x: Array, *, alpha: float) -> tuple[Array, Array]:
    return elu.reference(x, alpha=alpha), x


def elu_backward(x: Array, dy: Array, *, alpha: float) -> tuple[Array]:
    x = x.astype(accumulator(x))
    return (times(dy, jnp.where(x > 0, 1, alpha * jnp.exp(jnp.where(x > 0, 0, x)))),)


elu.defvjp(elu_forward, elu_backward)


@elu.defcases
def elu_cases(key: Key) -> Iterator[Case]:
    def accurate(x: Array, *, alpha: float = 1.0) -> Array:
        return jnp.where(x > 0, x, alpha * (jnp.exp(jnp.where(x > 0, 0, x)) - 1))

    yield from pointwise_cases(key)
    yield Case("alpha", (normal(key, (3, 13)),), {"alpha": 0.3})
    yield Case("kink", (jnp.array([[-1.0, 0.0, 1.0]]),), {"alpha": 0.3}, kinks=True)
    yield Case("tail", (jnp.array([-80.0, -40.0, -20.0, -17.0, 90.0]),), reference=accurate)


@rule
def softplus(x: ArrayLike) -> Array:
    r"""Softplus, y = log(1 + eˣ), a smooth relu.

    Shapes: x, y (...).

    Derivation: dy/dx = eˣ / (1 + eˣ) = σ(x), and eʸ = 1 + eˣ gives it from the output:
        σ(x) = (eʸ - 1) / eʸ = 1 - e⁻ʸ = -expm1(-y)
    which loses nothing at either end, as y → 0 on the left and e⁻ʸ → 0 on the right. So
    dx = -expm1(-y) dy. No kinks; y(-∞) = 0, y(∞) = ∞, with the derivatives 0 and 1; NaN stays NaN.
    Kept for the backward pass: y alone, which the next layer keeps anyway.

    Earns its place in loops, where autodiff keeps two arrays; unrolled, XLA does as well.

    Source: Dugas et al., Incorporating second-order functional knowledge for better option
    pricing, 2000.

    >>> softplus(jnp.array([-jnp.inf, 0.0, 100.0]))
    Array([  0.       ,   0.6931472, 100.       ], dtype=float32)
    """
    (x,) = floating("softplus", x=x)
    magnitude = jnp.where(x >= 0, x, -x)
    return jnp.where(x >= 0, x, 0) + jnp.log1p(jnp.exp(-magnitude))


def softplus_forward(x: Array) -> tuple[Array, Array]:
    y = softplus.reference(x)
    return y, y


def softplus_backward(y: Array, dy: Array) -> tuple[Array]:
    return (times(dy, -jnp.expm1(-y.astype(accumulator(y)))),)


softplus.defvjp(softplus_forward, softplus_backward)


@softplus.defcases
def softplus_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    yield Case("tail", (jnp.array([-80.0, -40.0, -20.0, 0.0, 20.0, 40.0, 90.0]),))


@rule
def sigmoid(x: ArrayLike) -> Array:
    r"""Logistic sigmoid, y = σ(x) = 1 / (1 + e⁻ˣ).

    Shapes: x, y (...).

    Derivation: dy/dx = e⁻ˣ / (1 + e⁻ˣ)² = σ(x) σ(-x), an even function of x, so with e = e^(-|x|)
        dx = dy e / (1 + e)²
    which cannot overflow. No kinks; σ(±∞) = 1 and 0 with derivative 0; NaN stays NaN.
    Kept for the backward pass: x. The textbook's y (1 - y), which autodiff uses, needs only y but
    is exactly 0 in float32 above x = 17.4, where the truth is 3e-8 (in bfloat16 above 6.3).

    Earns its place in the right tail, for one exponential more in the backward pass.

    Source: LeCun, Bottou, Orr, Müller, Efficient BackProp, 1998, 4.4, on saturation.

    >>> sigmoid(jnp.array([-jnp.inf, 0.0, 100.0]))
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    (x,) = floating("sigmoid", x=x)
    return jax.lax.logistic(x)


def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    return sigmoid.reference(x), x


def sigmoid_backward(x: Array, dy: Array) -> tuple[Array]:
    e = jnp.exp(-jnp.abs(x.astype(accumulator(x))))
    return (times(dy, e / (1 + e) ** 2),)


sigmoid.defvjp(sigmoid_forward, sigmoid_backward)


@sigmoid.defcases
def sigmoid_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    tail = jnp.array([-80.0, -40.0, -20.0, 17.0, 20.0, 40.0, 80.0])
    yield Case("tail", (tail,), reference=lambda x: 1 / (1 + jnp.exp(-x)))


@rule
def tanh(x: ArrayLike) -> Array:
    r"""Hyperbolic tangent, y = tanh x = 2 σ(2x) - 1.

    Shapes: x, y (...).

    Derivation: dy/dx = 1 / cosh² x = 4 σ(2x) σ(-2x), an even function of x, so with e = e^(-2|x|)
        dx = dy 4 e / (1 + e)²
    which cannot overflow. No kinks; tanh(±∞) = ±1 with derivative 0; NaN stays NaN.
    Kept for the backward pass: x. The textbook's 1 - y², which autodiff uses, needs only y, which a
    next layer keeps anyway, but is exactly 0 in float32 above x = 9.1, where the truth is 5e-8.

    Earns its place in both tails, for one exponential more in the backward pass.

    Source: LeCun, Bottou, Orr, Müller, Efficient BackProp, 1998, 4.4, on saturation.

    >>> tanh(jnp.array([-jnp.inf, 0.0, 100.0]))
    Array([-1.,  0.,  1.], dtype=float32)
    """
    (x,) = floating("tanh", x=x)
    return jnp.tanh(x)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    return tanh.reference(x), x


def tanh_backward(x: Array, dy: Array) -> tuple[Array]:
    return (times(dy, tanh_slope(x.astype(accumulator(x)))),)


tanh.defvjp(tanh_forward, tanh_backward)


@tanh.defcases
def tanh_cases(key: Key) -> Iterator[Case]:
    yield from pointwise_cases(key)
    tail = jnp.array([-40.0, -20.0, -9.5, 9.5, 20.0, 40.0])
    yield Case("tail", (tail,), reference=lambda x: 2 / (1 + jnp.exp(-2 * x)) - 1)
