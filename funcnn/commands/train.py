"""funcnn train."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import NamedTuple

import jax

from funcnn.commands.announcing import announce
from funcnn.commands.evaluate import report_test
from funcnn.commands.memory import fits_into_memory
from funcnn.commands.others import others_may_end, processes_of
from funcnn.commands.platform import choose_platform
from funcnn.commands.stopping import asked_to_stop, one_voice, signals
from funcnn.commands.streams import Log, say, warn
from funcnn.config import Config, ConfigError
from funcnn.core.usage import MissingStatistics
from funcnn.data.contents import contents_of
from funcnn.data.known import Known
from funcnn.experiment import Experiment, build_experiment
from funcnn.report import counted
from funcnn.runs.folder import RunFolder
from funcnn.runs.speed import speed_of, tokens_of
from funcnn.runs.start import starting_params
from funcnn.runs.training import (
    chosen_checkpoints,
    chosen_hooks,
    chosen_writers,
    result_step,
)
from funcnn.train import (
    CheckpointError,
    Checkpoints,
    MetricsWriter,
    Profile,
    Speed,
    TrainingError,
    TrainState,
    check_mesh,
    fit,
    keep_freed_memory,
    learning_curves,
    make_progress,
)
from funcnn.train.evaluation import Evaluation
from funcnn.train.guard import check_start
from funcnn.train.hooks import Hooks
from funcnn.train.processes import any_of_all, is_first, together
from funcnn.train.step import Step
from funcnn.types import Batch


def train(
    config: Config,
    *,
    resume: bool = False,
    strict: bool = False,
    profile: bool = False,
    as_json: bool = False,
) -> int:
    """Train as the config says; print the test's figures. The exit code, 128 + n after signal n.

    With `strict` a run whose newest checkpoint is damaged is not resumed from the one before it.
    """
    if strict and not resume:
        raise ConfigError(["--strict: is about what --resume goes on from; give both"])
    device = choose_platform(config.run.platform, processes_of(config))
    with others_may_end(), one_voice():
        return _train(config, device, resume, strict, profile, as_json)


def _train(
    config: Config, device: str, resume: bool, strict: bool, profile: bool, as_json: bool
) -> int:
    folder = RunFolder(config.run.folder)
    held = folder.held(warn) if is_first() else contextlib.nullcontext()
    with held, fits_into_memory(config, folder):
        begun = _begun(folder, config, resume)
        keep_freed_memory()
        # On a mesh each device draws what it holds, unless the params come from elsewhere.
        experiment = build_experiment(config, draw=not config.mesh or bool(config.model.init_from))
        known = Known.of(experiment.dataset, contents_of(experiment.dataset) if is_first() else ())
        if begun and is_first():
            folder.check_data(known)
        checkpoints = chosen_checkpoints(experiment, folder, warn)
        hooks = chosen_hooks(experiment)
        log, speed_log = chosen_writers(config, folder)
        step = experiment.step()
        if begun and checkpoints.latest() is not None:
            state = _restore(checkpoints, experiment.placed_state(step), strict)
        else:
            given = starting_params(config, experiment.params) if config.model.init_from else None
            state = experiment.placed_state(step, given)
        evaluate = experiment.evaluation(experiment.dataset.watched, step.placement)
        speed = _check_start(experiment, step, state, evaluate, speed_log)
        if not begun and is_first():
            folder.begin(config, device, known)
        together("the run has begun")
        begun_with = folder.read()
        announce(experiment, step.placement, device, int(state.step), resume, begun_with)
        if begun and int(state.step) > config.train.steps:
            return _past_its_end(experiment, step, folder, checkpoints, state, as_json)
        told = _Told(log, speed, Profile(folder.profile, tell=say, warn=warn) if profile else None)
        return _run(experiment, folder, checkpoints, hooks, told, step, state, evaluate, as_json)


def _begun(folder: RunFolder, config: Config, resume: bool) -> bool:
    """Whether the folder holds the run that goes on; the first of many processes looks for all."""
    begun = is_first() and resume and folder.holds_run()
    if begun:
        folder.check_resumable(config)
    elif is_first():
        folder.check_new()
    return any_of_all(begun)


class _Told(NamedTuple):
    """What is told of a run while it goes on, beside its progress."""

    log: list[MetricsWriter]
    speed: Speed | None
    profile: Profile | None


def _run(
    experiment: Experiment,
    folder: RunFolder,
    checkpoints: Checkpoints,
    hooks: Hooks,
    told: _Told,
    step: Step,
    state: TrainState,
    evaluate: Evaluation,
    as_json: bool,
) -> int:
    config = experiment.config.train
    first, start = int(state.step), time.perf_counter()
    with signals() as received:
        state, _ = fit(
            step,
            state,
            experiment.batches(step.placement),
            steps=config.steps,
            log_every=config.log_every,
            evaluate=evaluate,
            evaluate_every=config.evaluate_every,
            log=told.log,
            checkpoints=checkpoints,
            checkpoint_every=config.checkpoint_every,
            checkpoint_minutes=config.checkpoint_minutes,
            progress=make_progress(Log()),
            speed=told.speed,
            profile=told.profile,
            stop=asked_to_stop(received, config.log_every // step.steps_per_call),
            **hooks._asdict(),
        )
    seconds = time.perf_counter() - start
    _draw_curves(folder)
    last = int(state.step)
    if any_of_all(bool(received)) and last < config.steps:
        say(f"stopped at step {last}; go on with --resume --out {folder.path}")
        return 128 + (received[0] if received else signal.SIGTERM)
    if last < config.steps:
        why = "early stopping" if config.early_stopping else "a hook"
        say(f"ended at step {last} of {config.steps} by {why}")
    _report(experiment, step, folder, checkpoints, state, seconds, as_json)
    if not as_json:
        say(f"{_work(first, last, seconds)}; results in {folder.path}")
    return 0


def _draw_curves(folder: RunFolder) -> None:
    if not is_first() or not folder.metrics.exists():
        return
    try:
        learning_curves(folder.metrics, folder.curves)
    except (OSError, ValueError) as error:  # the run itself is whole
        warn(f"{folder.curves} could not be drawn: {getattr(error, 'strerror', error)}")


def _report(
    experiment: Experiment,
    step: Step,
    folder: RunFolder,
    checkpoints: Checkpoints,
    state: TrainState,
    seconds: float | None,
    as_json: bool,
) -> None:
    """What the result of the run, the last state or the best one, makes of the test."""
    best = result_step(experiment.config, checkpoints)
    if best is not None and best != int(state.step):
        state = checkpoints.restore(state, best)
    if best is not None:
        say(f"the best checkpoint by {experiment.config.train.best} is that of step {best}")
    report_test(experiment, state, seconds, folder, as_json, step.placement)


def _work(first: int, last: int, seconds: float) -> str:
    """What a call has done, which may be the end of a run, or nothing."""
    if first == last:
        return f"nothing to do: the run has its {counted(last, 'step')}"
    in_all = f", {last:,} in all" if first else ""
    return f"{counted(last - first, 'step')} in {seconds:.1f} s{in_all}"


def _past_its_end(
    experiment: Experiment,
    step: Step,
    folder: RunFolder,
    checkpoints: Checkpoints,
    state: TrainState,
    as_json: bool,
) -> int:
    """A run that has done more steps than are asked for: it is reported as it is."""
    last, wanted = int(state.step), experiment.config.train.steps
    say(f"nothing to do: the run is at step {last}, past train.steps = {wanted}")
    _report(experiment, step, folder, checkpoints, state, None, as_json)
    return 0


def _restore(checkpoints: Checkpoints, state: TrainState, strict: bool) -> TrainState:
    try:
        return checkpoints.restore(state, strict=strict)
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error


def _check_start(
    experiment: Experiment,
    step: Step,
    state: TrainState,
    evaluate: Evaluation,
    speed_log: list[MetricsWriter],
) -> Speed | None:
    """Trace a step and an evaluation, so that what cannot work leaves no half-made run behind.

    What is known of the speed of such steps is returned; None where none are left to do.
    """
    size, steps = step.steps_per_call, experiment.config.train.steps
    position = int(state.step)
    if position >= steps:
        return None
    count = (min(size, steps - position),) if size > 1 else ()
    try:
        batch = experiment.batches(step.placement)(position, *count)
        if step.placement is not None:
            step.of_batch(batch)
        step.jitted.eval_shape(state, batch)  # traced once: the first call takes it from here
        check_start(step, state, batch, evaluate)
        _check_mesh(step, state, batch)
    except (TypeError, ValueError, TrainingError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error.__cause__, MissingStatistics):
            message += (
                "; a pair (init, apply) has none: let the builder return the fnn.Layer itself"
            )
        raise ConfigError([message]) from error
    tokens = tokens_of(experiment.task, experiment.config.task.name)
    return speed_of(step, state, batch, speed_log, tokens, warn)


def _check_mesh(step: Step, state: TrainState, batch: Batch) -> None:
    first = batch if step.steps_per_call == 1 else jax.tree.map(lambda x: x[0], batch)
    try:
        check_mesh(step, state, first)
    except jax.errors.JaxRuntimeError as error:  # they may not fit whole, which is why they do not
        warn(f"mesh: the gradient could not be compared with that of whole params: {error}"[:200])
