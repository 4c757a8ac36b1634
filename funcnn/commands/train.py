"""funcnn train and funcnn eval."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcnn.commands.folder import RunFolder, restore_run
from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import Log, say, warn
from funcnn.config import Config, ConfigError
from funcnn.core.summary import summary
from funcnn.core.usage import MissingStatistics
from funcnn.experiment import Experiment, build_experiment
from funcnn.report import counted
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
    make_step,
)
from funcnn.train.evaluation import Evaluation
from funcnn.train.guard import check_start
from funcnn.train.step import Step

_USES = {"train": "train", "validation": "watch", "test": "test"}


def train(config: Config, *, resume: bool = False, as_json: bool = False) -> int:
    """Train as the config says; print the test's figures. The exit code, 128 + n after signal n."""
    folder = RunFolder(config.run.folder)
    with folder.held():
        begun = resume and folder.holds_run()
        if begun:
            folder.check_resumable(config)
        else:
            folder.check_new()
        device = choose_platform(config.run.platform)
        keep_freed_memory()
        experiment = build_experiment(config)
        checkpoints = Checkpoints(folder.checkpoints, config.train.keep_checkpoints, warn)
        state = experiment.first_state()
        if begun and checkpoints.latest() is not None:
            state = _restore(checkpoints, state)
        step = make_step(
            experiment.loss, experiment.optimizer, steps_per_call=config.train.steps_per_call
        )
        evaluate = experiment.evaluation(experiment.dataset.watched)
        _check_start(experiment, step, state, evaluate)
        if not begun:
            folder.begin(config, device)
        _announce(experiment, device, int(state.step), resume)
        if begun and int(state.step) > config.train.steps:
            return _past_its_end(experiment, folder, state, as_json)
        return _run(experiment, folder, checkpoints, step, state, evaluate, as_json)


def _run(
    experiment: Experiment,
    folder: RunFolder,
    checkpoints: Checkpoints,
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
        )
    seconds = time.perf_counter() - start
    if folder.metrics.exists():
        try:
            learning_curves(folder.metrics, folder.curves)
        except (OSError, ValueError) as error:  # the run itself is whole
            warn(f"{folder.curves} could not be drawn: {getattr(error, 'strerror', error)}")
    if received and int(state.step) < config.steps:
        say(f"stopped at step {int(state.step)}; go on with --resume --out {folder.path}")
        return 128 + received[0]
    _report(experiment, state, seconds, folder, as_json)
    if not as_json:
        say(f"{_work(first, int(state.step), seconds)}; results in {folder.path}")
    return 0


def _work(first: int, last: int, seconds: float) -> str:
    """What a call has done, which may be the end of a run, or nothing."""
    if first == last:
        return f"nothing to do: the run has its {last} steps"
    in_all = f", {last} in all" if first else ""
    return f"{counted(last - first, 'step')} in {seconds:.1f} s{in_all}"


def _past_its_end(
    experiment: Experiment,
    folder: RunFolder,
    state: TrainState,
    as_json: bool,
) -> int:
    """A run that has done more steps than are asked for: it is reported as it is."""
    step, wanted = int(state.step), experiment.config.train.steps
    say(f"nothing to do: the run is at step {step}, past train.steps = {wanted}")
    _report(experiment, state, None, folder, as_json)
    return 0


def evaluate_run(path: str, *, foreign: bool = True, as_json: bool = False) -> int:
    """Print what the latest checkpoint of a run makes of the test split."""
    folder = RunFolder(path)
    experiment, state = restore_run(folder, foreign=foreign)
    _report(experiment, state, None, folder, as_json)
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


def _report(
    experiment: Experiment,
    state: TrainState,
    seconds: float | None,
    folder: RunFolder,
    as_json: bool,
) -> None:
    test = experiment.dataset.test
    result = experiment.evaluation(test)(state.evaluation_params())
    if as_json:
        row = {"step": int(state.step), **{f"test_{k}": v for k, v in result.items()}}
        row |= {"run": str(folder.path)}
        print(json.dumps({**row, **({} if seconds is None else {"seconds": round(seconds, 3)})}))
        return
    words = {name: f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.items()}
    targets = test.get(experiment.task.targets)
    if "accuracy" in result and targets is not None and targets.ndim == 1:
        right = round(result["accuracy"] * test.rows)
        words["accuracy"] += f" ({right} of {test.rows})"
    # The loss comes last: it says least to whoever reads one line.
    print(
        f"test {', '.join(words[name] for name in sorted(words, key=lambda name: name == 'loss'))}"
    )


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
