"""What one `fit` tells while it goes on: its records, how fast its calls are, what is in them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from funcnn.train.profile import Profile
from funcnn.train.progress import Progress
from funcnn.train.speed import SHOWN, Speed, Stopwatch
from funcnn.train.state import TrainState
from funcnn.train.step import Update
from funcnn.train.writers import OneOrMoreWriters, Writers
from funcnn.types import Batch, Metrics, PyTree


class Telling:
    """The writers, the progress display, the speed and the profile of one `fit`, as one.

    >>> telling = Telling()
    >>> for position in (0, 1):
    ...     result = telling.call(lambda state, batch: (state, {}), None, None, {}, position, 1)
    >>> telling.lap(2)
    >>> telling.report({"step": 2, "loss": 0.5})
    """

    def __init__(
        self,
        log: OneOrMoreWriters | None = None,
        progress: Progress | None = None,
        speed: Speed | None = None,
        profile: Profile | None = None,
    ):
        self._speed, self._progress, self._profile = speed or Speed(), progress, profile
        self.log, self._speed_log = Writers("log", log), Writers("speed.log", self._speed.log)
        self._stopwatch = Stopwatch()
        self._measured: dict[str, float] = {}  # the speed, until it is reported

    def rewind(self, step: int, again: bool) -> None:
        """The run goes on after `step`; `again`: the record of this step is still to be written."""
        self._speed_log.rewind(step)
        # Writers that come before the log may have the record that the log lacks.
        self.log.rewind(step - 1 if again else step)

    def start(self, steps: int, position: int) -> None:
        """The run goes from step `position` to `steps`."""
        if self._progress is not None:
            self._progress.start(steps, position)

    def call(
        self,
        step: Update,
        state: TrainState,
        batch: Batch,
        pending: Metrics,
        position: int,
        count: int,
    ) -> tuple[TrainState, Metrics]:
        """`step(state, batch)`, of `count` steps; `pending` are the metrics of the call before."""
        profile = self._profile
        if profile is None:
            return self._stopwatch.call(lambda: step(state, batch), count, pending)
        if profile.begins():
            with self.left_out(pending):
                profile.begin(pending)
        with profile.call(position, count):
            state, metrics = self._stopwatch.call(lambda: step(state, batch), count, pending)
        if profile.ends():
            with self.left_out(metrics):
                profile.end(metrics)
        return state, metrics

    def advance(self, position: int) -> None:
        """The steps up to `position` have been handed to the device."""
        if self._progress is not None:
            self._progress.advance(position)

    def left_out(self, pending: PyTree) -> AbstractContextManager[None]:
        """What is done inside is no part of the speed; the device does what is `pending` before."""
        return self._stopwatch.left_out(pending)

    def lap(self, position: int) -> None:
        """Measure up to now: the metrics of step `position` have just arrived."""
        steps, seconds = self._stopwatch.lap()
        self._measured = self._speed.record(position, steps, seconds) if steps else {}

    def report(self, record: Mapping[str, Any]) -> None:
        """Tell everybody a record, and the speed of the last lap, if it has not been told."""
        self.log.write(record)
        speed, self._measured = self._measured, {}
        if speed:
            self._speed_log.write(speed)
        if self._progress is not None:
            shown = {name: speed[name] for name in SHOWN if name in speed}
            self._progress.report({**record, **shown})

    def close(self) -> None:
        """The run is over, for whatever reason: close them all, also where one cannot be closed."""
        with contextlib.ExitStack() as stack:
            for part in (self.log, self._speed_log, self._profile, self._progress):
                if part is not None:
                    stack.callback(part.close)
