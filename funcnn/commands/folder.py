"""A run folder: the resolved config, the versions, metrics.jsonl, checkpoints and pictures."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from funcnn.commands.lock import InUse, locked
from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import warn
from funcnn.config import Config, ConfigError, dump_config, load_config
from funcnn.experiment import Experiment, announce_foreign, build_experiment
from funcnn.report.files import UNFINISHED, in_place_of
from funcnn.train import CheckpointError, Checkpoints, MetricsError, MetricsLog, TrainState

# What may change between a run and its resumption: how long, how often, where, on what.
_MAY_CHANGE = {"train", "run.platform", "run.folder", "run.search"}
_LOCK = ".funcnn-lock"
# What a run that was killed before it began may have left behind.
_LEFTOVERS = {
    *(_LOCK, "versions.json"),
    *(f"{name}{UNFINISHED}" for name in ("versions.json", "config.toml")),
}


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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the folder is there, and this process alone works in it.

        What was made for it is removed again where no run has begun inside. A run in a folder that
        cannot be written is held without a lock, since nothing will be written.

        Raises:
            ConfigError: it cannot be made or written, or another process is training in it.

        >>> with RunFolder("/dev/null").held():
        ...     pass
        Traceback (most recent call last):
        funcnn.config.load.ConfigError: /dev/null: is a device; a run needs a folder (--out)
        """
        made = _make_folder(self.path)
        try:
            with ExitStack() as stack:
                self._lock(stack)
                yield
        finally:
            if not self.config.exists():
                for folder in reversed(made):
                    with suppress(OSError):  # something else is in it
                        folder.rmdir()

    def _lock(self, stack: ExitStack) -> None:
        try:
            if not stack.enter_context(locked(self.path / _LOCK)):
                warn(f"{self.path}: cannot be locked here; see that nobody else trains in it")
        except InUse:
            message = "another process is training in it; wait for it, or take another --out"
            raise ConfigError([f"{self.path}: {message}"]) from None
        except OSError as error:
            read_only = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
            if not (read_only and self.config.is_file()):
                raise ConfigError([f"{self.path}: cannot be written: {error.strerror}"]) from error

    def holds_run(self) -> bool:
        """Whether a run has begun in it; what one left that was killed before that is none."""
        return self.config.is_file()

    def check_new(self) -> None:
        """Raise ConfigError where the folder cannot take a new run."""
        if self.holds_run():
            message = "already holds a run; continue it with --resume, or take another --out"
            raise ConfigError([f"{self.path}: {message}"])
        if any(not _is_leftover(path) for path in self.path.iterdir()):
            raise ConfigError([f"{self.path}: is not empty; take another folder with --out"])

    def check_resumable(self, config: Config) -> None:
        """Raise ConfigError where the run inside cannot be continued with this config."""
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
        try:
            MetricsLog(self.metrics).last_step(until=0)
        except MetricsError as error:
            raise ConfigError([f"{error}; remove this line to go on"]) from error

    def begin(self, config: Config, device: str) -> None:
        """Write the resolved config and the versions."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in ("funcnn", "jax", "jaxlib", "optax", "numpy")}
        versions |= {"python": platform.python_version(), "device": device}
        _write(self.path / "versions.json", json.dumps(versions, indent=2) + "\n")
        _write(self.config, dump_config(config))  # the last: with it a run has begun


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

    def warn_of_older(text: str) -> None:
        warn(f"{text}; train --resume makes what comes after it again")

    try:
        checkpoints = Checkpoints(folder.checkpoints, warn=warn_of_older)
        state = checkpoints.restore(experiment.first_state())
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
    with in_place_of(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _is_leftover(path: Path) -> bool:
    if path.name == "checkpoints" and path.is_dir():
        return all(inside.name.startswith("unfinished-") for inside in path.iterdir())
    return path.name in _LEFTOVERS


def _make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it; those that were not there, in the order of their making."""
    made: list[Path] = []
    try:
        for folder in [*reversed(path.parents), path]:
            kind = _kind(folder)
            if kind == "a folder":
                continue
            if kind:
                message = (
                    "a run needs a folder" if folder == path else "no folder can be made under it"
                )
                raise ConfigError([f"{folder}: is {kind}; {message} (--out)"])
            folder.mkdir()
            made.append(folder)
    except OSError as error:
        for folder in reversed(made):
            folder.rmdir()
        message = f"cannot be made: {error.strerror}; take another folder with --out"
        raise ConfigError([f"{path}: {message}"]) from error
    return made


def _kind(path: Path) -> str:
    """What lies at a path, in words; "" for nothing."""
    if path.is_dir():
        return "a folder"
    if not os.path.lexists(path):
        return ""
    if path.is_symlink() and not path.exists():
        return f"a link to {os.readlink(path)}, which is not there"
    mode = path.stat().st_mode
    kinds = {"a file": stat.S_ISREG, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((kind for kind, is_so in kinds.items() if is_so(mode)), "a device")
