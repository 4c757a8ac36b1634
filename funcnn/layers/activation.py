"""Activations as layers: constants where they have no options, constructors where they have."""

from __future__ import annotations

from funcnn import rules
from funcnn.core.layer import Layer, constructor, layer_from_rule
from funcnn.core.usage import as_integer, number

sigmoid = layer_from_rule(rules.sigmoid)
tanh = layer_from_rule(rules.tanh)
relu = layer_from_rule(rules.relu)
softplus = layer_from_rule(rules.softplus)
silu = layer_from_rule(rules.silu)


@constructor
def leaky_relu(slope: float = 0.01) -> Layer:
    """x where it is positive, slope * x elsewhere.

    >>> import jax.numpy as jnp
    >>> leaky_relu(0.5)({}, jnp.array([-2.0, 2.0]))
    Array([-1.,  2.], dtype=float32)
    """
    number("leaky_relu", "slope", slope)
    return layer_from_rule(rules.leaky_relu, slope=slope)


@constructor
def elu(alpha: float = 1.0) -> Layer:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere.

    >>> import jax.numpy as jnp
    >>> elu()({}, jnp.array([0.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """
    number("elu", "alpha", alpha)
    return layer_from_rule(rules.elu, alpha=alpha)


@constructor
def gelu(approximate: bool = True) -> Layer:
    """x times the normal distribution function of x; in the tanh form where `approximate`.

    >>> import jax.numpy as jnp
    >>> gelu()({}, jnp.array([0.0, 20.0]))
    Array([ 0., 20.], dtype=float32)
    """
    return layer_from_rule(rules.gelu, approximate=approximate)


@constructor
def softmax(axis: int = -1) -> Layer:
    """exp(x) over its sum along `axis`.

    >>> import jax.numpy as jnp
    >>> softmax()({}, jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """
    return layer_from_rule(rules.softmax, axis=_axis("softmax", axis))


@constructor
def log_softmax(axis: int = -1) -> Layer:
    """The logarithm of softmax along `axis`.

    >>> import jax.numpy as jnp
    >>> log_softmax()({}, jnp.zeros(1))
    Array([0.], dtype=float32)
    """
    return layer_from_rule(rules.log_softmax, axis=_axis("log_softmax", axis))


def _axis(layer: str, axis: object) -> int:
    number = as_integer(axis)
    if number is None:
        raise ValueError(f"{layer}: axis is an integer, found {axis!r}")
    return number
