"""Means of metrics over a whole split, with one compiled program for every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.train.state import TrainState
from funcnn.types import Batch, PyTree

# metrics(params, batch) -> {name: (B,)}
RowMetrics = Callable[[PyTree, Batch], Mapping[str, Any]]


def make_evaluation(
    metrics: RowMetrics, split_arrays: Mapping[str, np.ndarray], batch_size: int
) -> Evaluation:
    """Compile `metrics(params, batch) -> {name: (B,)}` into `evaluate(params) -> {name: mean}`.

    `split_arrays` are arrays with one leading axis, the rows. They are cut into batches of
    `batch_size` rows; the last is filled up with rows that are left out of the means, so every
    batch has one shape and one program serves all. Means are taken in float64 on the host.

    Raises ValueError for arrays without rows or of unequal lengths and for a batch size below 1,
    TypeError where a metric is not one number a row.

    >>> def metrics(params, batch):
    ...     return {"error": abs(batch["x"] - params)}
    >>> evaluate = make_evaluation(metrics, {"x": np.array([1, 2, 6], np.float32)}, batch_size=2)
    >>> evaluate(np.float32(1))
    {'error': 2.0}
    """
    rows = _checked_rows(split_arrays)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    batch_size = min(batch_size, rows)
    return Evaluation(metrics, list(_equal_batches(split_arrays, rows, batch_size)), rows)


class Evaluation:
    """A compiled evaluation, made by `make_evaluation`.

    >>> evaluate = make_evaluation(lambda params, batch: {"x": batch["x"]}, {"x": np.ones(2)}, 2)
    >>> evaluate(None)
    {'x': 1.0}
    """

    def __init__(self, metrics: RowMetrics, batches: list[dict[str, np.ndarray]], rows: int):
        self._batches, self._rows = batches, rows
        self._metrics, self._compiled = metrics, jax.jit(metrics)
        self._size = len(next(iter(batches[0].values())))

    def __call__(self, params: PyTree) -> dict[str, float]:
        """The mean of each metric over the split."""
        # All batches are started before the first result is fetched.
        outputs = jax.device_get([self._compiled(params, batch) for batch in self._batches])
        _check_metrics(outputs[0], self._size)
        return {
            name: float(np.mean(_true_rows(outputs, name, self._rows), dtype=np.float64))
            for name in outputs[0]
        }

    def check(self, state: TrainState) -> None:
        """Trace the metrics on the params that this state will be evaluated with.

        Nothing is computed or compiled; whatever is raised then is raised now.
        """

        def traced(state: TrainState) -> Mapping[str, Any]:
            return self._metrics(state.evaluation_params(), self._batches[0])

        _check_metrics(jax.eval_shape(traced, state), self._size)


def _checked_rows(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {name: np.shape(array)[:1] for name, array in arrays.items()}
    if not lengths or len(set(lengths.values())) > 1 or () in lengths.values():
        raise ValueError(f"the arrays of a split need as many rows each, found {lengths}")
    (rows,) = next(iter(lengths.values()))
    if rows == 0:
        raise ValueError("the split has no rows to evaluate")
    return rows


def _equal_batches(
    arrays: Mapping[str, np.ndarray], rows: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, rows, batch_size):
        # The filling is a copy of true rows: rows of zeros could divide by zero in a model.
        index = np.arange(start, start + batch_size) % rows  # (B,)
        yield {name: np.asarray(array)[index] for name, array in arrays.items()}


def _true_rows(outputs: Sequence[Mapping[str, np.ndarray]], name: str, rows: int) -> np.ndarray:
    return np.concatenate([output[name] for output in outputs])[:rows].astype(np.float64)  # (rows,)


def _check_metrics(output: object, batch_size: int) -> None:
    if not isinstance(output, dict):
        raise TypeError(f"metrics must return a dict, found a {type(output).__name__}")
    for name, values in output.items():
        if np.shape(values) != (batch_size,):
            raise TypeError(
                f"metric '{name}' must hold one number a row, shape {(batch_size,)}, "
                f"found shape {np.shape(values)}"
            )
