"""The mean squared error."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.task.metric import Metric, mean_of
from funcnn.types import Array


def mse() -> Metric:
    """Outputs and targets of one shape (B, ...) -> the mean over all numbers.

    >>> mse().of(jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [1.0]]))
    2.0
    """
    return mean_of(lambda outputs, targets: jnp.square(aligned(outputs, targets)[0] - targets))


def aligned(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs in the shape of the targets where they differ by a last axis of one number.

    >>> aligned(jnp.ones((3, 1)), jnp.ones(3))[0].shape
    (3,)
    """
    if outputs.shape == (*targets.shape, 1):
        outputs = outputs[..., 0]
    return outputs, targets
