"""The logistic loss: of each class against all others, or of numbers from 0 to 1."""

from __future__ import annotations

from funcnn import rules
from funcnn.task.losses.squared_error import in_shape
from funcnn.types import Array


def logistic(logits: Array, targets: Array) -> Array:
    """`fnn.rules.logistic`, summed over the classes where the targets are labels.

    >>> import jax.numpy as jnp
    >>> logistic(jnp.array([[20.0, -20.0]]), jnp.array([0])).round(3)
    Array([0.], dtype=float32)
    >>> logistic(jnp.array([[20.0, 0.0]]), jnp.array([[1.0, 1.0]])).round(3)
    Array([[0.   , 0.693]], dtype=float32)
    """
    each = rules.logistic(*in_shape(logits, targets))  # (B, ..., C)
    return each if each.ndim == targets.ndim else each.sum(-1)
