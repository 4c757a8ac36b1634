"""The logistic loss of each class against all others, summed."""

from __future__ import annotations

import jax

from funcnn import rules
from funcnn.types import Array


def logistic(logits: Array, labels: Array) -> Array:
    """The sum of `fnn.rules.logistic` over the classes.

    >>> import jax.numpy as jnp
    >>> logistic(jnp.array([[20.0, -20.0]]), jnp.array([0])).round(3)
    Array([0.], dtype=float32)
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)  # (B, C)
    return rules.logistic(logits, targets).sum(-1)
