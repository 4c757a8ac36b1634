"""A run folder: the resolved config, what is known of the data, versions, metrics, checkpoints."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import platform
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from funcnn.config import Config, ConfigError, dump_config, load_config
from funcnn.config.toml import shortened, value_text
from funcnn.core.errors import first_line
from funcnn.data.contents import changes
from funcnn.data.known import Known
from funcnn.report.files import UNFINISHED, in_place_of
from funcnn.runs.lock import InUse, locked
from funcnn.train import MetricsError, MetricsLog

# What may change between a run and its resumption: how long, how often, where, on what.
_MAY_CHANGE = {"train", "mesh", "run.platform", "run.folder", "run.search"}
_LOCK = ".funcnn-lock"
# What a run that was killed before it began may have left behind.
_LEFTOVERS = {
    *(_LOCK, "versions.json", "data.json"),
    *(f"{name}{UNFINISHED}" for name in ("versions.json", "data.json", "config.toml")),
}


class RunFolder:
    """The folder of one run.

    >>> RunFolder("runs/x").metrics.name
    'metrics.jsonl'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.data = self.path / "data.json"
        self.metrics = self.path / "metrics.jsonl"
        self.speed = self.path / "speed.jsonl"  # apart: speeds differ from run to run
        self.tensorboard = self.path / "tensorboard"
        self.profile = self.path / "profile"
        self.checkpoints = self.path / "checkpoints"
        self.curves = self.path / "curves.png"
        self.pictures = self.path / "pictures"

    @contextmanager
    def held(self, warn: Callable[[str], Any] = warnings.warn) -> Iterator[None]:
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
                self._lock(stack, warn)
                yield
        finally:
            if not self.config.exists():
                for folder in reversed(made):
                    with suppress(OSError):  # something else is in it
                        folder.rmdir()

    def _lock(self, stack: ExitStack, warn: Callable[[str], Any]) -> None:
        try:
            if not stack.enter_context(locked(self.path / _LOCK)):
                warn(f"{self.path}: cannot be locked here; see that nobody else trains in it")
        except InUse as error:
            busy = "another process is training in it"
            if owner := error.owner:
                who = f"{owner.pid} on host {owner.host}"
                busy = f"another process, {who}, is training in it since {owner.since}"
            cure = "wait for it, or take another --out"
            if not error.certain:
                cure = f"if it no longer runs, remove {self.path / _LOCK}"
            raise ConfigError([f"{self.path}: {busy}; {cure}"]) from None
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
        changed = [
            f"{self.path}: {key} was {was} in this run and is {now} now; it cannot change on "
            "--resume, as the keys of train and mesh can"
            for key, was, now in changed_keys(load_config(self.config), config)
            if not _MAY_CHANGE & {key, key.split(".")[0]}
        ]
        if changed:
            raise ConfigError(changed)
        try:
            for path in (self.metrics, self.speed):
                MetricsLog(path).last_step(until=0)
        except MetricsError as error:
            raise ConfigError([f"{error}; remove this line to go on"]) from error

    def check_data(self, known: Known) -> None:
        """Raise ConfigError where the rows are not those that the run inside began with."""
        if changed := changes(self.known().contents, known.contents):
            message = f"its data have changed: {'; '.join(changed)}"
            cure = f'put them back, or begin a new run with model.init_from.path = "{self.path}"'
            raise ConfigError([f"{self.path}: {message}; {cure}"])

    def read(self, *, foreign: bool = True) -> Config:
        """The config of the run inside; without `foreign`, one that names no function.

        Raises:
            ConfigError: it holds no run, or its config names functions and must not.

        >>> RunFolder("no/such/run").read()
        Traceback (most recent call last):
        funcnn.config.load.ConfigError: no/such/run: holds no run (no config.toml)
        """
        if not self.holds_run():
            raise ConfigError([f"{self.path}: holds no run (no config.toml)"])
        return load_config(self.config, foreign=foreign)

    def known(self) -> Known:
        """What is known of the data of the run inside; ConfigError where that cannot be read."""
        try:
            return Known.from_json(self.data.read_text(encoding="utf-8"))
        except FileNotFoundError:
            message = "no such file; train --resume would not write it, a new run does"
            raise ConfigError([f"{self.data}: {message}"]) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ConfigError([f"{self.data}: {reason}"]) from error

    def begin(self, config: Config, device: str, known: Known) -> None:
        """Write the versions, what is known of the data, and the resolved config."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in ("funcnn", "jax", "jaxlib", "optax", "numpy")}
        versions |= {"python": platform.python_version(), "device": device}
        _write(self.path / "versions.json", json.dumps(versions, indent=2) + "\n")
        _write(self.data, known.to_json())
        _write(self.config, dump_config(config))  # the last: with it a run has begun

    def withdraw(self) -> None:
        """Take back what `begin` has written, where neither a record nor a state has come since."""
        if self.metrics.exists() or any(self.checkpoints.glob("step_*")):
            return
        for path in (self.config, self.data, self.path / "versions.json"):
            path.unlink(missing_ok=True)


def version(package: str) -> str:
    """The installed version of a package, "absent" where there is none.

    >>> version("no-such-package")
    'absent'
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def changed_keys(before: Config, now: Config) -> list[tuple[str, str, str]]:
    """The keys of which two configs have different values, each with both, as a config has them.

    >>> from funcnn.config import ModelConfig
    >>> changed_keys(*(Config(model=ModelConfig(name=name)) for name in ("mlp", "lenet")))
    [('model.name', '"mlp"', '"lenet"')]
    """
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    return [
        (key, _value(old, key), _value(new, key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _value(flat: dict[str, object], key: str) -> str:
    value = flat.get(key)
    return "absent" if value is None else shortened(value_text(value))


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
