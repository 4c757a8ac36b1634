"""What must not go unnoticed in a run: what cannot work, a second compilation, bad numbers."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.train.processes import are_many
from funcnn.train.signature import Signature, differences, first_of, leaf_name, signature
from funcnn.train.state import TrainState
from funcnn.train.step import Update, check_leading_axis
from funcnn.types import Array, Batch, Metrics, PyTree

# evaluate(params) -> {name: mean}
Evaluate = Callable[[PyTree], Mapping[str, float]]


class TrainingError(RuntimeError):
    """A run that must not go on: it would compile anew, or its numbers are not finite.

    >>> issubclass(TrainingError, RuntimeError)
    True
    """


def check_batches(batches: object, steps_per_call: int) -> None:
    """Raise TypeError, with the cure, where `batches` is not a function of the step.

    >>> check_batches([1, 2], steps_per_call=1)
    Traceback (most recent call last):
    TypeError: batches must be a function, batches(step) -> batch, found a list: for a list, ...
    """
    wanted = "batches(step)" if steps_per_call == 1 else "batches(step, count)"
    if not callable(batches):
        raise TypeError(
            f"batches must be a function, {wanted} -> batch, found a {type(batches).__name__}: for "
            f"a list, lambda step: batches[step % len(batches)]; for an iterator, which a resumed "
            f"run cannot wind back, lambda step: next(iterator)"
        )
    try:
        inspect.signature(batches).bind(*(0, steps_per_call)[: 1 if steps_per_call == 1 else 2])
    except TypeError as error:
        stacked = ", which gives `count` batches stacked" if steps_per_call > 1 else ""
        raise TypeError(
            f"batches must take {wanted}{stacked}: the step makes {steps_per_call} a call, and "
            f"batches has {error}"
        ) from error
    except ValueError:
        return  # a built-in function tells no signature


def check_start(step: Update, state: TrainState, batch: Batch, evaluate: Evaluate | None) -> None:
    """Raise TrainingError where the run would fail later than it need, before its first step.

    `batch` is as the step takes it. Evaluation is traced on the params that this state will be
    evaluated with, where `evaluate` is `make_evaluation`'s; a batch norm that sees one number
    a channel has no variance to normalise by.

    >>> check_start(None, None, None, None)
    """
    check = getattr(evaluate, "check", None)
    if check is not None:
        try:
            check(state)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"the model cannot be evaluated: {reason}") from error
    for path, count in _rows_of_statistics(step, state, batch).items():
        if np.any(count == 1):
            raise TrainingError(
                f"batch norm '{path}' would take the variance of one number, which is always 0: "
                f"it needs batches of two rows or more"
            )


def _rows_of_statistics(step: Any, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
    """How many rows each batch norm sees; `{}` where it cannot be a single one."""
    if not getattr(state, "statistics", None) or not hasattr(step, "body"):
        return {}
    if step.steps_per_call > 1:
        batch = jax.tree.map(lambda x: x[0], batch)
    if all(np.shape(leaf)[:1] != (1,) for leaf in jax.tree.leaves(batch)):
        return {}
    none_yet = jax.tree.map(np.zeros_like, state.statistics)

    def counts(state: TrainState) -> dict[str, Array]:
        statistics = step.body(state, batch)[0].statistics
        return {path: count for path, (_, _, count) in statistics.items()}

    return jax.device_get(jax.jit(counts)(state._replace(statistics=none_yet)))


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

    def check(self, state: PyTree, batch: Batch, position: int, count: int) -> None:
        """Raise TrainingError, naming the leaf, where this call's arguments are of another type.

        With stacked batches the leading axis must be `count`; it is left out of the comparison,
        since the last call of a run may be shorter.
        """
        if self._stacked:
            try:
                check_leading_axis(batch, count, count)
            except ValueError as error:
                raise TrainingError(f"batches({position}, {count}): {error}") from error
        current = signature({"state": state, "batch": _without_leading_axis(batch, self._stacked)})
        if self._first is None:
            self._first = current
        changes = differences(self._first, current)
        if changes:
            raise TrainingError(
                f"step {position + 1} would compile anew: {first_of(changes)}; "
                f"every call needs the shapes and dtypes of the first{_short(self._first, current)}"
            )


class HaltGuard:
    """Look for an update that a step's guard refused, without waiting for the device.

    >>> halted = HaltGuard()
    >>> halted.add({"halted_at": np.int32([0, 7])}, {"x": np.array([0.5, np.inf])})
    >>> halted.found(wait=True)
    (7, {'x': np.float64(inf)})
    """

    def __init__(self, *, stacked: bool = True):
        self._stacked = stacked
        self._unread: list[tuple[Array | np.ndarray, Batch]] = []

    def add(self, metrics: Metrics, batch: Batch) -> None:
        """The metrics and the batch of one more call."""
        if "halted_at" in metrics:
            self._unread.append((metrics["halted_at"], batch))

    def found(self, *, wait: bool) -> tuple[int, Batch] | None:
        """The number of the update, from 1, and its batch, where that is known; `wait` for it."""
        while self._unread and (wait or _is_ready(self._unread[0][0])):
            halted, batch = self._unread.pop(0)
            at = np.ravel(np.asarray(halted))
            if at[-1]:
                first = int(np.flatnonzero(at)[0])
                own = jax.tree.map(operator.itemgetter(first), batch) if self._stacked else batch
                return int(at[-1]), own
        return None


def _is_ready(x: Array | np.ndarray) -> bool:
    # Of many processes all must see it at the same call, and each is ready at a time of its own.
    return not are_many() and getattr(x, "is_ready", lambda: True)()


def check_training(metrics: Metrics, position: int) -> None:
    """Raise TrainingError, naming step and metric, where loss or gradient is not finite.

    `metrics` are those of one call, whose last step is `position`. Where the step has a guard,
    nothing is wrong: it skips such updates, or halts, for which `HaltGuard` looks, or halves the
    scale of its loss.

    >>> check_training({"loss": np.float32([1.0, np.nan])}, position=8)
    Traceback (most recent call last):
    funcnn.train.guard.TrainingError: step 8: loss is nan: ...
    """
    guarded = "skipped" in metrics or "halted_at" in metrics
    for name in ("loss", "gradient_norm") if not guarded else ():
        values = np.ravel(np.asarray(metrics.get(name, 0.0)))
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            step = position - values.size + 1 + int(wrong[0])
            raise TrainingError(
                f"step {step}: {name} is {values[wrong[0]]}: training stops, and this state is not "
                f"saved; look for bad values in the data, or lower the learning rate"
            )


def check_params(params: PyTree, position: int) -> None:
    """Raise TrainingError, naming the leaf, where params after step `position` are not finite.

    >>> check_params({"w": np.float32([np.inf])}, position=8)
    Traceback (most recent call last):
    funcnn.train.guard.TrainingError: step 8: params leaf 'w' is not finite: ...
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not jnp.isfinite(leaf).all():
            raise TrainingError(
                f"step {position}: params leaf '{leaf_name(path)}' is not finite: training stops, "
                f"and this state is not saved"
            )


def _short(first: Signature, current: Signature) -> str:
    """What to do where all that has changed is that a batch has fewer rows."""
    if first.treedef != current.treedef:
        return ""
    changed = [(a, b) for a, b in zip(first.leaves, current.leaves, strict=True) if a != b]
    fewer = all(
        a.shape[1:] == b.shape[1:] and a.dtype == b.dtype and b.shape[:1] < a.shape[:1]
        for a, b in changed
    )
    advice = ". A short last batch: leave it out, or fill it up with rows that the loss leaves out"
    return advice if fewer else ""


def _without_leading_axis(batch: Batch, stacked: bool) -> PyTree:
    if not stacked:
        return batch
    types = signature(batch)
    structs = [
        jax.ShapeDtypeStruct(shape[1:], dtype, weak_type=weak)
        for shape, dtype, weak in types.leaves
    ]
    return jax.tree.unflatten(types.treedef, structs)
