"""Figures of a whole split, with one compiled program for every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from funcnn.train.mesh import Placement
from funcnn.train.state import TrainState
from funcnn.types import Batch, PyTree

# metrics(params, batch) -> {name: (B, ...)}
RowMetrics: TypeAlias = Callable[[PyTree, Batch], Mapping[str, Any]]
# (N, ...) of all rows -> the figure
Figure: TypeAlias = Callable[[np.ndarray], float]


def make_evaluation(
    metrics: RowMetrics,
    split_arrays: Mapping[str, np.ndarray],
    batch_size: int,
    figures: Mapping[str, Figure] | None = None,
    placement: Placement | None = None,
) -> Evaluation:
    """Compile `metrics(params, batch) -> {name: (B, ...)}` into `evaluate(params) -> {name: x}`.

    `split_arrays` are arrays with one leading axis, the rows. They are cut into batches of
    `batch_size` rows; the last is filled up with rows that are left out again, so every batch has
    one shape and one program serves all. What all rows give is put together on the host, and
    `figures` makes a number of it, (N, ...); without one it is the mean of one number a row, in
    float64. So the size of the batches decides nothing. On many devices `placement`, that of the
    step, spreads the rows of each batch over them; there are then as many more as that needs.

    Raises ValueError for arrays without rows or of unequal lengths and for a batch size below 1,
    TypeError where a metric does not give something for each row.

    >>> def metrics(params, batch):
    ...     return {"error": abs(batch["x"] - params), "x": batch["x"]}
    >>> arrays = {"x": np.array([1, 2, 6], np.float32)}
    >>> evaluate = make_evaluation(metrics, arrays, batch_size=2, figures={"x": np.median})
    >>> evaluate(np.float32(1))
    {'error': 2.0, 'x': 2.0}
    """
    rows = _checked_rows(split_arrays)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    batch_size = min(batch_size, rows)
    if placement is not None:
        batch_size = -(-batch_size // placement.parts()) * placement.parts()
    return Evaluation(metrics, split_arrays, rows, batch_size, figures or {}, placement)


class Evaluation:
    """A compiled evaluation, made by `make_evaluation`.

    >>> evaluate = make_evaluation(lambda params, batch: {"x": batch["x"]}, {"x": np.ones(2)}, 2)
    >>> evaluate(None)
    {'x': 1.0}
    """

    def __init__(
        self,
        metrics: RowMetrics,
        arrays: Mapping[str, np.ndarray],
        rows: int,
        batch_size: int,
        figures: Mapping[str, Figure],
        placement: Placement | None = None,
    ):
        self._arrays, self._rows, self._size = arrays, rows, batch_size
        self._metrics, self._figures, self._placement = metrics, figures, placement
        # Each process looks at all that comes out.
        whole = None if placement is None else placement.whole()
        self._compiled = jax.jit(metrics, out_shardings=whole)

    def __call__(self, params: PyTree) -> dict[str, float]:
        """The figure of each metric over the split."""
        # All batches are started before the first result is fetched.
        batches = map(self._placed, self._batches())
        outputs = jax.device_get([self._compiled(params, batch) for batch in batches])
        self._check(outputs[0])
        return {name: self._figure(name, outputs) for name in outputs[0]}

    def check(self, state: TrainState) -> None:
        """Trace the metrics on the params that this state will be evaluated with.

        Nothing is computed or compiled; whatever is raised then is raised now.
        """

        def traced(state: TrainState) -> Mapping[str, Any]:
            return self._metrics(state.evaluation_params(), next(self._batches()))

        self._check(jax.eval_shape(traced, state))

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, self._rows, self._size):
            # The filling is a copy of true rows: rows of zeros could divide by zero in a model.
            index = np.arange(start, start + self._size) % self._rows  # (B,)
            yield {name: np.asarray(array)[index] for name, array in self._arrays.items()}

    def _placed(self, batch: Batch) -> Batch:
        where = self._placement
        return batch if where is None else where.put(batch, where.of_batch(batch))

    def _figure(self, name: str, outputs: Sequence[Mapping[str, np.ndarray]]) -> float:
        rows = np.concatenate([output[name] for output in outputs])[: self._rows]  # (N, ...)
        if name in self._figures:
            return float(self._figures[name](rows))
        return float(np.mean(rows.astype(np.float64)))

    def _check(self, output: object) -> None:
        if not isinstance(output, dict):
            raise TypeError(f"metrics must return a dict, found a {type(output).__name__}")
        for name, values in output.items():
            shape, alone = np.shape(values), name not in self._figures
            if shape[:1] != (self._size,) or (alone and len(shape) != 1):
                wanted = f"shape {(self._size,)}" if alone else f"shape ({self._size}, ...)"
                raise TypeError(
                    f"metric '{name}' must hold one number a row, {wanted}, found shape {shape}"
                )


def _checked_rows(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {name: np.shape(array)[:1] for name, array in arrays.items()}
    if not lengths or len(set(lengths.values())) > 1 or () in lengths.values():
        raise ValueError(f"the arrays of a split need as many rows each, found {lengths}")
    (rows,) = next(iter(lengths.values()))
    if rows == 0:
        raise ValueError("the split has no rows to evaluate")
    return rows
