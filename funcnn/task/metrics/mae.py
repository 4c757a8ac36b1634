"""The mean absolute error."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.task.metric import Metric, mean_of
from funcnn.task.metrics.mse import aligned


def mae() -> Metric:
    """Outputs and targets of one shape (B, ...) -> the mean over all numbers.

    >>> mae().of(jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [0.0]]))
    1.5
    """
    return mean_of(lambda outputs, targets: jnp.abs(aligned(outputs, targets)[0] - targets))
