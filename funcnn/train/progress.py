"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

# A bar is redrawn at most this often: the loop may make thousands of calls a second.
SECONDS_BETWEEN_UPDATES = 0.1
PER_SECOND = "_per_second"
STEPS_PER_SECOND = f"steps{PER_SECOND}"


class Progress(Protocol):
    """What `fit` tells a progress display. None of it waits for the device."""

    def start(self, steps: int, position: int) -> None:
        """The run goes from step `position` to `steps`."""
        ...

    def advance(self, position: int) -> None:
        """The steps up to `position` have been handed to the device."""
        ...

    def report(self, record: Mapping[str, Any]) -> None:
        """The metrics of a logged step are there, and the speed since the one before, if known."""
        ...

    def close(self) -> None:
        """The run is over, for whatever reason."""
        ...


def make_progress(stream: Any = None) -> Progress:
    """A bar when `stream` is a terminal, plain lines when not. Without one, standard error.

    >>> import io
    >>> stream = io.StringIO()
    >>> progress = make_progress(stream)
    >>> progress.start(200, 0)
    >>> progress.report({"step": 100, "loss": 0.25})
    >>> stream.getvalue()
    'step 100/200  loss 0.25\\n'
    """
    output: TextIO = sys.stderr if stream is None else stream
    return TerminalProgress(output) if output.isatty() else PlainProgress(output)


class PlainProgress:
    """One line for each logged step, for files and pipes.

    >>> progress = PlainProgress(sys.stdout)
    >>> progress.start(200, 0)
    >>> progress.report({"step": 100, "loss": 0.25, "accuracy": 0.5})
    step 100/200  loss 0.25  accuracy 0.5
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._steps = 0

    def start(self, steps: int, position: int) -> None:
        """Remember the total."""
        self._steps = steps

    def advance(self, position: int) -> None:
        """Nothing: lines are for logged steps."""

    def report(self, record: Mapping[str, Any]) -> None:
        """Print the line."""
        print(describe_record(record, self._steps), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class TerminalProgress:
    """A bar with steps, their speed and time left; each logged step is a line above it.

    The speed is the one measured between the last two records: the bar itself moves when steps are
    handed to the device, which may be long before they are done.

    >>> import io
    >>> progress = TerminalProgress(io.StringIO())
    >>> progress.start(20, 0); progress.advance(20); progress.close()
    """

    def __init__(self, stream: TextIO):
        # Imported here: a library run without a display does not pay for it.
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[speed]}"),
            progress.TimeRemainingColumn(),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("training", start=False, total=None, speed="")
        self._steps = 0
        self._updated = 0.0

    def start(self, steps: int, position: int) -> None:
        """Show the bar."""
        self._steps = steps
        self._bar.update(self._task, total=steps, completed=position)
        self._bar.start_task(self._task)
        self._bar.start()

    def advance(self, position: int) -> None:
        """Move the bar, unless it has just been moved."""
        now = time.monotonic()
        if now - self._updated >= SECONDS_BETWEEN_UPDATES or position >= self._steps:
            self._updated = now
            self._bar.update(self._task, completed=position)

    def report(self, record: Mapping[str, Any]) -> None:
        """Print the line above the bar."""
        self._bar.console.print(describe_record(record, self._steps), highlight=False)
        if STEPS_PER_SECOND in record:
            speed = _described(STEPS_PER_SECOND, record[STEPS_PER_SECOND])
            self._bar.update(self._task, speed=speed)

    def close(self) -> None:
        """Leave the bar as it stands and give the cursor back."""
        self._bar.stop()


def describe_record(record: Mapping[str, Any], steps: int) -> str:
    """One line of a logged step, numbers to four digits, speeds with their unit behind them.

    >>> describe_record({"step": 5, "loss": 0.123456, "evaluation_accuracy": 0.98}, 10)
    'step 5/10  loss 0.1235  evaluation accuracy 0.98'
    >>> describe_record({"step": 5, "examples_per_second": 65432.1, "share_of_peak": 0.4}, 10)
    'step 5/10  65,430 examples/s  share of peak 0.4'
    """
    parts = [f"step {record['step']}/{steps}"]
    parts += [_described(name, value) for name, value in record.items() if name != "step"]
    return "  ".join(parts)


def _described(name: str, value: float) -> str:
    if name.endswith(PER_SECOND):
        return f"{float(f'{value:.4g}'):,.10g} {name.removesuffix(PER_SECOND)}/s"
    return f"{name.replace('_', ' ')} {value:.4g}"
