"""Checkpoints of a run through orbax: whole or not there, checked byte for byte when read."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.report import counted
from funcnn.train.background import Saving, on_host
from funcnn.train.best import Values, metric_of, read_values, write_values
from funcnn.train.manifest import CheckpointError, DamagedCheckpoint, read_manifest
from funcnn.train.processes import is_first, together
from funcnn.train.reading import read_checkpoint, read_params
from funcnn.train.state import TrainState
from funcnn.train.step_folders import StepFolders
from funcnn.train.storage import reason, remove_for_good, write_state


class Checkpoints:
    """The newest `keep` states of a run, each in a folder `step_00000100` of `folder`.

    Such a folder holds the arrays as orbax writes them, and a manifest: the shape, dtype and
    SHA-256 of every leaf and the SHA-256 of every file, since orbax does not notice a changed byte
    in an array. It is written under another name and renamed when it is complete, so a save that
    fails, or is killed, leaves what was there before.

    `save` returns when the state is on disk, `save_in_background` when it has a copy to write; at
    most one is under way. Everything else waits for that one, and raises CheckpointError where it
    has failed: what is read here is never half of it.

    With `best`, the name of a metric such as "evaluation_loss", the checkpoint whose evaluation was
    the best stays as well, however old; `higher_is_better` says which way is up. `fit` then saves
    each state whose evaluation is better than all before it, due or not. The values stand in
    `best.json` of the folder, which one rename replaces: a run that is killed between a save and
    its record evaluates that state again when it goes on, and chooses as it would have chosen.

    `warn` is given one line where something went wrong that stops nothing: a damaged checkpoint
    that is passed over, an old one that cannot be removed. By default it is `warnings.warn`. Of a
    save in the background it is called in its thread.

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
        self.folder = Path(folder).absolute()  # whatever becomes of the current folder
        self.keep = keep
        self.best, self.higher_is_better = best, higher_is_better
        self._warn = warn
        self._folders = StepFolders(self.folder, warn)
        self._damaged: set[int] = set()  # those that `restore` passed over
        self._saving: Saving | None = None

    def wait(self) -> None:
        """Return when no save is under way. Raises CheckpointError, once, where it has failed."""
        if self._saving is not None:
            self._saving.join()
            saving, self._saving = self._saving, None
            saving.wait()

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in increasing order; none for a missing folder.

        Those that `restore` has passed over as damaged are none.
        """
        self.wait()
        return self._steps()

    def _steps(self) -> list[int]:
        return [step for step in self._folders.steps() if step not in self._damaged]

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
        self.wait()
        self._write(state, record)

    def save_in_background(self, state: TrainState, record: dict[str, Any] | None = None) -> Saving:
        """Begin to do what `save` does, in a thread, and return when the next step may be made.

        First it waits for the save before it. Then the arrays of devices are copied, since a step
        donates them; NumPy arrays are not, and nobody may write to them until it has ended. What
        `save` raises, `wait` raises, of what is returned and of this.
        """
        self.wait()
        state = on_host(state)
        self._saving = Saving(lambda: self._write(state, record))
        return self._saving

    def _write(self, state: TrainState, record: dict[str, Any] | None) -> None:
        step = int(state.step)
        later = [other for other in self._steps() if other > step]
        if later:
            raise CheckpointError(
                f"{self.folder} holds a checkpoint of step {later[-1]}, later than step {step}: "
                f"go on from that one, or save to another folder"
            )
        unfinished = self._folders.unfinished(step)
        try:
            if is_first():
                self._make_ready(step)
            self._damaged.clear()
            write_state(unfinished, state, record)
            if is_first():
                self._folders.publish(step)
        except Exception as error:  # whatever orbax, the disk or the system raises
            remove_for_good(unfinished)
            message = f"could not save step {step} to {self.folder}: {reason(error)}"
            raise CheckpointError(message) from error
        self._remove_old()

    def _make_ready(self, step: int) -> None:
        """Clear away what a new checkpoint of this step finds in its place."""
        values = read_values(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._folders.set_aside(self._damaged)
        self._folders.remove_unfinished()
        if values is not None and step in values.at:  # that of another state of this step
            write_values(self.folder, values.without(step))
        self._folders.unfinished(step).mkdir()

    def restore(
        self, like: TrainState, step: int | None = None, *, strict: bool = False
    ) -> TrainState:
        """The state of `step`, or of the newest whole one, with the tree and placement of `like`.

        `like` is a TrainState of the same model and optimizer, or the same tree of
        `jax.ShapeDtypeStruct`; a field that is None there, as `optimizer_state` may be, is not
        read, but for what a schedule-free optimizer evaluates with. Without `step`, a damaged
        checkpoint is passed over, with a warning that says so, for the one before it; with `strict`
        it is refused.

        Raises CheckpointError when there is no such checkpoint or no whole one; when a byte of it
        has changed, naming the file and the leaves that it hits; or, naming the leaf, when one has
        another shape or dtype than in `like`.
        """
        if step is not None:
            return self._restore(like, self._existing(step))
        if strict:
            return self._restore(like, self._existing_steps()[-1])
        damaged: dict[int, str] = {}
        for newest in reversed(self._existing_steps()):
            try:
                state = self._restore(like, newest)
            except DamagedCheckpoint as error:
                damaged[newest] = str(error)
                continue
            if damaged:
                self._warn(f"{_first_of(damaged)}; taking step {newest} instead")
            self._damaged |= set(damaged)
            return state
        raise CheckpointError(
            f"no checkpoint is whole: {_first_of(damaged)}; "
            f"to start anew remove {self.folder} and resume, or take another folder"
        )

    def params(self, step: int | None = None) -> dict[str, np.ndarray]:
        """The params of `step`, or of the newest checkpoint, by name: `dense_0/w`.

        They are the averages where the state holds some, and what a schedule-free optimizer
        evaluates. Nothing need be known of the model, nor of
        its optimizer. Raises CheckpointError as `restore` does; a damaged one is not passed over.
        """
        step = self._existing_steps()[-1] if step is None else self._existing(step)
        return read_params(self._folders.of(step))

    def best_step(self) -> int | None:
        """The step of the best checkpoint that there is, None where none has been evaluated.

        Raises DamagedCheckpoint where `best.json` has changed since it was written.
        """
        self.wait()
        return self._best_step()

    def _best_step(self) -> int | None:
        values = read_values(self.folder)
        return None if values is None else values.best(self._steps())

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
            if is_first():
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
        if is_first():
            best = self._best_step()
            for old in self._steps()[: -self.keep]:
                if old != best:
                    self._folders.remove(old)
        together("a checkpoint is written, and old ones are removed")

    def record(self, step: int) -> dict[str, Any] | None:
        """The metrics of `step` that had still to be logged when it was saved, or None."""
        self.wait()
        return read_manifest(self._folders.of(step)).record

    def _restore(self, like: TrainState, step: int) -> TrainState:
        return read_checkpoint(self._folders.of(step), like, step)

    def _existing_steps(self) -> list[int]:
        self.wait()
        steps = self._folders.steps()
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


def _first_of(damaged: Mapping[int, str]) -> str:
    """What is wrong with the newest of the damaged checkpoints, and how many more there are."""
    more = f" (and {counted(len(damaged) - 1, 'more checkpoint')})" if len(damaged) > 1 else ""
    return f"{next(iter(damaged.values()))}{more}"
