"""funcnn train."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn.commands.evaluate import report_test
from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import Log, say, warn
from funcnn.config import Config, ConfigError
from funcnn.core.summary import summary
from funcnn.core.usage import MissingStatistics
from funcnn.data.known import Known
from funcnn.experiment import Experiment, build_experiment
from funcnn.report import counted
from funcnn.runs.folder import RunFolder
from funcnn.runs.start import starting_params
from funcnn.runs.training import chosen_checkpoints, chosen_hooks, result_step
from funcnn.train import (
    CheckpointError,
    Checkpoints,
    MetricsLog,
    TrainingError,
    TrainState,
    fit,
    keep_freed_memory,
    learning_curves,
    make_progress,
)
from funcnn.train.evaluation import Evaluation
from funcnn.train.guard import check_start
from funcnn.train.hooks import Hooks
from funcnn.train.step import Step

_USES = {"train": "train", "validation": "watch", "test": "test"}


def train(config: Config, *, resume: bool = False, as_json: bool = False) -> int:
    """Train as the config says; print the test's figures. The exit code, 128 + n after signal n."""
    folder = RunFolder(config.run.folder)
    with folder.held(warn):
        begun = resume and folder.holds_run()
        if begun:
            folder.check_resumable(config)
        else:
            folder.check_new()
        device = choose_platform(config.run.platform)
        keep_freed_memory()
        experiment = build_experiment(config)
        checkpoints = chosen_checkpoints(experiment, folder, warn)
        hooks = chosen_hooks(experiment)
        if begun and checkpoints.latest() is not None:
            state = _restore(checkpoints, experiment.first_state())
        else:
            state = experiment.first_state(starting_params(config, experiment.params))
        step = experiment.step()
        evaluate = experiment.evaluation(experiment.dataset.watched)
        _check_start(experiment, step, state, evaluate)
        if not begun:
            folder.begin(config, device, Known.of(experiment.dataset))
        _announce(experiment, device, int(state.step), resume)
        if begun and int(state.step) > config.train.steps:
            return _past_its_end(experiment, folder, checkpoints, state, as_json)
        return _run(experiment, folder, checkpoints, hooks, step, state, evaluate, as_json)


def _run(
    experiment: Experiment,
    folder: RunFolder,
    checkpoints: Checkpoints,
    hooks: Hooks,
    step: Step,
    state: TrainState,
    evaluate: Evaluation,
    as_json: bool,
) -> int:
    config = experiment.config.train
    first, start = int(state.step), time.perf_counter()
    with _signals() as received:
        state, _ = fit(
            step,
            state,
            experiment.batches(),
            steps=config.steps,
            log_every=config.log_every,
            evaluate=evaluate,
            evaluate_every=config.evaluate_every,
            log=MetricsLog(folder.metrics),
            checkpoints=checkpoints,
            checkpoint_every=config.checkpoint_every,
            progress=make_progress(Log()),
            stop=lambda: bool(received),
            on_step=hooks.on_step,
            on_evaluation=hooks.on_evaluation,
            on_save=hooks.on_save,
        )
    seconds = time.perf_counter() - start
    _draw_curves(folder)
    last = int(state.step)
    if received and last < config.steps:
        say(f"stopped at step {last}; go on with --resume --out {folder.path}")
        return 128 + received[0]
    if last < config.steps:
        why = "early stopping" if config.early_stopping else "a hook"
        say(f"ended at step {last} of {config.steps} by {why}")
    _report(experiment, folder, checkpoints, state, seconds, as_json)
    if not as_json:
        say(f"{_work(first, last, seconds)}; results in {folder.path}")
    return 0


def _draw_curves(folder: RunFolder) -> None:
    if not folder.metrics.exists():
        return
    try:
        learning_curves(folder.metrics, folder.curves)
    except (OSError, ValueError) as error:  # the run itself is whole
        warn(f"{folder.curves} could not be drawn: {getattr(error, 'strerror', error)}")


def _report(
    experiment: Experiment,
    folder: RunFolder,
    checkpoints: Checkpoints,
    state: TrainState,
    seconds: float | None,
    as_json: bool,
) -> None:
    """What the result of the run, the last state or the best one, makes of the test."""
    best = result_step(experiment.config, checkpoints)
    if best is not None and best != int(state.step):
        state = checkpoints.restore(experiment.first_state(), best)
    if best is not None:
        say(f"the best checkpoint by {experiment.config.train.best} is that of step {best}")
    report_test(experiment, state, seconds, folder, as_json)


def _work(first: int, last: int, seconds: float) -> str:
    """What a call has done, which may be the end of a run, or nothing."""
    if first == last:
        return f"nothing to do: the run has its {last} steps"
    in_all = f", {last} in all" if first else ""
    return f"{counted(last - first, 'step')} in {seconds:.1f} s{in_all}"


def _past_its_end(
    experiment: Experiment,
    folder: RunFolder,
    checkpoints: Checkpoints,
    state: TrainState,
    as_json: bool,
) -> int:
    """A run that has done more steps than are asked for: it is reported as it is."""
    step, wanted = int(state.step), experiment.config.train.steps
    say(f"nothing to do: the run is at step {step}, past train.steps = {wanted}")
    _report(experiment, folder, checkpoints, state, None, as_json)
    return 0


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    try:
        return checkpoints.restore(state)
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error


def _check_start(
    experiment: Experiment, step: Step, state: TrainState, evaluate: Evaluation
) -> None:
    """Trace a step and an evaluation, so that what cannot work leaves no half-made run behind."""
    size, steps = step.steps_per_call, experiment.config.train.steps
    position = int(state.step)
    if position >= steps:
        return
    count = (min(size, steps - position),) if size > 1 else ()
    batch = experiment.batches()(position, *count)
    try:
        step.jitted.eval_shape(state, batch)  # traced once: the first call takes it from here
        check_start(step, state, batch, evaluate)
    except (TypeError, ValueError, TrainingError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error.__cause__, MissingStatistics):
            message += (
                "; a pair (init, apply) has none: let the builder return the fnn.Layer itself"
            )
        raise ConfigError([message]) from error


def _announce(experiment: Experiment, device: str, step: int, resume: bool) -> None:
    dataset = experiment.dataset
    counts = ", ".join(f"{s.rows:,} rows to {_USES[name]}" for name, s in dataset.splits().items())
    say(f"{dataset.name}: {counts}")
    say(f"device: {device}")
    row = experiment.task.taken(dataset.train.take(np.array([0])))
    say(summary(experiment.model, experiment.params, row))
    if resume:
        say(f"resumed at step {step}" if step else "no state to resume from: starts at step 0")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted, and the run stops after its call; a second one stops it now."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
