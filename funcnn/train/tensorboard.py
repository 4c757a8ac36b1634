"""The records of a run for TensorBoard, in its own files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funcnn.train.metrics_log import MetricsError

_VERSION = "brain.Event:2"  # of the files; from this one on, a START drops what came before


class TensorBoardLog:
    """A `MetricsWriter` for TensorBoard: each number of a record is a scalar of its name.

    A record is in the file when `write` returns. Files are only ever added to: a run that goes on
    after some step begins a new one, with the mark by which TensorBoard drops what older files hold
    beyond that step. To look at it: `tensorboard --logdir FOLDER`.

    It needs `tensorboardX`, which has the format without TensorFlow; else ModuleNotFoundError says
    how to get it. MetricsError where a file cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> log = TensorBoardLog(folder)
    >>> log.write({"step": 10, "loss": 2.5})
    >>> [path.name for path in folder.iterdir()]
    ['events.out.tfevents....after_step_00000000']
    """

    def __init__(self, folder: str | os.PathLike[str]):
        # tensorboardX's own SummaryWriter is not used: it writes in a thread, which a full disk
        # ends, and then waits for that thread for ever; and its flush does not wait for it.
        if importlib.util.find_spec("tensorboardX") is None:
            raise ModuleNotFoundError(
                "TensorBoardLog needs tensorboardX: pip install 'funcnn[tensorboard]'"
            )
        self.folder = Path(folder)
        self._after = 0  # the step with which the files before this one end
        self._path: Path | None = None

    def rewind(self, step: int) -> None:
        """Have TensorBoard drop what it has been shown beyond `step`, once a record is written."""
        self._after, self._path = step, None

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record to the file; the first one makes it."""
        scalars = {name: float(value) for name, value in record.items() if name != "step"}
        values = [{"tag": name, "simple_value": value} for name, value in scalars.items()]
        frames = _frame(step=record["step"], summary={"value": values})
        path = self._path or self._new_path()
        if self._path is None:
            start = _frame(step=self._after + 1, session_log={"status": "START"})
            frames = _frame(file_version=_VERSION) + start + frames
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(frames)
        except OSError as error:
            raise MetricsError(f"{path} cannot be written: {error.strerror}") from error
        self._path = path

    def close(self) -> None:
        """Nothing is left open: a record is in the file when `write` returns."""

    def _new_path(self) -> Path:
        # Files are read in the order of their names, which begin with the second; a run that goes
        # on in the same second comes later by its step.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        return self.folder / f"{name}.after_step_{self._after:08d}"


def _frame(**event: Any) -> bytes:
    """An event as it stands in a file: its length, a checksum of that, itself, and its checksum."""
    protocol = importlib.import_module("tensorboardX.proto.event_pb2")
    checksum = importlib.import_module("tensorboardX.record_writer").masked_crc32c
    content = protocol.Event(wall_time=time.time(), **event).SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join(part + struct.pack("<I", checksum(part)) for part in (length, content))
