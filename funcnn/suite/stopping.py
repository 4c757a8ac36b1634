"""What does not return is stopped, in Python at once; compiled code is left behind."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

_GRACE = 2.0  # seconds that a thread has to end after it was told to


class NoAnswer(Exception):
    """Something has not returned; the message says after how long.

    Attributes:
        left_behind: whether its thread goes on, in compiled code that nothing can stop.
    """

    def __init__(self, message: str, left_behind: bool):
        super().__init__(message)
        self.left_behind = left_behind


class _Stopped(BaseException):
    """Raised inside a thread that has to end; no rule's `except Exception` takes it."""


def answer(function: Callable[[], Any], seconds: float) -> Any:
    """What a function returns, or raises, where it does so in time.

    It runs in a thread of its own, so that a loop in compiled code leaves this one free.

    Raises:
        NoAnswer: it did not return in time.

    >>> answer(lambda: 3, 5.0)
    3
    >>> def endless():
    ...     while True:
    ...         pass
    >>> answer(endless, 0.1)
    Traceback (most recent call last):
    funcnn.suite.stopping.NoAnswer: no answer in 0.1 s
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:  # it is raised again by whoever waits
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True, name="funcnn gradients")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _tell(thread)
        thread.join(_GRACE)
        raise NoAnswer(f"no answer in {seconds:g} s", thread.is_alive())
    returned, value = outcome[0]
    if returned:
        return value
    raise value


def _tell(thread: threading.Thread) -> None:
    """Raise an exception inside a thread, at its next step in Python."""
    identifier = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identifier, ctypes.py_object(_Stopped))
