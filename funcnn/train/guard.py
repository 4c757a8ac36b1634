"""What must not go unnoticed in a run: a second compilation, and numbers that are not finite."""

import jax
import numpy as np

from funcnn.train.signature import Signature, differences, first_of, leaf_name, signature
from funcnn.train.step import RESERVED, check_leading_axis


class TrainingError(RuntimeError):
    """A run that must not go on: it would compile anew, or its numbers are not finite.

    >>> issubclass(TrainingError, RuntimeError)
    True
    """


class RetraceGuard:
    """Compare the arguments of every call with those of the first one.

    >>> guard = RetraceGuard(stacked=False)
    >>> guard.check({"w": np.zeros(2)}, np.zeros((4, 2)), position=0, count=1)
    >>> guard.check({"w": np.zeros(2)}, np.zeros((3, 2)), position=1, count=1)
    Traceback (most recent call last):
    funcnn.train.guard.TrainingError: step 2 would compile anew: batch changed from ...
    """

    def __init__(self, stacked: bool):
        self._stacked = stacked
        self._first: Signature | None = None

    def check(self, state, batch, position: int, count: int) -> None:
        """Raise TrainingError, naming the leaf, where this call's arguments are of another type.

        With stacked batches the leading axis must be `count`; it is left out of the comparison,
        since the last call of a run may be shorter.
        """
        if self._stacked:
            try:
                check_leading_axis(batch, count, count)
            except ValueError as error:
                raise TrainingError(f"batches({position}, {count}): {error}") from error
        found = signature({"state": state, "batch": _without_leading_axis(batch, self._stacked)})
        if self._first is None:
            self._first = found
        changes = differences(self._first, found)
        if changes:
            raise TrainingError(
                f"step {position + 1} would compile anew: {first_of(changes)}; "
                f"every call needs the shapes and dtypes of the first"
            )


def check_training(metrics: dict[str, np.ndarray], position: int) -> None:
    """Raise TrainingError, naming step and metric, where loss or gradient is not finite.

    `metrics` are those of one call, whose last step is `position`.

    >>> check_training({"loss": np.float32([1.0, np.nan])}, position=8)
    Traceback (most recent call last):
    funcnn.train.guard.TrainingError: step 8: loss is nan: ...
    """
    for name in RESERVED:
        values = np.ravel(np.asarray(metrics.get(name, 0.0)))
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            step = position - values.size + 1 + int(wrong[0])
            raise TrainingError(
                f"step {step}: {name} is {values[wrong[0]]}: training stops, and this state is not "
                f"saved; look for bad values in the data, or lower the learning rate"
            )


def check_params(params, position: int) -> None:
    """Raise TrainingError, naming the leaf, where params after step `position` are not finite.

    >>> check_params({"w": np.float32([np.inf])}, position=8)
    Traceback (most recent call last):
    funcnn.train.guard.TrainingError: step 8: params leaf 'w' is not finite: ...
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(jax.device_get(params))[0]:
        if not np.isfinite(leaf).all():
            raise TrainingError(
                f"step {position}: params leaf '{leaf_name(path)}' is not finite: training stops, "
                f"and this state is not saved"
            )


def _without_leading_axis(batch, stacked: bool):
    if not stacked:
        return batch
    types = signature(batch)
    structs = [
        jax.ShapeDtypeStruct(shape[1:], dtype, weak_type=weak)
        for shape, dtype, weak in types.leaves
    ]
    return jax.tree.unflatten(types.treedef, structs)
