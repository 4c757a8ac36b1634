"""The metrics of a run as JSON lines, one for each logged step, never the same step twice."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.core.usage import as_integer
from funcnn.report import plain
from funcnn.report.files import in_place_of
from funcnn.types import ArrayLike

EVALUATION = "evaluation_"  # begins the names of metrics over a whole split


class MetricsError(ValueError):
    """A metrics file that is damaged, or cannot be written; it names the file, and the line.

    >>> issubclass(MetricsError, ValueError)
    True
    """


class MetricsLog:
    """A file of JSON lines, each with the key `step`; a line is in the file when `write` returns.

    Of the writers of metrics (`MetricsWriter`) it is the one that can be read back: what `fit`
    knows of a run that goes on, it knows from there.

    Numbers that are not finite are written as `null`, because JSON has no word for them;
    `read_metrics` gives them back as NaN.

    >>> import tempfile
    >>> log = MetricsLog(Path(tempfile.mkdtemp()) / "metrics.jsonl")
    >>> log.write({"step": 10, "loss": 2.5})
    >>> log.write({"step": 20, "loss": float("inf")})
    >>> log.rewind(10)
    >>> read_metrics(log.path)
    [{'step': 10, 'loss': 2.5}]
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line.

        Raises ValueError when `record` has no whole number `step`, MetricsError when it cannot be
        written.
        """
        line = {name: _plain(value) for name, value in record.items()}
        if as_integer(line.get("step")) is None:
            raise ValueError(f"a metrics record needs a whole number 'step', found {record!r}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise MetricsError(f"{self.path} cannot be written: {error.strerror}") from error

    def last_step(self, until: int) -> int | None:
        """The step of the last whole line up to step `until`; None without one.

        >>> print(MetricsLog("no/metrics.jsonl").last_step(until=10))
        None
        """
        return max([record["step"] for record in self.records(until)], default=None)

    def records(self, until: int) -> list[dict[str, Any]]:
        """The whole lines up to step `until`, as `read_metrics` gives them; none without a file.

        >>> MetricsLog("no/metrics.jsonl").records(until=10)
        []
        """
        if not self.path.exists():
            return []
        return [record for record in read_metrics(self.path) if record["step"] <= until]

    def rewind(self, step: int) -> None:
        """Drop the lines beyond `step`, and a last line that a crash cut off, in one atomic write.

        A run that goes on from `step` writes those steps again. A missing file stays missing.
        """
        if not self.path.exists():
            return
        old = self.path.read_bytes()
        kept = [line for line in _whole_lines(old) if _parse(self.path, line)["step"] <= step]
        new = b"".join(line + b"\n" for _, line in kept)
        if new == old:
            return
        try:
            with in_place_of(self.path) as unfinished:
                unfinished.write_bytes(new)
        except OSError as error:
            raise MetricsError(f"{self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is left open: a line is in the file when `write` returns."""


class OthersLog(MetricsLog):
    """The metrics file that another process writes: it is read alone.

    >>> OthersLog("no/metrics.jsonl").write({"step": 10, "loss": 2.5})
    """

    def write(self, record: Mapping[str, Any]) -> None:
        """Nothing: the other process does it."""

    def rewind(self, step: int) -> None:
        """Nothing, likewise."""


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a metrics file in order; `null` becomes NaN, a last line cut off is left out.

    Raises MetricsError naming file and line where a line is no record with a `step`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> MetricsLog(path).write({"step": 10, "loss": 0.5})
    >>> read_metrics(path)
    [{'step': 10, 'loss': 0.5}]
    """
    path = Path(path)
    lines = _whole_lines(path.read_bytes())
    records = [_parse(path, line) for line in lines]
    return [{k: math.nan if v is None else v for k, v in record.items()} for record in records]


def _plain(value: ArrayLike | str | None) -> ArrayLike | str | None:
    """A Python number (or text) of a scalar, None for what is not finite."""
    if isinstance(value, str | bool) or value is None:
        return value
    return plain(np.asarray(value).item())


def _whole_lines(content: bytes) -> list[tuple[int, bytes]]:
    """The lines that end in a newline, each with its number from 1."""
    return list(enumerate(content.split(b"\n")[:-1], start=1))


def _parse(path: Path, line: tuple[int, bytes]) -> dict[str, Any]:
    number, text = line
    try:
        record = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MetricsError(f"{path}, line {number}: not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise MetricsError(f"{path}, line {number}: not JSON: {reason}") from error
    if not isinstance(record, dict) or as_integer(record.get("step")) is None:
        raise MetricsError(
            f"{path}, line {number}: not a metrics record with a whole number 'step'"
        )
    return record
