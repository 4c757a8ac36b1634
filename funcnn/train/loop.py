"""The training loop: it owns all input and output, and leaves every JAX transform to the step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
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
from funcnn.train.hooks import Hooks, OneOrMore, OnEvaluation, OnSave, OnStep
from funcnn.train.metrics_log import EVALUATION, MetricsLog
from funcnn.train.optimizer import learning_rate_of_update
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
    on_step: OneOrMore[OnStep] = (),
    on_evaluation: OneOrMore[OnEvaluation] = (),
    on_save: OneOrMore[OnSave] = (),
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Train until `steps` updates have been made in all; a restored state goes on where it stopped.

    `step` is `make_step`'s; the loop asks `batches(step)` for the batch of a step, or
    `batches(step, count)` for `count` of them stacked along a new leading axis when the step makes
    several a call. `steps_per_call` need not be given: it is the step's own.

    After a call the loop saves, evaluates and logs, in this order, what is due. Something is due at
    the first end of a call at or after each multiple of its `..._every`, and at the end of the run;
    0 stands for the end alone. Where an evaluation raises, or a later batch (an iterator that
    ends), the state is saved, due or not; a record that a run had no time to log goes with the
    saved state, and is logged when the run goes on. A record
    is `{"step": updates made, "loss": ...}`, the metrics of that last update, and its
    `learning_rate` where the optimizer tells it, as `make_optimizer`'s do; with those of
    `evaluate(params) -> {name: float}` as `evaluation_NAME` when they are due; its `params` have
    the statistics of batch norm folded in. `history` is the list of records of this call; `log`
    gets the same, after dropping what a run beyond the restored step had written. `stop()` is asked
    before every call; when it says True, the state is saved (no record is written) and the loop
    returns early.

    Hooks are functions, one or a list for each of three events. One that returns True stops the run
    as `stop` does, once what is due at that step has been done; else it returns False or None.

    - `on_step(state, metrics)` after every call of the step, before its state is saved, evaluated
      or logged; the metrics are as the step gives them, on the device.
    - `on_evaluation(state, records)` after an evaluated record has been logged: all records of the
      run, those that `log` holds of its earlier calls, too, the newest last. It is called at least
      once for each: a run that goes on from an evaluated step begins with that call, since the
      run before may have ended between the two. `early_stopping` makes such a hook.
    - `on_save(state, record)` after a state has been saved, with the record that went with it,
      before its evaluation, or with `{"step": updates made}` where none is due.

    A hook may read the state, and copies what it is to keep: the next call donates it. Where one
    raises, the state is saved first, due or not, and the error has a note that names the hook.

    `state` is donated: use the one that is returned. Raises TrainingError when a call would compile
    anew because a leaf changed (the first call and a last one of fewer steps may), or when loss,
    gradient or params are not finite at a record or a save; such a state is never saved; before the
    first call, when `evaluate`, made by `make_evaluation`, does not fit the state, or batch norm
    would see one number a channel. TypeError when `batches` is no function of the step, or a hook
    none, or one returns something else.

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
    check_batches(batches, size := _steps_per_call(step, steps_per_call))
    run = _Run(step, evaluate, log, checkpoints, progress, Hooks(on_step, on_evaluation, on_save))
    position = int(state.step)
    before = max(position - size, 0)  # where the call ended that the state comes from
    guard, metrics = RetraceGuard(stacked=size > 1), {}

    def due(every: int) -> bool:
        return position == steps or (every > 0 and position // every > before // every)

    with contextlib.closing(progress) if progress else contextlib.nullcontext():
        run.begin(state, position, steps, evaluate is not None and due(evaluate_every))
        while position < steps:
            if run.stopped or (stop and stop()):
                run.save(state, metrics, position)
                break
            count = min(size, steps - position)
            with run.saved_if_it_raises(state, metrics, position):
                batch = batches(position) if size == 1 else batches(position, count)
                guard.check(state, batch, position, count)
            if not metrics:
                check_start(step, state, batch, evaluate)
            state, metrics = step(state, batch)
            before, position = position, position + count
            evaluating, saving = evaluate is not None and due(evaluate_every), due(checkpoint_every)
            run.after_call(state, metrics, position, due(log_every), evaluating, saving)
    return state, run.history


class _Run:
    """Where the records and states of one `fit` go."""

    def __init__(
        self,
        step: Update,
        evaluate: Any,
        log: MetricsLog | None,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
        hooks: Hooks,
    ):
        hooks.check()
        self.history: list[dict[str, Any]] = []
        self.stopped = False  # whether a hook has asked for it
        self._hooks = hooks
        self._learning_rate = getattr(step, "learning_rate", None)
        self._earlier: list[dict[str, Any]] = []  # what the log holds of the run's earlier calls
        self._evaluate, self._log = evaluate, log
        self._checkpoints, self._progress = checkpoints, progress
        self._saved: int | None = None

    def begin(self, state: TrainState, position: int, steps: int, evaluating: bool) -> None:
        record = None
        if self._checkpoints is not None:
            self._checkpoints.best_step()  # which raises now where that is not known
            self._saved = self._checkpoints.latest()
            if self._saved is not None and self._saved > position:
                raise TrainingError(
                    f"the run starts at step {position}, but {self._checkpoints.folder} holds a "
                    f"checkpoint of step {self._saved}: resume from it, or choose another folder"
                )
            if self._saved == position:
                record = self._checkpoints.record(position)
        self._earlier = [] if self._log is None else self._log.records(until=position)
        last = self._earlier[-1] if self._earlier else {"step": None}
        if self._log is None or last["step"] == position:
            record = None  # there is no log, or it is there already
        # A finished run is left as it is: it may lie where nothing can be written.
        if self._log is not None and (position < steps or record is not None):
            self._log.rewind(position)
        if self._progress is not None:
            self._progress.start(steps, position)
        if record is not None:
            self._finish_record(record, state, {}, evaluating)
        elif last["step"] == position and any(name.startswith(EVALUATION) for name in last):
            self._evaluated(state, {}, position)

    def after_call(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        logging: bool,
        evaluating: bool,
        saving: bool,
    ) -> None:
        if self._progress is not None:
            self._progress.advance(position)
        record = self._new_record(metrics, position) if logging or evaluating else None
        with self.saved_if_it_raises(state, metrics, position, record):
            self._ask("on_step", position, state, metrics)
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
        record = {"step": position, **{n: np.ravel(metrics[n])[-1].item() for n in names}}
        if self._learning_rate is not None:
            rate = learning_rate_of_update(self._learning_rate, position)
            record.setdefault("learning_rate", rate)  # the loss's own stays
        return record

    def _finish_record(
        self, record: dict[str, Any], state: TrainState, metrics: Metrics, evaluating: bool
    ) -> None:
        unevaluated = record
        if evaluating:
            with self.saved_if_it_raises(state, metrics, record["step"], unevaluated):
                evaluation = self._evaluate(state.evaluation_params())
                record = {**record, **{f"{EVALUATION}{name}": x for name, x in evaluation.items()}}
                self._keep_best(state, metrics, unevaluated, record)
        self.history.append(record)
        if self._log is not None:
            self._log.write(record)
        if self._progress is not None:
            self._progress.report(record)
        if evaluating:
            self._evaluated(state, metrics, record["step"])

    def _keep_best(
        self,
        state: TrainState,
        metrics: Metrics,
        unevaluated: dict[str, Any],
        record: Mapping[str, Any],
    ) -> None:
        if self._checkpoints is None:
            return
        if self._checkpoints.would_be_best(record):
            # Killed from here on, the run evaluates this state again, and notes it then.
            self.save(state, metrics, record["step"], unevaluated)
        self._checkpoints.note(record)

    def _evaluated(self, state: TrainState, metrics: Metrics, position: int) -> None:
        with self.saved_if_it_raises(state, metrics, position):
            self._ask("on_evaluation", position, state, (*self._earlier, *self.history))

    def _ask(self, name: str, position: int, state: TrainState, seen: Any) -> None:
        self.stopped |= self._hooks.ask(name, position, state, seen)

    @contextlib.contextmanager
    def saved_if_it_raises(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        record: dict[str, Any] | None = None,
    ) -> Iterator[None]:
        try:
            yield
        except Exception:
            if metrics:  # else nothing has been trained that would be lost
                self.save(state, metrics, position, record)
            raise

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
        self._ask("on_save", position, state, record or {"step": position})


def _steps_per_call(step: Update, given: int | None) -> int:
    """The step's own number of updates a call; a plain function without one makes one."""
    own = getattr(step, "steps_per_call", 1 if given is None else given)
    if given is not None and given != own:
        raise ValueError(f"steps_per_call is {given}, but the step was made with {own}")
    return own
