"""The share of labels that are among the k largest logits."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.core.usage import is_positive_integer
from funcnn.task.metric import Metric, mean_of
from funcnn.types import Array


def top_k(k: int = 5, ignored: int | None = None) -> Metric:
    """Logits (B, ..., C), labels (B, ...) -> the share from 0 to 1. A tie counts as above it.

    Raises ValueError for k below 1.

    >>> logits, labels = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), jnp.array([1, 2])
    >>> top_k(2).of(logits, labels), top_k(3).of(logits, labels)
    (0.5, 1.0)
    """
    if not is_positive_integer(k):
        raise ValueError(f"top_k: k must be an integer from 1 on, found {k!r}")

    def among(logits: Array, labels: Array) -> Array:
        place = jnp.clip(labels, 0, logits.shape[-1] - 1)[..., None]
        of_label = jnp.take_along_axis(logits, place, axis=-1)  # (B, ..., 1)
        above = jnp.sum(logits >= of_label, axis=-1)  # itself among them
        return (above <= k).astype(logits.dtype)

    return mean_of(among, ignored=ignored, higher_is_better=True)
