"""What a metric is: what each row gives to it, and the figure of all rows together.

The rows of a whole split are collected, and the figure is taken of them once: it cannot depend on
how they were cut into batches, be it a mean or the area under a curve. What is a mean is summed in
float64.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import Array, PyTree

# (outputs, targets) -> (B, ...), or (B, 2) of sums and counts for a mean; the leading axis is rows.
Rows = Callable[[PyTree, Array], Array]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure of a split.

    Attributes:
        rows: (outputs of the model, targets) -> (B, ...), compiled.
        value: (N, ...) of all rows, in NumPy -> the figure.
        is_mean: whether rows are (B, 2), sums and counts, and the figure is their quotient: such a
            metric is shown in training, too.
        higher_is_better: which of two runs is the better one.

    >>> from funcnn.task.metrics.accuracy import accuracy
    >>> outputs, labels = jnp.array([[2.0, 1.0], [3.0, 0.0]]), jnp.array([0, 1])
    >>> accuracy().of(outputs, labels)
    0.5
    """

    rows: Rows
    value: Callable[[np.ndarray], float]
    is_mean: bool = False
    higher_is_better: bool = False

    def of(self, outputs: PyTree, targets: Array) -> float:
        """The figure of these rows alone."""
        return self.value(np.asarray(self.rows(outputs, targets)))


def mean_of(
    numbers: Callable[[PyTree, Array], Array],
    *,
    ignored: int | None = None,
    higher_is_better: bool = False,
    after: Callable[[float], float] | None = None,
) -> Metric:
    """The mean of the numbers that `numbers(outputs, targets)` gives, (B, ...), over all of them.

    Args:
        numbers: a row may have several, one a token or one a pixel.
        ignored: an integer target whose number does not count.
        higher_is_better: which of two means is the better one.
        after: what is done to the mean, as a root; the figure is then no mean.

    >>> error = mean_of(lambda outputs, targets: abs(outputs - targets), ignored=-1)
    >>> error.of(jnp.array([[1, 5], [2, 9]]), jnp.array([[0, 5], [0, -1]]))
    1.0
    """
    return Metric(
        functools.partial(_sums, numbers, ignored),
        functools.partial(_mean, after),
        is_mean=after is None,
        higher_is_better=higher_is_better,
    )


def _sums(
    numbers: Callable[[PyTree, Array], Array], ignored: int | None, outputs: PyTree, targets: Array
) -> Array:
    values = numbers(outputs, targets)  # (B, ...)
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    counts = jnp.ones_like(values)
    if ignored is not None and jnp.issubdtype(targets.dtype, jnp.integer):
        known = jnp.broadcast_to(targets != ignored, values.shape)
        values, counts = jnp.where(known, values, 0), known.astype(values.dtype)
    each = (jnp.sum(v.reshape(v.shape[0], -1), axis=1) for v in (values, counts))
    return jnp.stack(list(each), axis=-1)  # (B, 2)


def _mean(after: Callable[[float], float] | None, rows: np.ndarray) -> float:
    total, count = (math.fsum(column.tolist()) for column in rows.T)
    if not count:
        return math.nan
    return total / count if after is None else after(total / count)


def in_training(metric: Metric, outputs: PyTree, targets: Array, mask: Array | None) -> Array:
    """The mean over a batch, for a metric that is one; without the rows that a mask leaves out.

    >>> from funcnn.task.metrics.accuracy import accuracy
    >>> outputs, labels = jnp.array([[2.0, 1.0], [3.0, 0.0]]), jnp.array([0, 1])
    >>> float(in_training(accuracy(), outputs, labels, jnp.array([True, False])))
    1.0
    """
    sums = metric.rows(jax.lax.stop_gradient(outputs), targets)  # (B, 2)
    if mask is not None:
        sums = jnp.where(mask[:, None], sums, 0)
    total, count = jnp.sum(sums, axis=0)
    return total / jnp.maximum(count, 1)
