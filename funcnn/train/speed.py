"""How fast a run goes: steps, examples and tokens a second, and the share of the device's peak."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import jax

from funcnn.train.state import TrainState
from funcnn.train.writers import OneOrMoreWriters
from funcnn.types import Metrics, PyTree

# Of a speed record, what a person who looks on is shown beside the metrics.
SHOWN = ("steps_per_second", "examples_per_second", "tokens_per_second", "share_of_peak")


@dataclasses.dataclass(frozen=True)
class Speed:
    """What `fit(..., speed=Speed(...))` tells of its speed, and whom: records apart from metrics.

    A speed record goes to each of `log` beside each record of metrics: `step`, `seconds` since the
    last one, `steps_per_second`, and what follows from the numbers below. Speeds differ from run to
    run, so they stand in no record of metrics; those of a run and of its resumption stay equal.

    A device works on while the loop hands it further steps, so time is taken where the loop waits
    for it anyway: when the metrics of a record have arrived. From one record to the next all counts
    that a step takes, the making of batches, logging and `on_step` hooks, too. Left out are
    evaluations and saves with their hooks, but not what goes on behind them, and the first call of
    each number of steps, which compiles. Where no other call lies between two records, as before
    the first one of a short run, there is no speed record.

    Attributes:
        log: writers: `MetricsLog("speed.jsonl")`, `TensorBoardLog(folder)`, or a list.
        examples, tokens: how many there are in a step, those that fill a batch up, too.
        flops, peak_flops: operations of a step, and how many a second the devices can do at most:
            with both there is `share_of_peak`.

    >>> Speed(examples=64, flops=1e9, peak_flops=1e12).record(step=100, steps=50, seconds=0.5)
    {'step': 100, 'seconds': 0.5, 'steps_per_second': 100.0, 'examples_per_second': 6400.0, \
'share_of_peak': 0.1}
    """

    log: OneOrMoreWriters = ()
    examples: int | None = None
    tokens: int | None = None
    flops: float | None = None
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        for name in ("examples", "tokens", "flops", "peak_flops"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"speed: {name} must be above 0, or None, found {value!r}")

    def record(self, step: int, steps: int, seconds: float) -> dict[str, float]:
        """The speed record at `step`, of so many steps in so many seconds."""
        rate = steps / seconds
        record = {"step": step, "seconds": seconds, "steps_per_second": rate}
        for name, number in (("examples", self.examples), ("tokens", self.tokens)):
            if number is not None:
                record[f"{name}_per_second"] = number * rate
        if self.flops is not None and self.peak_flops is not None:
            record["share_of_peak"] = self.flops * rate / self.peak_flops
        return record


class Stopwatch:
    """The time of the calls of one run, but for what is left out.

    >>> watch = Stopwatch()
    >>> for _ in range(3):
    ...     state, metrics = watch.call(lambda: (None, {"loss": 1.0}), 4, {})
    >>> watch.lap()[0]  # the first call compiles
    8
    """

    def __init__(self):
        self._compiled: set[int] = set()  # numbers of steps for which a call has been made
        self._restart(time.perf_counter())

    def _restart(self, now: float) -> None:
        self._since, self._steps, self._without = now, 0, 0.0

    def call(
        self, call: Callable[[], tuple[TrainState, Metrics]], count: int, pending: PyTree
    ) -> tuple[TrainState, Metrics]:
        """Make a call of `count` steps; `pending` is what the call before it returned."""
        if count in self._compiled:
            self._steps += count
            return call()
        with self.left_out(pending):
            state, metrics = jax.block_until_ready(call())
        if not self._compiled:  # what came before, such as the first batch, is no step's
            self._restart(time.perf_counter())
        self._compiled.add(count)
        return state, metrics

    @contextlib.contextmanager
    def left_out(self, pending: PyTree) -> Iterator[None]:
        """What is done inside takes no time, but what the device has still to do of `pending`."""
        jax.block_until_ready(pending)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._without += time.perf_counter() - start

    def lap(self) -> tuple[int, float]:
        """Steps and seconds since the last lap, whose work the device must have done by now."""
        now = time.perf_counter()
        steps, seconds = self._steps, now - self._since - self._without
        self._restart(now)
        return steps, seconds
