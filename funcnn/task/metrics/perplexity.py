"""The exponential of the mean loss of a token."""

from __future__ import annotations

import math
from collections.abc import Callable

from funcnn import rules
from funcnn.task.metric import Metric, mean_of
from funcnn.types import Array


def perplexity(ignored: int | None = None) -> Metric:
    """Logits (B, ..., C), labels (B, ...) -> 1 for certainty, C for a guess.

    >>> import jax.numpy as jnp
    >>> round(perplexity().of(jnp.zeros((2, 3, 8)), jnp.zeros((2, 3), jnp.int32)), 4)
    8.0
    """
    return mean_of(cross_entropy(ignored), ignored=ignored, after=math.exp)


def cross_entropy(ignored: int | None) -> Callable[[Array, Array], Array]:
    """(logits, labels) -> the loss of each token, in nats; 0 where it is ignored.

    >>> import jax.numpy as jnp
    >>> cross_entropy(-1)(jnp.zeros((2, 8)), jnp.array([0, -1])).round(3)
    Array([2.079, 0.   ], dtype=float32)
    """

    def losses(logits: Array, labels: Array) -> Array:
        return rules.softmax_cross_entropy(logits, labels, ignored=ignored)

    return losses
