"""Experiment and state of a run: what it trained, and where it has come to."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from funcnn.config import Config, ConfigError
from funcnn.experiment import Experiment, build_experiment
from funcnn.runs.folder import RunFolder
from funcnn.runs.training import result_step
from funcnn.train import CheckpointError, Checkpoints, TrainState


def restored(
    folder: RunFolder, config: Config, warn: Callable[[str], Any] = warnings.warn
) -> tuple[Experiment, TrainState]:
    """What a run trained, and the state that is its result.

    Raises:
        ConfigError: the data are not there, or there is no checkpoint that fits the config.
    """
    experiment = build_experiment(config)
    state = result_of(folder, config, experiment.first_state(), warn)
    return experiment, state


def result_of(
    folder: RunFolder, config: Config, like: TrainState, warn: Callable[[str], Any] = warnings.warn
) -> TrainState:
    """The state that is the result of a run: the best where its config says by what, or the newest.

    Raises:
        ConfigError: there is no checkpoint that fits.
    """

    def warn_of_older(text: str) -> None:
        warn(f"{text}; train --resume makes what comes after it again")

    try:
        checkpoints = Checkpoints(folder.checkpoints, warn=warn_of_older)
        return checkpoints.restore(like, result_step(config, checkpoints))
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error
