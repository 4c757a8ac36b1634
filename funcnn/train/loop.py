"""The training loop: it owns all input and output, and leaves every JAX transform to the step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.train.checkpoint import Checkpoints
from funcnn.train.diagnosis import diagnosed
from funcnn.train.guard import (
    Evaluate,
    HaltGuard,
    RetraceGuard,
    TrainingError,
    check_batches,
    check_start,
    check_training,
)
from funcnn.train.hooks import Hooks, OneOrMore, OnEvaluation, OnSave, OnStep
from funcnn.train.metrics_log import EVALUATION
from funcnn.train.processes import are_many, together
from funcnn.train.profile import Profile
from funcnn.train.progress import Progress
from funcnn.train.saves import Saves
from funcnn.train.schedules import learning_rate_of_update
from funcnn.train.speed import Speed
from funcnn.train.state import TrainState
from funcnn.train.step import Step, Update
from funcnn.train.telling import Telling
from funcnn.train.writers import OneOrMoreWriters
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
    log: OneOrMoreWriters | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int = 0,
    checkpoint_minutes: float | None = None,
    progress: Progress | None = None,
    speed: Speed | None = None,
    profile: Profile | None = None,
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
    0 stands for the end alone. A save is also due so many `checkpoint_minutes` after the last one.
    It is written in the background: the loop goes on when it has copied the state to the host, and
    waits before it saves again, where a checkpoint is chosen as the best, and at its end. A save
    that fails stops the run before the next call of the step. A run that is killed while one is
    under way goes on from the checkpoint before, and ends in the same bits. Where many processes
    share the state, each waits for every save. Where an evaluation raises, or a later batch (an
    iterator that ends), the state is saved, due or not; a record that a run had no time to log goes
    with the saved state, and is logged when the run goes on. A record
    is `{"step": updates made, "loss": ...}`, the metrics of that last update, and its
    `learning_rate` where the optimizer tells it, as `make_optimizer`'s do; with those of
    `evaluate(params) -> {name: float}` as `evaluation_NAME` when they are due; its `params` have
    the statistics of batch norm folded in. `history` is the list of records of this call; `log`, a
    `MetricsWriter` or a list of them, gets the same, after dropping what a run beyond the restored
    step had written; a `MetricsLog` among them tells of the run's earlier calls. `stop()` is asked
    before every call; when it says True, the state is saved (no record is written) and the loop
    returns early. `progress` is shown the speed beside each record, `speed` says who else gets it,
    and `profile` has a few calls traced. All of these are closed at the end.

    On Linux a program that trains on the CPU calls `keep_freed_memory()` once, at its start: `fit`
    does not, since it concerns the whole process.

    Hooks are functions, one or a list for each of three events. One that returns True stops the run
    as `stop` does, once what is due at that step has been done; else it returns False or None.

    - `on_step(state, metrics)` after every call of the step, before its state is saved, evaluated
      or logged; the metrics are as the step gives them, on the device.
    - `on_evaluation(state, records)` after an evaluated record has been logged: all records of the
      run, those that `log` holds of its earlier calls, too, the newest last. It is called at least
      once for each: a run that goes on from an evaluated step begins with that call, since the
      run before may have ended between the two. `early_stopping` makes such a hook.
    - `on_save(state, record)` when a state is on disk, before the next call of the step or some
      calls later, with that state in NumPy arrays and the record that went with it, before its
      evaluation, or with `{"step": updates made}` where none is due. Of the last state it is called
      before its evaluation.

    A hook may read the state, and copies what it is to keep: the next call donates it. Where one
    raises, the state is saved first, due or not, and the error has a note that names the hook.

    `state` is donated: use the one that is returned. Raises CheckpointError where a state cannot be
    saved, and TrainingError when a call would compile
    anew because a leaf changed (the first call and a last one of fewer steps may), or when loss,
    gradient or params are not finite at a record or a save; such a state is never saved. A step
    with a `Guard` that halts makes no such update at all: the error then says of the first one
    where its numbers arose, and the state before it is saved. Also before the
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
    telling, saves = Telling(log, progress, speed, profile), Saves(checkpoints, checkpoint_minutes)
    run = _Run(step, evaluate, saves, telling, Hooks(on_step, on_evaluation, on_save))
    position, metrics, guard = int(state.step), {}, RetraceGuard(stacked=size > 1)
    before = max(position - size, 0)  # where the call ended that the state comes from

    def due(every: int) -> bool:
        return position == steps or (every > 0 and position // every > before // every)

    with contextlib.closing(telling), saves.settled():
        run.begin(state, position, steps, evaluate is not None and due(evaluate_every))
        while position < steps and not run.stops(state, metrics, position, stop):
            count = min(size - position % size, steps - position)  # to the end of a call
            with run.saved_if_it_raises(state, metrics, position):
                batch = batches(position) if size == 1 else batches(position, count)
                guard.check(state, batch, position, count)
            if not metrics:
                check_start(step, state, batch, evaluate)
            state, metrics = telling.call(step, state, batch, metrics, position, count)
            before, position = position, position + count
            evaluating, saving = evaluate is not None and due(evaluate_every), due(checkpoint_every)
            run.after_call(state, metrics, batch, position, due(log_every), evaluating, saving)
    return state, run.history


class _Run:
    """Where the records and states of one `fit` go."""

    def __init__(
        self,
        step: Update,
        evaluate: Any,
        saves: Saves,
        telling: Telling,
        hooks: Hooks,
    ):
        hooks.check()
        self.history: list[dict[str, Any]] = []
        self._stopped = False  # whether a hook has asked for it
        self._step, self._telling, self._hooks = step, telling, hooks
        self._halted = HaltGuard(stacked=_steps_per_call(step, None) > 1)
        self._learning_rate = getattr(step, "learning_rate", None)
        self._earlier: list[dict[str, Any]] = []  # what the log holds of the run's earlier calls
        self._evaluate, self._saves = evaluate, saves
        saves.tell = self._tell

    def begin(self, state: TrainState, position: int, steps: int, evaluating: bool) -> None:
        record = self._saves.begin(position, steps)
        self._earlier = self._telling.log.records(until=position)
        last = self._earlier[-1] if self._earlier else {"step": None}
        if not self._telling.log.can_be_read() or last["step"] == position:
            record = None  # nobody knows, or it is there already
        together("what the run has logged is read")
        # A finished run is left as it is: it may lie where nothing can be written.
        if position < steps or record is not None:
            self._telling.rewind(position, again=record is not None)
        self._telling.start(steps, position)
        if record is not None:
            self._finish_record(record, state, {}, evaluating)
        elif last["step"] == position and any(name.startswith(EVALUATION) for name in last):
            self._evaluated(state, {}, position)

    def stops(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        stop: Callable[[], bool] | None,
    ) -> bool:
        """Whether the run ends before its next call; then the state is on disk."""
        with self.saved_if_it_raises(state, metrics, position):
            self._saves.settle(wait=False)
        if not (self._stopped or (stop and stop())):
            return False
        self._saves.save(state, metrics, position)
        return True

    def after_call(
        self,
        state: TrainState,
        metrics: Metrics,
        batch: Batch,
        position: int,
        logging: bool,
        evaluating: bool,
        saving: bool,
    ) -> None:
        saving |= self._saves.is_due()
        self._halted.add(metrics, batch)
        if found := self._halted.found(wait=logging or evaluating or saving):
            self._halt(state, *found)
        self._telling.advance(position)
        record = self._new_record(metrics, position) if logging or evaluating else None
        with self.saved_if_it_raises(state, metrics, position, record):
            self._ask("on_step", position, state, metrics)
        if saving:
            with self._telling.left_out(metrics):
                self._saves.save(state, metrics, position, record, now=False)
        if record is not None:
            self._finish_record(record, state, metrics, evaluating)

    def _new_record(self, metrics: Metrics, position: int) -> dict[str, Any]:
        """Step, loss and the loss's own metrics; evaluation is still to come."""
        metrics = jax.device_get(metrics)  # the only wait for the device between two records
        self._telling.lap(position)
        check_training(metrics, position)
        # A call of several steps gives a value for each; the record is of the last. The loss comes
        # first: compiled functions sort their dicts.
        names = sorted(metrics, key=lambda name: name != "loss")
        names = [name for name in names if name != "halted_at"]
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
            saved = self.saved_if_it_raises(state, metrics, record["step"], unevaluated)
            with self._telling.left_out(metrics), saved:
                evaluation = self._evaluate(state.evaluation_params())
                record = {**record, **{f"{EVALUATION}{name}": x for name, x in evaluation.items()}}
                self._saves.keep_best(state, metrics, unevaluated, record)
        self.history.append(record)
        self._telling.report(record)
        if evaluating:
            self._evaluated(state, metrics, record["step"])

    def _evaluated(self, state: TrainState, metrics: Metrics, position: int) -> None:
        saved = self.saved_if_it_raises(state, metrics, position)
        with self._telling.left_out(metrics), saved:
            self._ask("on_evaluation", position, state, (*self._earlier, *self.history))

    def _tell(self, state: TrainState, record: Mapping[str, Any]) -> None:
        self._ask("on_save", record["step"], state, record)

    def _ask(self, name: str, position: int, state: TrainState, seen: Any) -> None:
        self._stopped |= self._hooks.ask(name, position, state, seen)

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
            if found := self._halted.found(wait=True):
                self._halt(state, *found)
            if metrics:  # else nothing has been trained that would be lost
                self._saves.save(state, metrics, position, record)
            raise

    def _halt(self, state: TrainState, at: int, batch: Batch) -> NoReturn:
        """Save the state before the update that was not made, and say why it was not."""
        # Whoever goes on from it makes this update anew.
        state = state._replace(health={**state.health, "halted_at": jnp.zeros((), jnp.int32)})
        step = self._step
        why = ""
        if isinstance(step, Step) and not are_many():
            why = f"{diagnosed(step, state, batch)}; "
        self._saves.save(state, {}, at - 1)
        raise TrainingError(
            f"step {at}: {why}this update is not made, and training halts{self._saves.told()}: "
            f"look at the data, lower the learning rate, or let the guard skip such steps "
            f'(train.guard.action = "skip" in a config)'
        )


def _steps_per_call(step: Update, given: int | None) -> int:
    """The step's own number of updates a call; a plain function without one makes one."""
    own = getattr(step, "steps_per_call", 1 if given is None else given)
    if given is not None and given != own:
        raise ValueError(f"steps_per_call is {given}, but the step was made with {own}")
    return own
