"""The squared distance from 1 at the right class and 0 at all others."""

from __future__ import annotations

import jax

from funcnn import rules
from funcnn.types import Array


def squared_error(logits: Array, labels: Array) -> Array:
    """As `fnn.rules.squared_error`.

    >>> import jax.numpy as jnp
    >>> squared_error(jnp.array([[1.0, 2.0]]), jnp.array([0]))
    Array([2.], dtype=float32)
    """
    return rules.squared_error(logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))
