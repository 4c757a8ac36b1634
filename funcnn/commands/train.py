"""funcnn train and funcnn eval."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from funcnn.commands.folder import RunFolder, restore_run
from funcnn.commands.platform import choose_platform
from funcnn.config import Config, ConfigError
from funcnn.experiment import Experiment, build_experiment
from funcnn.inspection import summary
from funcnn.train import (
    CheckpointError,
    Checkpoints,
    MetricsLog,
    TrainState,
    fit,
    keep_freed_memory,
    learning_curves,
    make_evaluation,
    make_progress,
    make_step,
)

_EVALUATION_BATCH = 512


def train(config: Config, *, resume: bool = False, as_json: bool = False) -> int:
    """Train as the config says; print the test accuracy. The exit code, 128 + n after signal n."""
    folder = RunFolder(config.run.folder)
    if resume:
        folder.check_resumable(config)
    else:
        folder.check_new()
    device = choose_platform(config.run.platform)
    keep_freed_memory()
    experiment = build_experiment(config)
    checkpoints = Checkpoints(folder.checkpoints, keep=config.train.keep_checkpoints)
    state = experiment.first_state()
    if resume:
        state = _restore(checkpoints, state)
    else:
        folder.begin(config, device)
    _announce(experiment, device, int(state.step))
    evaluate = _evaluation(experiment)
    start = time.perf_counter()
    with _signals() as received:
        state, _ = fit(
            make_step(
                experiment.loss, experiment.optimizer, steps_per_call=config.train.steps_per_call
            ),
            state,
            experiment.batches(),
            steps=config.train.steps,
            log_every=config.train.log_every,
            evaluate=evaluate,
            evaluate_every=config.train.evaluate_every,
            log=MetricsLog(folder.metrics),
            checkpoints=checkpoints,
            checkpoint_every=config.train.checkpoint_every,
            progress=make_progress(),
            stop=lambda: bool(received),
        )
    seconds = time.perf_counter() - start
    if folder.metrics.exists():
        learning_curves(folder.metrics, folder.curves)
    if received:
        _say(f"stopped at step {int(state.step)}; go on with --resume --out {folder.path}")
        return 128 + received[0]
    result = evaluate(state.evaluation_params())
    _report(experiment, result, int(state.step), seconds, folder, as_json)
    return 0


def evaluate_run(path: str, *, foreign: bool = True, as_json: bool = False) -> int:
    """Print the test accuracy of the latest checkpoint of a run."""
    folder = RunFolder(path)
    experiment, state = restore_run(folder, foreign=foreign)
    result = _evaluation(experiment)(state.evaluation_params())
    _report(experiment, result, int(state.step), None, folder, as_json)
    return 0


def _restore(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    try:
        return checkpoints.restore(state)
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error


def _evaluation(experiment: Experiment) -> Callable[[Any], dict[str, float]]:
    test = experiment.dataset.test
    rows = {"x": test.x, "y": test.y}
    return make_evaluation(experiment.row_metrics, rows, min(_EVALUATION_BATCH, len(test.y)))


def _announce(experiment: Experiment, device: str, step: int) -> None:
    dataset = experiment.dataset
    images = dataset.train.x[:1]
    _say(
        f"{dataset.name}: {len(dataset.train.y):,} images to train, {len(dataset.test.y):,} to test"
    )
    _say(f"device: {device}")
    _say(summary(experiment.model, experiment.params, images))
    if step:
        _say(f"resumed at step {step}")


def _report(
    experiment: Experiment,
    result: dict[str, float],
    step: int,
    seconds: float | None,
    folder: RunFolder,
    as_json: bool,
) -> None:
    total = len(experiment.dataset.test.y)
    if as_json:
        row = {"step": step, **{f"test_{k}": v for k, v in result.items()}, "run": str(folder.path)}
        print(json.dumps({**row, **({} if seconds is None else {"seconds": round(seconds, 3)})}))
        return
    right = round(result["accuracy"] * total)
    print(f"test accuracy {result['accuracy']:.4f} ({right} of {total}), loss {result['loss']:.4f}")
    if seconds is not None:
        _say(f"{step} steps in {seconds:.1f} s; results in {folder.path}")


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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
