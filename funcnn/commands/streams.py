"""Standard output and error of a command, also where it was started without them."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def open_missing_streams() -> None:
    """Put /dev/null in place of standard input, output and error where they are closed.

    Else the next file that is opened, a checkpoint perhaps, would get their number, and the log of
    some library would be written into it; and Python would print what goes to a missing standard
    error on standard output.

    >>> open_missing_streams()
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115, it is open to the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def write_any_text() -> None:
    """Standard output takes what its encoding has not as escapes, as standard error does.

    A name may hold half a surrogate pair, and that of a file bytes that are no text.

    >>> write_any_text()
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class Log:
    """Standard error that stops nothing: a line that cannot be written is lost, and all after it.

    >>> Log().isatty() in (True, False)
    True
    """

    def __init__(self):
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        """Write, or drop, text."""
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Hand on what has been written."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        # What is still in the buffer would make the interpreter fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def error_line(error: Exception) -> str:
    """The message of an error that says what is wrong by itself; else its kind too.

    >>> error_line(ValueError("no  number"))
    'ValueError: no number (--traceback shows where)'
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    ours = type(error).__module__.startswith("funcnn.") or isinstance(error, OSError)
    if ours and text:
        return text
    return f"{type(error).__name__}: {text[:300]} (--traceback shows where)"


def say(text: str) -> None:
    """A line of the log.

    >>> say("")
    """
    print(text, file=Log(), flush=True)


def warn(text: str) -> None:
    """A line of the log on something that went wrong and stops nothing.

    >>> warn("the picture could not be drawn")
    """
    say(f"funcnn: warning: {text}")
