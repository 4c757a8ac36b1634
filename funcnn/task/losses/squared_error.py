"""The squared distance from numbers, or from 1 at the right class and 0 at all others."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.types import Array


def squared_error(outputs: Array, targets: Array) -> Array:
    """`fnn.rules.squared_error` of the last axis: a sum over it, (B, ...) for targets (B, ...).

    >>> squared_error(jnp.array([[1.0, 2.0]]), jnp.array([0]))
    Array([2.], dtype=float32)
    >>> squared_error(jnp.array([[3.0]]), jnp.array([1.0]))
    Array([2.], dtype=float32)
    """
    return rules.squared_error(*in_shape(outputs, targets))


def in_shape(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Both in one shape: labels become rows of zeros with a 1, numbers get the axis that they lack.

    >>> in_shape(jnp.zeros((2, 3)), jnp.array([2, 0]))[1].tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    >>> [each.shape for each in in_shape(jnp.zeros((2, 1)), jnp.array([2.0, 0.5]))]
    [(2, 1), (2, 1)]
    """
    is_label = jnp.issubdtype(targets.dtype, jnp.integer) and outputs.ndim == targets.ndim + 1
    if is_label:
        return outputs, jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    if targets.ndim == 1:  # a number a row
        outputs, targets = outputs.reshape(-1, 1), targets[:, None]  # (B, 1)
    return outputs, targets.astype(outputs.dtype)
