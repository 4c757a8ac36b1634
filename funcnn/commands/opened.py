"""A run, opened by a command: whose code it imports is said, and its device chosen, before."""

from __future__ import annotations

from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import warn
from funcnn.experiment import Experiment, announce_foreign
from funcnn.runs.folder import RunFolder
from funcnn.runs.restored import restored
from funcnn.train import TrainState


def opened(folder: RunFolder, *, foreign: bool = True) -> tuple[Experiment, TrainState]:
    """What a run trained, and the state that is its result; without `foreign`, of names alone.

    Raises:
        ConfigError: the folder holds no run, or no checkpoint that fits its config.

    >>> opened(RunFolder("no/such/run"))
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: no/such/run: holds no run (no config.toml)
    """
    config = folder.read(foreign=foreign)
    announce_foreign(config)
    choose_platform(config.run.platform)
    return restored(folder, config, warn)
