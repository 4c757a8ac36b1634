"""Checkpoints of a run through orbax: whole or not there, checked byte for byte when read."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnn.train.averages import AVERAGES
from funcnn.train.best import Values, metric_of, read_values, write_values
from funcnn.train.extra import EXTRA
from funcnn.train.manifest import CheckpointError, DamagedCheckpoint, read_manifest
from funcnn.train.signature import Leaf, Signature, first_of, signature
from funcnn.train.state import TrainState
from funcnn.train.storage import read_arrays, read_state, reason, remove_for_good, sync, write_state

UNFINISHED = "unfinished-"


class Checkpoints:
    """The newest `keep` states of a run, each in a folder `step_00000100` of `folder`.

    Such a folder holds the arrays as orbax writes them, and a manifest: the shape and dtype of
    every leaf and the SHA-256 of every file, since orbax does not notice a changed byte in an
    array. It is written under another name and renamed when it is complete, so a save that fails,
    or is killed, leaves what was there before.

    With `best`, the name of a metric such as "evaluation_loss", the checkpoint whose evaluation was
    the best stays as well, however old; `higher_is_better` says which way is up. `fit` then saves
    each state whose evaluation is better than all before it, due or not. The values stand in
    `best.json` of the folder, which one rename replaces: a run that is killed between a save and
    its record evaluates that state again when it goes on, and chooses as it would have chosen.

    `warn` is given one line where something went wrong that stops nothing: a damaged checkpoint
    that is passed over, an old one that cannot be removed. By default it is `warnings.warn`.

    >>> import tempfile, numpy as np, optax
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
        *,
        best: str | None = None,
        higher_is_better: bool = False,
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, found {keep}")
        self.folder = Path(folder).absolute()  # orbax takes no relative paths
        self.keep = keep
        self.best, self.higher_is_better = best, higher_is_better
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
        """Write `state`; it is on disk on return. Then old ones are removed, never the best.

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
        values = read_values(self.folder)
        unfinished = self.folder / f"{UNFINISHED}{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._set_damaged_aside()
            self._remove_unfinished()
            if values is not None and step in values.at:  # that of another state of this step
                write_values(self.folder, values.without(step))
            write_state(unfinished, state, record)
            self._publish(unfinished, self._path(step))
        except Exception as error:  # whatever orbax, the disk or the system raises
            remove_for_good(unfinished)
            message = f"could not save step {step} to {self.folder}: {reason(error)}"
            raise CheckpointError(message) from error
        self._remove_old()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of `step`, or of the newest whole one, with the tree and placement of `like`.

        `like` is a TrainState of the same model and optimizer, or the same tree of
        `jax.ShapeDtypeStruct`; a field that is None there, as `optimizer_state` may be, is not
        read. Without `step`, a damaged checkpoint is passed over, with a warning
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

    def params(self, step: int | None = None) -> dict[str, np.ndarray]:
        """The params of `step`, or of the newest checkpoint, by name: `dense_0/w`.

        They are the averages where the state holds some. Nothing need be known of the model, nor of
        its optimizer. Raises CheckpointError as `restore` does; a damaged one is not passed over.
        """
        path = self._path(self._existing_steps()[-1] if step is None else self._existing(step))
        leaves = read_manifest(path).leaves
        prefix = f"{EXTRA}/{AVERAGES}/"
        if not any(name.startswith(prefix) for name in leaves):
            prefix = "params/"
        like = {n: Leaf.of(leaf) for n, leaf in leaves.items() if n.startswith(prefix)}
        shapes = {n: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for n, leaf in like.items()}
        arrays = read_arrays(path, shapes)
        own = {n: Leaf.of(leaves["params/" + n.removeprefix(prefix)]).dtype for n in arrays}
        return {n.removeprefix(prefix): np.asarray(a, own[n]) for n, a in arrays.items()}

    def best_step(self) -> int | None:
        """The step of the best checkpoint that there is, None where none has been evaluated.

        Raises DamagedCheckpoint where `best.json` has changed since it was written.
        """
        values = read_values(self.folder)
        return None if values is None else values.best(self.steps())

    def restore_best(self, like: TrainState) -> TrainState:
        """The state of the best checkpoint, as `restore` gives that of the newest.

        Raises CheckpointError as `restore` does, and where none has been evaluated; none stands in
        for a best one that is damaged.
        """
        step = self.best_step()
        if step is None:
            raise CheckpointError(
                f"no best checkpoint in {self.folder}: none has been evaluated by a run with "
                f"Checkpoints(..., best=metric)"
            )
        return self._restore(like, step)

    def would_be_best(self, record: Mapping[str, Any]) -> bool:
        """Whether the evaluation in a record is better than that of every other checkpoint.

        False where no `best` is kept. Raises ValueError where the record lacks the metric.
        """
        if self.best is None:
            return False
        at = {**self._values().at, record["step"]: metric_of(record, self.best, "best")}
        values = Values(self.best, self.higher_is_better, at)
        return values.best([*self.steps(), record["step"]]) == record["step"]

    def note(self, record: Mapping[str, Any]) -> None:
        """Note the evaluation of a checkpoint, where a `best` is kept and there is that checkpoint.

        Then those are removed that are neither new nor the best any more.
        """
        if self.best is None or record["step"] not in self.steps():
            return
        steps, value = self.steps(), metric_of(record, self.best, "best")
        at = {step: x for step, x in self._values().at.items() if step in steps}
        at |= {record["step"]: value} if math.isfinite(value) else {}
        try:
            write_values(self.folder, Values(self.best, self.higher_is_better, at))
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be written: {error.strerror}") from error
        self._remove_old()

    def _values(self) -> Values:
        """What has been noted of the metric to choose by; that of another metric is no guide."""
        values = read_values(self.folder)
        at = values.at if values is not None and values.metric == self.best else {}
        return Values(self.best or "", self.higher_is_better, at)

    def _remove_old(self) -> None:
        best = self.best_step()
        for old in self.steps()[: -self.keep]:
            if old != best:
                self._remove(self._path(old))

    def record(self, step: int) -> dict[str, Any] | None:
        """The metrics of `step` that had still to be logged when it was saved, or None."""
        return read_manifest(self._path(step), check_files=False).record

    def _restore(self, like: TrainState, step: int) -> TrainState:
        path = self._path(step)
        leaves = read_manifest(path).leaves
        unread = {field for field, tree in like._asdict().items() if tree is None}
        wanted = {n: leaf for n, leaf in leaves.items() if n.partition("/")[0] not in unread}
        phrases = _differences(wanted, signature(like))
        if phrases:
            raise CheckpointError(f"{path} does not fit the state to fill: {first_of(phrases)}")
        state = read_state(path, like)
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
        sync(self.folder)


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
