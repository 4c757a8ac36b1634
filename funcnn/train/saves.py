"""Which states of one `fit` are written, how, and who is told when they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from funcnn.train.background import Saving, on_host
from funcnn.train.checkpoint import Checkpoints
from funcnn.train.guard import TrainingError, check_params, check_training
from funcnn.train.processes import are_many
from funcnn.train.state import TrainState
from funcnn.types import Metrics


class Saves:
    """The saves of one `fit`: at most one is under way, in a thread, while the run goes on.

    A state is copied to the host, looked at, and handed over; from then on it counts as saved, and
    is not saved again. `tell(state, record)`, which `fit` sets, is called when it is on disk, with
    that copy, never before: at the next call of the step or a later one, at the next save, or at
    the end of the run.

    A save that has failed raises its CheckpointError at that same place, and no further call of the
    step is made; nobody is told of it, and the checkpoints before it are as they were. The state
    that the run has come to meanwhile is tried then. The last state is saved at once, and so is any
    where many processes share a state, which none can copy.

    `minutes` is the time after which a save is due; None for never.

    >>> saves = Saves(None)
    >>> saves.begin(0, steps=10)
    >>> saves.is_due()
    False
    """

    def __init__(self, checkpoints: Checkpoints | None, minutes: float | None = None):
        if minutes is not None and not 0 < minutes < float("inf"):
            raise ValueError(f"checkpoint_minutes must be a number above 0, found {minutes!r}")
        if minutes is not None and are_many():
            raise ValueError(
                "checkpoint_minutes: the clocks of many processes differ, and a save needs all of "
                "them; use checkpoint_every"
            )
        self._checkpoints = checkpoints
        self.tell: Callable[[TrainState, Mapping[str, Any]], None] = lambda state, record: None
        self._seconds = None if minutes is None else 60 * minutes
        self._saved: int | None = None  # the step of the state that was handed over last
        self._last: int | None = None  # the step at which the run ends
        self._since = time.monotonic()
        self._under_way: tuple[Saving, TrainState, Mapping[str, Any]] | None = None

    def begin(self, position: int, steps: int) -> dict[str, Any] | None:
        """The record that the checkpoint of the first step still owes to the log, or None.

        Raises TrainingError where the folder holds a later step; CheckpointError where it is not
        known which checkpoint is the best.
        """
        self._last, self._since = steps, time.monotonic()
        if self._checkpoints is None:
            return None
        self._checkpoints.best_step()  # which raises now where that is not known
        self._saved = self._checkpoints.latest()
        if self._saved is not None and self._saved > position:
            raise TrainingError(
                f"the run starts at step {position}, but {self._checkpoints.folder} holds a "
                f"checkpoint of step {self._saved}: resume from it, or choose another folder"
            )
        return self._checkpoints.record(position) if self._saved == position else None

    def is_due(self) -> bool:
        """Whether so many minutes have passed since the last save, or the begin of the run."""
        return self._seconds is not None and time.monotonic() - self._since >= self._seconds

    def save(
        self,
        state: TrainState,
        metrics: Metrics,
        position: int,
        record: dict[str, Any] | None = None,
        *,
        now: bool = True,
    ) -> None:
        """Hand a state over, once; with `now` it is on disk on return, and `tell` has been called.

        Raises TrainingError where its numbers are not finite: such a state is never saved.
        """
        if self._checkpoints is None or self._saved == position:
            if now:
                self.settle()
            return
        check_training(jax.device_get(metrics), position)
        untold = self._ended()
        alone = not are_many()
        state = on_host(state) if alone else state
        check_params(state.params, position)
        told = state, record or {"step": position}
        if alone and not now and position != self._last:
            self._under_way = self._checkpoints.save_in_background(state, record), *told
        else:
            self._checkpoints.save(state, record)
            untold.append(told)
        self._saved, self._since = position, time.monotonic()
        # Last of all: where somebody raises, this state is not lost.
        for each in untold:
            self.tell(*each)

    def told(self) -> str:
        """What has been saved last, and that a run goes on from it; "" where nothing has been.

        >>> Saves(None).told()
        ''
        """
        if self._saved is None:
            return ""
        return f" (step {self._saved} is saved, and --resume goes on from it)"

    def settle(self, *, wait: bool = True) -> None:
        """Tell of the save under way, if any, when it has ended; without `wait` only if it has."""
        if self._under_way is not None and (wait or self._under_way[0].has_ended()):
            for each in self._ended():
                self.tell(*each)

    def _ended(self) -> list[tuple[TrainState, Mapping[str, Any]]]:
        """Wait for the save under way, if any; what there is to tell of it."""
        if self._under_way is None:
            return []
        saving, state, record = self._under_way
        saving.join()
        self._under_way, saved, self._saved = None, self._saved, None
        saving.wait()
        self._saved = saved
        return [(state, record)]

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """However it ends inside, no save is under way behind it.

        An interrupt waits for the thread as well, and tells nobody.
        """
        try:
            yield
        except Exception:
            self.settle()
            raise
        else:
            self.settle()
        finally:
            if self._under_way is not None:
                self._under_way[0].join()

    def keep_best(
        self,
        state: TrainState,
        metrics: Metrics,
        unevaluated: dict[str, Any],
        record: Mapping[str, Any],
    ) -> None:
        """Save a state whose evaluation is the best so far, and note what it was chosen by.

        The choice waits for the save under way: it is noted of what can be restored alone.
        """
        if self._checkpoints is None or self._checkpoints.best is None:
            return
        self.settle()
        if self._checkpoints.would_be_best(record):
            # Killed from here on, the run evaluates this state again, and notes it then.
            self.save(state, metrics, record["step"], unevaluated)
        self._checkpoints.note(record)
