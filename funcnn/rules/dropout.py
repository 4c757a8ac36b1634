"""Dropout: a random mask in training; in evaluation the caller leaves it out."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import describe, floating
from funcnn.rules.shared.case_data import normal
from funcnn.types import Array, ArrayLike, Key, PyTree, Shape


@rule
def dropout(x: ArrayLike, key: Key, *, rate: float) -> Array:
    r"""Inverted dropout: each element is 0 with probability rate, else x / (1 - rate).

    Shapes: x, y (...); key a typed PRNG key; rate (static) in [0, 1).

    Derivation: y = s m x with the mask m of zeros and ones and s = 1 / (1 - rate), so that the
    expectation of y is x. The mask does not depend on x, so dx = s m dy. The key has no cotangent.
    The mask compares 32 random bits, drawn for the shape alone, with rate · 2³²: in every dtype of
    x the same key drops the same elements (`jax.random.bernoulli` draws its bits for a dtype), so
    that the float64 truth of a network with dropout is the truth of the same network.
    A dropped element is 0 also where x is NaN or infinite. There are no kinks. With rate 0, y = x.
    Kept for the backward pass: the mask, one byte an element. To draw it anew costs 10 ns an
    element on a CPU, more than the rest of the backward pass.

    Earns its place by teaching; autodiff keeps the same mask.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout, 2014.

    Raises:
        TypeError: x is not floating point, or key no single typed key.
        ValueError: rate is outside [0, 1).

    >>> y = dropout(jnp.ones(1000), jax.random.key(0), rate=0.25)
    >>> sorted({round(float(v), 4) for v in y}), round(float(y.mean()), 1)
    ([0.0, 1.3333], 1.0)
    """
    (x,) = floating("dropout", x=x)
    _check(key, rate)
    if rate == 0:
        return x
    return jnp.where(_mask(key, x.shape, rate), x * _scale(rate), 0)


def dropout_forward(x: Array, key: Key, *, rate: float) -> tuple[Array, Array | None]:
    (x,) = floating("dropout", x=x)
    _check(key, rate)
    if rate == 0:
        return x, None
    mask = _mask(key, x.shape, rate)
    return jnp.where(mask, x * _scale(rate), 0), mask


def dropout_backward(mask: Array | None, dy: Array, *, rate: float) -> tuple[Array, None]:
    if mask is None:
        return dy, None
    return jnp.where(mask, dy * _scale(rate), 0), None


def _scale(rate: float) -> float:
    return 1 / (1 - rate)


def _mask(key: Key, shape: Shape, rate: float) -> Array:
    """True where the element stays."""
    threshold = min(round(rate * 2**32), 2**32 - 1)
    return jax.random.bits(key, shape, jnp.uint32) >= jnp.uint32(threshold)


def _check(key: Key, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(
            f"dropout: rate is the probability of dropping, at least 0 and below 1, found {rate}"
        )
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        given = describe(key) if hasattr(key, "dtype") else type(key).__name__
        raise TypeError(f"dropout: key must be a typed key, jax.random.key(seed), found {given}")
    if key.shape != ():
        raise TypeError(f"dropout: key must be one key, found keys of shape {key.shape}")


dropout.defvjp(dropout_forward, dropout_backward)


@dropout.defcases
def dropout_cases(key: Key) -> Iterator[Case]:
    kx, km = jax.random.split(key)

    # Linear in x: both sides are Σ s m x dy.
    def euler(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        y = dropout.reference(*args, rate=0.5)
        return jnp.sum(args[0] * cotangents[0]), jnp.sum(y * dy)

    yield Case("half", (normal(kx, (7, 5)), km), {"rate": 0.5}, laws={"sum x dx = sum y dy": euler})
    yield Case("cube", (normal(kx, (2, 3, 11)), km), {"rate": 0.1})
    yield Case("nothing dropped", (normal(kx, (3, 5)), km), {"rate": 0.0})
    yield Case("nearly all dropped", (normal(kx, (7, 11)), km), {"rate": 0.97})
    yield Case("size one", (normal(kx, (1,)), km), {"rate": 0.25})
    yield Case("empty", (jnp.zeros((0, 3)), km), {"rate": 0.5})
