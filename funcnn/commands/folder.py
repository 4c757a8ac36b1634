"""A run folder: the resolved config, the versions, metrics.jsonl, checkpoints and pictures."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

from funcnn.commands.platform import choose_platform
from funcnn.config import Config, ConfigError, dump_config, load_config
from funcnn.experiment import Experiment, announce_foreign, build_experiment
from funcnn.train import CheckpointError, Checkpoints, TrainState

# What may change between a run and its resumption: how long, how often, where, on what.
_MAY_CHANGE = {"train", "run.platform", "run.folder", "run.search"}


class RunFolder:
    """The folder of one run.

    >>> RunFolder("runs/x").metrics.name
    'metrics.jsonl'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.curves = self.path / "curves.png"
        self.pictures = self.path / "pictures"

    def check_new(self) -> None:
        """Raise ConfigError where the folder cannot take a new run."""
        if self.path.is_file():
            raise ConfigError([f"{self.path}: is a file; a run needs a folder (--out)"])
        if self.config.exists():
            told = "already holds a run; continue it with --resume, or take another --out"
            raise ConfigError([f"{self.path}: {told}"])
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ConfigError([f"{self.path}: is not empty; take another folder with --out"])

    def check_resumable(self, config: Config) -> None:
        """Raise ConfigError where the run inside cannot be continued with this config."""
        if not self.config.is_file():
            raise ConfigError([f"{self.path}: holds no run to resume; leave out --resume"])
        if not self.checkpoints.is_dir() or not any(self.checkpoints.iterdir()):
            raise ConfigError([f"{self.checkpoints}: no checkpoint to resume from; start anew"])
        before, now = (_flat(c.model_dump()) for c in (load_config(self.config), config))
        changed = [
            f"{self.path}: {key} was {before.get(key)!r} in this run and is {now.get(key)!r} now; "
            "it cannot change on --resume"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
            and key not in _MAY_CHANGE
            and key.split(".")[0] not in _MAY_CHANGE
        ]
        if changed:
            raise ConfigError(changed)

    def begin(self, config: Config, device: str) -> None:
        """Write the resolved config and the versions."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in ("funcnn", "jax", "jaxlib", "optax", "numpy")}
        versions |= {"python": platform.python_version(), "device": device}
        _write(self.path / "versions.json", json.dumps(versions, indent=2) + "\n")
        _write(self.config, dump_config(config))


def restore_run(folder: RunFolder, *, foreign: bool = True) -> tuple[Experiment, TrainState]:
    """What a run trained, and its newest checkpoint; without `foreign`, of funcnn's models only.

    Raises:
        ConfigError: the folder holds no run, or no checkpoint that fits its config.

    >>> restore_run(RunFolder("no/such/run"))
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: no/such/run: holds no run (no config.toml)
    """
    if not folder.config.is_file():
        raise ConfigError([f"{folder.path}: holds no run (no config.toml)"])
    config = load_config(folder.config, foreign=foreign)
    announce_foreign(config)
    choose_platform(config.run.platform)
    experiment = build_experiment(config)
    try:
        state = Checkpoints(folder.checkpoints).restore(experiment.first_state())
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error
    return experiment, state


def version(package: str) -> str:
    """The installed version of a package, "absent" where there is none.

    >>> version("no-such-package")
    'absent'
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _flat(tree: dict[str, object], path: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        flat |= _flat(value, here) if isinstance(value, dict) else {here: value}
    return flat


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
