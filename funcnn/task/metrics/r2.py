"""The coefficient of determination: how much of the targets' variance the outputs explain."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from funcnn.task.metric import Metric
from funcnn.task.metrics.mse import aligned
from funcnn.types import Array


def r2() -> Metric:
    """Outputs and targets of one shape (B, ...) -> 1 for equal ones, 0 for their mean.

    That of scikit-learn, `r2_score`.

    >>> targets = jnp.array([1.0, 2.0, 3.0])
    >>> r2().of(targets, targets), r2().of(jnp.full(3, 2.0), targets)
    (1.0, 0.0)
    """
    return Metric(_both, _of_all, higher_is_better=True)


def _both(outputs: Array, targets: Array) -> Array:
    each = [v.reshape(v.shape[0], -1) for v in aligned(outputs, targets)]
    return jnp.stack(each, axis=1)  # (B, 2, K)


def _of_all(rows: np.ndarray) -> float:
    from sklearn.metrics import r2_score

    outputs, targets = rows.astype(np.float64).transpose(1, 0, 2)
    return float(r2_score(targets, outputs)) if len(rows) > 1 else float("nan")
