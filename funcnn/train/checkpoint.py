"""Checkpoints of a run through orbax: whole or not there, checked byte for byte when read."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np

from funcnn.train.signature import Signature, first_of, signature
from funcnn.train.state import TrainState

MANIFEST = "manifest.json"
UNFINISHED = "unfinished-"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another model, or could not be written.

    >>> issubclass(CheckpointError, ValueError)
    True
    """


class Checkpoints:
    """The newest `keep` states of a run, each in a folder `step_00000100` of `folder`.

    Such a folder holds the arrays as orbax writes them, and a manifest: the shape and dtype of
    every leaf and the SHA-256 of every file, since orbax does not notice a changed byte in an
    array. It is written under another name and renamed when it is complete, so a save that fails,
    or is killed, leaves what was there before.

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

    def __init__(self, folder, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = Path(folder).absolute()  # orbax takes no relative paths
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in increasing order; none for a missing folder."""
        names = [path.name for path in self.folder.glob("step_*") if path.is_dir()]
        return sorted(int(n.removeprefix("step_")) for n in names if n[5:].isdecimal())

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None when there is none."""
        return (self.steps() or [None])[-1]

    def save(self, state: TrainState) -> None:
        """Write `state`; it is on disk on return. Then all but the newest `keep` are removed.

        Raises CheckpointError when it cannot be written, or the folder holds a later step: that one
        would be taken for the newer state of the same run.
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
            self._remove_unfinished()
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(unfinished, state)
            self._publish(unfinished, self._path(step))
        except Exception as error:  # whatever orbax, the disk or the system raises
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"could not save step {step} to {self.folder}: {reason}"
            ) from error
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self._path(old))

    def restore(self, like, step: int | None = None) -> TrainState:
        """The state of `step`, the newest when not given, with the tree and placement of `like`.

        `like` is a TrainState of the same model and optimizer, or the same tree of
        `jax.ShapeDtypeStruct`. Raises CheckpointError when there is no such checkpoint, when a byte
        of it has changed, or, naming the leaf, when one has another shape or dtype than in `like`.
        """
        step = self._existing(step)
        path = self._path(step)
        leaves = _checked_manifest(path)
        phrases = _differences(leaves, signature(like))
        if phrases:
            raise CheckpointError(f"{path} does not fit the state to fill: {first_of(phrases)}")
        return _read(path, like)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def _existing(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"no checkpoint in {self.folder}: it has no folder 'step_...'")
        if step is not None and step not in steps:
            there = ", ".join(map(str, steps))
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}: there is {there}"
            )
        return steps[-1] if step is None else step

    def _remove_unfinished(self) -> None:
        for leftover in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover)

    def _publish(self, unfinished: Path, path: Path) -> None:
        if path.exists():  # the same step again, from a run that went on from an earlier one
            replaced = self.folder / f"{UNFINISHED}replaced"
            path.rename(replaced)
            unfinished.rename(path)
            shutil.rmtree(replaced)
        else:
            unfinished.rename(path)
        _sync(self.folder)


def _write(path: Path, state: TrainState) -> None:
    """Arrays and manifest of `state` in a new folder, all flushed to disk."""
    import orbax.checkpoint as ocp

    # orbax takes arrays only, and a NumPy scalar is none.
    state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), state)
    path.mkdir()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
    content = {
        "leaves": {name: str(leaf) for name, leaf in signature(state).named().items()},
        "files": {name: _digest(path / name) for name in _files(path)},
    }
    with (path / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({**content, "manifest": _digest_of(content)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync(path)


def _read(path: Path, like) -> TrainState:
    import orbax.checkpoint as ocp

    def target(leaf):
        sharding = getattr(leaf, "sharding", None)
        if sharding is None:
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path / "state", jax.tree.map(target, like))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read: {reason}") from error


def _checked_manifest(path: Path) -> dict[str, str]:
    """The leaves that the manifest names, once every file has been found unchanged."""
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        intact = content.pop("manifest") == _digest_of(content)
        files = content["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        intact, files, content = False, {}, {}
    if not intact:
        raise CheckpointError(f"{path} is damaged: its {MANIFEST} is missing or changed")
    for name, digest in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path} is damaged: file {name} is missing")
        if _digest(path / name) != digest:
            raise CheckpointError(f"{path} is damaged: file {name} has changed since it was saved")
    return content["leaves"]


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


def _files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Flush a folder's entries, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
