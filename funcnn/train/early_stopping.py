"""Early stopping: a run ends when its evaluations have not become better for a while."""

from __future__ import annotations

from collections.abc import Sequence

from funcnn.core.usage import as_integer
from funcnn.train.best import is_better, metric_of
from funcnn.train.hooks import OnEvaluation, Record
from funcnn.train.state import TrainState


def early_stopping(
    metric: str,
    patience: int,
    *,
    higher_is_better: bool = False,
    smallest_change: float = 0.0,
) -> OnEvaluation:
    """A hook, for `fit(..., on_evaluation=...)`, that stops after `patience` evaluations in vain.

    It remembers nothing: whether to stop is a function of the run's records, which `fit` takes from
    its log when a run goes on. So a run that was stopped, or killed, and goes on stops at the step
    at which it would have stopped; one that this hook has stopped makes no further step, unless
    with more patience. Without a log it knows only the records since the run was taken up.

    Args:
        metric: of a record, such as "evaluation_loss".
        patience: how many evaluations in a row may be no better than the best before them.
        higher_is_better: whether the metric is to grow, as an accuracy.
        smallest_change: by how much more than this a value must be better to count as better.

    Raises:
        ValueError: patience is no positive integer, or smallest_change is negative; later, a record
            does not have the metric.

    >>> stop = early_stopping("evaluation_loss", patience=2)
    >>> records = [{"step": n, "evaluation_loss": x} for n, x in enumerate([3.0, 2.0, 2.5, 2.0])]
    >>> [stop(None, records[:n]) for n in (1, 2, 3, 4)]
    [False, False, False, True]
    """
    if (as_integer(patience) or 0) < 1:
        raise ValueError(f"early_stopping: patience is a positive integer, found {patience!r}")
    if not smallest_change >= 0:
        raise ValueError(
            f"early_stopping: smallest_change is not negative, found {smallest_change!r}"
        )

    def stop(state: TrainState, records: Sequence[Record]) -> bool:
        metric_of(records[-1], metric, "early_stopping")
        best, in_vain = None, 0
        for record in records:
            if metric not in record:  # of a step without evaluation
                continue
            value = float(record[metric])
            if is_better(value, best, higher_is_better, smallest_change):
                best, in_vain = value, 0
            else:
                in_vain += 1
        return in_vain >= patience

    return stop
