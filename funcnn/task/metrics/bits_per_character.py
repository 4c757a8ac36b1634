"""The mean loss of a token in bits: of a character, where tokens are characters or bytes."""

from __future__ import annotations

import math

from funcnn.task.metric import Metric, mean_of
from funcnn.task.metrics.perplexity import cross_entropy


def bits_per_character(ignored: int | None = None) -> Metric:
    """Logits (B, ..., C), labels (B, ...) -> 0 for certainty, log2 C for a guess.

    >>> import jax.numpy as jnp
    >>> round(bits_per_character().of(jnp.zeros((2, 3, 8)), jnp.zeros((2, 3), jnp.int32)), 4)
    3.0
    """
    return mean_of(cross_entropy(ignored), ignored=ignored, after=lambda nats: nats / math.log(2))
