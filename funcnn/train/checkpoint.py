"""Checkpoints of a run through orbax: whole or not there, checked byte for byte when read."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnn.train.manifest import (
    CheckpointError,
    DamagedCheckpoint,
    read_manifest,
    write_manifest,
)
from funcnn.train.quiet import orbax_silenced
from funcnn.train.signature import Signature, first_of, leaf_names, signature
from funcnn.train.state import TrainState
from funcnn.types import Shaped

UNFINISHED = "unfinished-"
_LOOKS = 40  # until a folder that was removed stays away
_BETWEEN_LOOKS = 0.05  # seconds


class Checkpoints:
    """The newest `keep` states of a run, each in a folder `step_00000100` of `folder`.

    Such a folder holds the arrays as orbax writes them, and a manifest: the shape and dtype of
    every leaf and the SHA-256 of every file, since orbax does not notice a changed byte in an
    array. It is written under another name and renamed when it is complete, so a save that fails,
    or is killed, leaves what was there before.

    `warn` is given one line where something went wrong that stops nothing: a damaged checkpoint
    that is passed over, an old one that cannot be removed. By default it is `warnings.warn`.

    >>> import tempfile, optax
    >>> state = TrainState.create({"w": np.ones(3, np.float32)}, optax.adam(0.1), seed=0)
    >>> checkpoints = Checkpoints(tempfile.mkdtemp())
    >>> print(checkpoints.latest())
    None
    >>> checkpoints.save(state)
    >>> checkpoints.latest()
    0
    >>> checkpoints.restore(state).params["w"].tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: int = 2,
        warn: Callable[[str], Any] = warnings.warn,
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, found {keep}")
        self.folder = Path(folder).absolute()  # orbax takes no relative paths
        self.keep = keep
        self._warn = warn
        self._damaged: set[int] = set()  # those that `restore` passed over
        self._warned: set[str] = set()

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in increasing order; none for a missing folder.

        Those that `restore` has passed over as damaged are none.
        """
        return [step for step in self._written() if step not in self._damaged]

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None when there is none."""
        return (self.steps() or [None])[-1]

    def save(self, state: TrainState, record: dict[str, Any] | None = None) -> None:
        """Write `state`; it is on disk on return. Then all but the newest `keep` are removed.

        `record` holds the metrics of its step where they have still to be logged. A checkpoint that
        `restore` passed over as damaged is kept as `damaged-00000100`.

        Raises CheckpointError when it cannot be written, when two leaves have one name, or the
        folder holds a later step: that one would be taken for the newer state of the same run.
        """
        step = int(state.step)
        later = [other for other in self.steps() if other > step]
        if later:
            raise CheckpointError(
                f"{self.folder} holds a checkpoint of step {later[-1]}, later than step {step}: "
                f"go on from that one, or save to another folder"
            )
        unfinished = self.folder / f"{UNFINISHED}{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._set_damaged_aside()
            self._remove_unfinished()
            _write(unfinished, state, record)
            self._publish(unfinished, self._path(step))
        except Exception as error:  # whatever orbax, the disk or the system raises
            _remove_for_good(unfinished)
            message = f"could not save step {step} to {self.folder}: {_reason(error)}"
            raise CheckpointError(message) from error
        for old in self.steps()[: -self.keep]:
            self._remove(self._path(old))

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of `step`, or of the newest whole one, with the tree and placement of `like`.

        `like` is a TrainState of the same model and optimizer, or the same tree of
        `jax.ShapeDtypeStruct`. Without `step`, a damaged checkpoint is passed over, with a warning
        that says so, for the one before it.

        Raises CheckpointError when there is no such checkpoint or no whole one, when a byte of it
        has changed, or, naming the leaf, when one has another shape or dtype than in `like`.
        """
        if step is not None:
            return self._restore(like, self._existing(step))
        damaged: dict[int, str] = {}
        for newest in reversed(self._existing_steps()):
            try:
                state = self._restore(like, newest)
            except DamagedCheckpoint as error:
                damaged[newest] = str(error)
                continue
            if damaged:
                self._warn(f"{first_of(list(damaged.values()))}; taking step {newest} instead")
            self._damaged |= set(damaged)
            return state
        raise CheckpointError(
            f"no checkpoint is whole: {first_of(list(damaged.values()))}; "
            f"to start anew remove {self.folder} and resume, or take another folder"
        )

    def record(self, step: int) -> dict[str, Any] | None:
        """The metrics of `step` that had still to be logged when it was saved, or None."""
        return read_manifest(self._path(step), check_files=False).record

    def _restore(self, like: TrainState, step: int) -> TrainState:
        path = self._path(step)
        phrases = _differences(read_manifest(path).leaves, signature(like))
        if phrases:
            raise CheckpointError(f"{path} does not fit the state to fill: {first_of(phrases)}")
        state = _read(path, like)
        if int(state.step) != step:
            raise DamagedCheckpoint(f"{path} is damaged: it holds step {int(state.step)}")
        return state

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def _written(self) -> list[int]:
        names = [path.name for path in self.folder.glob("step_*") if path.is_dir()]
        steps = [int(name[5:]) for name in names if name[5:].isdecimal()]
        return sorted(step for step in steps if self._path(step).name in names)

    def _existing_steps(self) -> list[int]:
        steps = self._written()
        if not steps:
            raise CheckpointError(f"no checkpoint in {self.folder}: it has no folder 'step_...'")
        return steps

    def _existing(self, step: int) -> int:
        steps = self._existing_steps()
        if step not in steps:
            there = ", ".join(map(str, steps))
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}: there is {there}"
            )
        return step

    def _set_damaged_aside(self) -> None:
        for step in sorted(self._damaged):
            aside = self.folder / f"damaged-{step:08d}"
            if aside.exists():
                shutil.rmtree(aside)
            self._path(step).rename(aside)
        self._damaged.clear()

    def _remove_unfinished(self) -> None:
        for leftover in self.folder.glob(f"{UNFINISHED}*"):
            self._remove(leftover)

    def _remove(self, path: Path) -> None:
        """Remove a folder that nothing needs any more; a warning, once, where that fails."""
        removed = path.with_name(f"{UNFINISHED}removed-{path.name}")
        try:
            # Half of a checkpoint must not have the name of a whole one.
            if not path.name.startswith(UNFINISHED):
                path = path.rename(removed)
            shutil.rmtree(path)
        except OSError as error:
            if path.name not in self._warned:
                self._warned.add(path.name)
                self._warn(f"could not remove {path}, which is not needed: {error.strerror}")

    def _publish(self, unfinished: Path, path: Path) -> None:
        if path.exists():  # the same step again, from a run that went on from an earlier one
            replaced = self.folder / f"{UNFINISHED}replaced"
            path.rename(replaced)
            unfinished.rename(path)
            self._remove(replaced)
        else:
            unfinished.rename(path)
        _sync(self.folder)


def _remove_for_good(folder: Path) -> None:
    """Remove what a failed save has written, and what the threads of the library still write."""
    absent = 0
    for _ in range(_LOOKS):
        absent = 0 if folder.exists() else absent + 1
        if absent > 2:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_BETWEEN_LOOKS)


def _write(path: Path, state: TrainState, record: dict[str, Any] | None) -> None:
    """Arrays and manifest of `state` in a new folder, all flushed to disk."""
    import orbax.checkpoint as ocp

    # orbax takes arrays only, and a NumPy scalar is none. It joins the keys of a tree by dots, and
    # two leaves of the same joined key overwrite each other: it gets one level, of names of ours.
    arrays = {
        name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True)
    }
    path.mkdir()
    with orbax_silenced(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", arrays)
        checkpointer.wait_until_finished()
    leaves = {name: str(leaf) for name, leaf in signature(state).named().items()}
    write_manifest(path, leaves, record)
    _sync(path)


def _read(path: Path, like: TrainState) -> TrainState:
    import orbax.checkpoint as ocp

    def target(leaf: Shaped | np.ndarray) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None)
        if sharding is None:
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    leaves, treedef = jax.tree.flatten(like)
    names = leaf_names(like)
    try:
        with orbax_silenced(), ocp.StandardCheckpointer() as checkpointer:
            targets = dict(zip(names, map(target, leaves), strict=True))
            arrays = checkpointer.restore(path / "state", targets)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {_reason(error)}") from error
    return jax.tree.unflatten(treedef, [arrays[name] for name in names])


def _differences(saved: dict[str, str], like: Signature) -> list[str]:
    wanted = {name: str(leaf._replace(weak_type=False)) for name, leaf in like.named().items()}
    phrases = [
        f"{name} is {saved[name]} in the checkpoint and {wanted[name]} in the state"
        for name in wanted
        if name in saved and saved[name] != wanted[name]
    ]
    phrases += [f"{name} ({wanted[name]}) is not in it" for name in wanted if name not in saved]
    phrases += [f"{name} ({saved[name]}) is in it alone" for name in saved if name not in wanted]
    return phrases


def _reason(error: Exception) -> str:
    """What an error says in one line: of the storage library's long ones what the system said."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).splitlines() or [""])[0]
    system = line.split(" [os_error_code=")
    if len(system) > 1:
        return system[0].rsplit(": ", 1)[-1]
    return line or type(error).__name__


def _sync(folder: Path) -> None:
    """Flush a folder's entries, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
