"""The training loop: it owns all input and output, and leaves every JAX transform to the step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from funcnn.train.checkpoint import Checkpoints
from funcnn.train.guard import (
    Evaluate,
    RetraceGuard,
    TrainingError,
    check_batches,
    check_params,
    check_start,
    check_training,
)
from funcnn.train.metrics_log import EVALUATION, MetricsLog
from funcnn.train.progress import Progress
from funcnn.train.state import TrainState
from funcnn.train.step import Update
from funcnn.types import Batch, Metrics


def fit(
    step: Update,
    state: TrainState,
    batches: Callable[..., Batch],
    *,
    steps: int,
    steps_per_call: int | None = None,
    log_every: int = 100,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    log: MetricsLog | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int = 0,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Train until `steps` updates have been made in all; a restored state goes on where it stopped.

    `step` is `make_step`'s; the loop asks `batches(step)` for the batch of a step, or
    `batches(step, count)` for `count` of them stacked along a new leading axis when the step makes
    several a call. `steps_per_call` need not be given: it is the step's own.

    After a call the loop saves, evaluates and logs, in this order, what is due. Something is due at
    the first end of a call at or after each multiple of its `..._every`, and at the end of the run;
    0 stands for the end alone. A state whose evaluation raises is saved, due or not; a record that
    a run had no time to log goes with the saved state, and is logged when the run goes on. A record
    is `{"step": updates made, "loss": ...}`, the metrics of that last update, with those of
    `evaluate(params) -> {name: float}` as `evaluation_NAME` when they are due; its `params` have
    the statistics of batch norm folded in. `history` is the list of records of this call; `log`
    gets the same, after dropping what a run beyond the restored step had written. `stop()` is asked
    before every call; when it says True, the state is saved (no record is written) and the loop
    returns early.

    `state` is donated: use the one that is returned. Raises TrainingError when a call would compile
    anew because a leaf changed (the first call and a last one of fewer steps may), or when loss,
    gradient or params are not finite at a record or a save; such a state is never saved; before the
    first call, when `evaluate`, made by `make_evaluation`, does not fit the state, or batch norm
    would see one number a channel. TypeError when `batches` is no function of the step.

    >>> import jax.numpy as jnp, optax
    >>> from funcnn.train import TrainState, make_step
    >>> def loss(params, batch, key):
    ...     return jnp.sum((params - batch) ** 2)
    >>> state = TrainState.create(jnp.zeros(2), optax.sgd(0.5), seed=0)
    >>> step = make_step(loss, optax.sgd(0.5))
    >>> state, history = fit(step, state, lambda step: np.ones(2, np.float32), steps=3, log_every=2)
    >>> [(record["step"], record["loss"]) for record in history]
    [(2, 0.0), (3, 0.0)]
    """
    size = _steps_per_call(step, steps_per_call)
    check_batches(batches, size)
    run = _Run(evaluate, log, checkpoints, progress)
    first = position = int(state.step)
    before = max(position - size, 0)  # where the call ended that the state comes from
    guard, metrics = RetraceGuard(stacked=size > 1), {}

    def due(every: int) -> bool:
        return position == steps or (every > 0 and position // every > before // every)

    with contextlib.closing(progress) if progress else contextlib.nullcontext():
        run.begin(state, position, steps, evaluate is not None and due(evaluate_every))
        while position < steps:
            if stop is not None and stop():
                run.save(state, metrics, position)
                break
            count = min(size, steps - position)
            batch = batches(position) if size == 1 else batches(position, count)
            guard.check(state, batch, position, count)
            if position == first:
                check_start(step, state, batch, evaluate)
            state, metrics = step(state, batch)
            before, position = position, position + count
            if progress is not None:
                progress.advance(position)
            evaluating = evaluate is not None and due(evaluate_every)
            recording = evaluating or due(log_every)
            run.after_call(state, metrics, position, recording, evaluating, due(checkpoint_every))
    return state, run.history


class _Run:
    """Where the records and states of one `fit` go."""

    def __init__(
        self,
        evaluate: Any,
        log: MetricsLog | None,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
    ):
        self.history: list[dict[str, Any]] = []
        self._evaluate, self._log = evaluate, log
        self._checkpoints, self._progress = checkpoints, progress
        self._saved: int | None = None

    def begin(self, state: TrainState, position: int, steps: int, evaluating: bool) -> None:
        record = None
        if self._checkpoints is not None:
            self._saved = self._checkpoints.latest()
            if self._saved is not None and self._saved > position:
                raise TrainingError(
                    f"the run starts at step {position}, but {self._checkpoints.folder} holds a "
                    f"checkpoint of step {self._saved}: resume from it, or choose another folder"
                )
            if self._saved == position:
                record = self._checkpoints.record(position)
        if self._log is None or self._log.last_step(until=position) == position:
            record = None  # there is no log, or it is there already
        # A finished run is left as it is: it may lie where nothing can be written.
        if self._log is not None and (position < steps or record is not None):
            self._log.rewind(position)
        if self._progress is not None:
            self._progress.start(steps, position)
        if record is not None:
            self._finish_record(record, state, {}, evaluating)

    def after_call(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        recording: bool,
        evaluating: bool,
        saving: bool,
    ) -> None:
        record = self._new_record(metrics, position) if recording else None
        if saving:
            self.save(state, metrics, position, record)
        if record is not None:
            self._finish_record(record, state, metrics, evaluating)

    def _new_record(self, metrics: Metrics, position: int) -> dict[str, Any]:
        """Step, loss and the loss's own metrics; evaluation is still to come."""
        metrics = jax.device_get(metrics)  # the only wait for the device between two records
        check_training(metrics, position)
        # A call of several steps gives a value for each; the record is of the last. The loss comes
        # first: compiled functions sort their dicts.
        names = sorted(metrics, key=lambda name: name != "loss")
        return {"step": position, **{name: np.ravel(metrics[name])[-1].item() for name in names}}

    def _finish_record(
        self, record: dict[str, Any], state: TrainState, metrics: Metrics, evaluating: bool
    ) -> None:
        if evaluating:
            try:
                evaluation = self._evaluate(state.evaluation_params())
            except Exception:
                self.save(state, metrics, record["step"], record)
                raise
            record = {**record, **{f"{EVALUATION}{name}": x for name, x in evaluation.items()}}
        self.history.append(record)
        if self._log is not None:
            self._log.write(record)
        if self._progress is not None:
            self._progress.report(record)

    def save(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        record: dict[str, Any] | None = None,
    ) -> None:
        if self._checkpoints is None or self._saved == position:
            return
        check_training(jax.device_get(metrics), position)
        check_params(state.params, position)
        self._checkpoints.save(state, record)
        self._saved = position


def _steps_per_call(step: Update, given: int | None) -> int:
    """The step's own number of updates a call; a plain function without one makes one."""
    own = getattr(step, "steps_per_call", 1 if given is None else given)
    if given is not None and given != own:
        raise ValueError(f"steps_per_call is {given}, but the step was made with {own}")
    return own
