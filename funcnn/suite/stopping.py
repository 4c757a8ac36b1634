"""What does not return is stopped, in Python at once; compiled code is left behind."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_SHARED = 3.0  # how often longer it may take where others have the processors
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

    It runs in a thread of its own, so that a loop in compiled code leaves this one free. Where
    other processes have the processors, a second counts when this one has had it, or three have
    gone by: what is slow for their sake alone is not without an answer.

    Raises:
        NoAnswer: it did not return in time.

    >>> answer(lambda: 3, 5.0)
    3
    >>> def endless():
    ...     while True:
    ...         pass
    >>> answer(endless, 0.1)
    Traceback (most recent call last):
    funcnn.suite.stopping.NoAnswer: no answer in 0.1 s...
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:  # it is raised again by whoever waits
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True, name="funcnn gradients")
    start, used = time.monotonic(), time.process_time()
    thread.start()
    thread.join(seconds)
    while thread.is_alive() and time.process_time() - used < seconds:
        left = start + seconds * _SHARED - time.monotonic()
        if left <= 0:
            break
        thread.join(min(left, seconds / 10))
    if thread.is_alive():
        had = time.process_time() - used
        busy = f", nor in {_SHARED * seconds:g} s with {had:.0f} s of a processor"
        _end(thread)
        text = f"no answer in {seconds:g} s{busy if had < seconds else ''}"
        raise NoAnswer(text, thread.is_alive())
    returned, value = outcome[0]
    if returned:
        return value
    raise value


def _end(thread: threading.Thread) -> None:
    """Raise an exception inside a thread, at its next step in Python, until it has ended.

    One that is raised in a callback of the collector, or in a `__del__`, is lost, and told to
    `sys.unraisablehook`.
    """
    identifier = ctypes.c_ulong(thread.ident or 0)
    original = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is _Stopped else original(lost)
    try:
        end = time.monotonic() + _GRACE
        while thread.is_alive() and time.monotonic() < end:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identifier, ctypes.py_object(_Stopped))
            thread.join(_GRACE / 8)
    finally:
        sys.unraisablehook = original
