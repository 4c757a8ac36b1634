"""The negative logarithm of the probability that the softmax gives the right class."""

from __future__ import annotations

from funcnn import rules
from funcnn.types import Array


def softmax_cross_entropy(
    logits: Array, labels: Array, smoothing: float = 0.0, ignored: int | None = None
) -> Array:
    """Logits (B, ..., C), labels (B, ...) -> (B, ...): `fnn.rules.softmax_cross_entropy`.

    >>> import jax.numpy as jnp
    >>> softmax_cross_entropy(jnp.array([[20.0, 0.0]]), jnp.array([0])).round(3)
    Array([0.], dtype=float32)
    """
    return rules.softmax_cross_entropy(logits, labels, smoothing=smoothing, ignored=ignored)
