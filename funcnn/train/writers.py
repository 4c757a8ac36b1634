"""Where the records of a run go: what a writer of metrics does, and the writers of one run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from funcnn.train.metrics_log import MetricsLog


@runtime_checkable
class MetricsWriter(Protocol):
    """What `fit` needs of anything that takes its records; `MetricsLog` and `TensorBoardLog` do.

    >>> class Printed:
    ...     def rewind(self, step):
    ...         print(f"goes on after step {step}")
    ...     def write(self, record):
    ...         print(record["step"], record["loss"])
    ...     def close(self):
    ...         pass
    >>> isinstance(Printed(), MetricsWriter)
    True
    """

    def rewind(self, step: int) -> None:
        """Drop, or never show, what was written beyond `step`: the run goes on from there.

        It is called once before the first record of a call of `fit`, with 0 where a run begins.
        Those steps are written again, with the same metrics.
        """
        ...

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record, `{"step": 100, "loss": 0.5, ...}`: numbers by name."""
        ...

    def close(self) -> None:
        """The run is over, for whatever reason; it may be said twice."""
        ...


OneOrMoreWriters: TypeAlias = MetricsWriter | Sequence[MetricsWriter]


class Writers:
    """The writers of one `fit`, as one; `name` is what an argument that is none is called.

    >>> Writers("log", "metrics.jsonl")
    Traceback (most recent call last):
    TypeError: log must be a MetricsWriter, such as MetricsLog(path), or a list of them, found a str
    """

    def __init__(self, name: str, writers: OneOrMoreWriters | None):
        given: list[Any] = [*writers] if isinstance(writers, list | tuple) else [writers]
        listed: list[MetricsWriter] = [writer for writer in given if writer is not None]
        for writer in listed:
            if not isinstance(writer, MetricsWriter):
                raise TypeError(
                    f"{name} must be a MetricsWriter, such as MetricsLog(path), or a list of them, "
                    f"found a {type(writer).__name__}"
                )
        # What can be read back comes last: a record that is there has been written everywhere.
        self._writers = sorted(listed, key=lambda writer: isinstance(writer, MetricsLog))
        self._readable = [writer for writer in listed if isinstance(writer, MetricsLog)][:1]

    def can_be_read(self) -> bool:
        """Whether one of them is a `MetricsLog`, which tells what a run has written before."""
        return bool(self._readable)

    def records(self, until: int) -> list[dict[str, Any]]:
        """The records up to step `until` of the first `MetricsLog`; none without one."""
        return self._readable[0].records(until) if self._readable else []

    def rewind(self, step: int) -> None:
        """Have all of them go on after `step`."""
        for writer in self._writers:
            writer.rewind(step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Hand a record to all of them."""
        for writer in self._writers:
            writer.write(record)

    def close(self) -> None:
        """Close all of them, also where one of them cannot be closed."""
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
