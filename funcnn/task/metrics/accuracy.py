"""The share of labels that the largest logit is at."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.task.metric import Metric, mean_of
from funcnn.types import Array


def accuracy(ignored: int | None = None) -> Metric:
    """Logits (B, ..., C), labels (B, ...) -> the share of right ones, from 0 to 1.

    >>> accuracy().of(jnp.array([[2.0, 1.0], [3.0, 0.0]]), jnp.array([0, 1]))
    0.5
    """

    def right(logits: Array, labels: Array) -> Array:
        return (jnp.argmax(logits, -1) == labels).astype(logits.dtype)

    return mean_of(right, ignored=ignored, higher_is_better=True)
