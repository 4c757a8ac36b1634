"""What does not return is stopped, in Python at once; compiled code is left behind."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

_GRACE = 2.0  # seconds that a thread has to end after it was told to
_TIMES = 5  # that it is told
_SHARED = 3.0  # how often longer it may take where others have the processors


class NoAnswer(Exception):
    """Something has not returned; the message says after how long, and in what."""


class _Stopped(BaseException):
    """Raised inside a thread that has to end; no rule's `except Exception` takes it."""


class _Signs:
    """Signs that something goes on: steps that are announced, and programs that are compiled."""

    def __init__(self):
        self.last = 0.0, 0.0  # when there was one, by the clock and by the processors' time
        self.step: Callable[[], str] = str

    def __call__(self, *_: Any, **__: Any) -> None:
        self.last = _now()

    @functools.cached_property
    def of_jax(self) -> bool:
        """JAX tells of each program that it has traced or compiled; asked for once."""
        jax.monitoring.register_event_duration_secs_listener(self)
        return True


class _End:
    """How this process ends after a thread was stopped, whether it is left behind or not."""

    code, needed = 1, False

    def __call__(self) -> None:
        """At once: JAX, at its end, would wait for what it computes, and is no more in order."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(self.code)


_SIGNS, _END = _Signs(), _End()


def step(what: Callable[[], str]) -> None:
    """Announce what is begun, for whoever waits for an answer; its words are asked for then.

    >>> step(lambda: "check truth")
    """
    _SIGNS()
    _SIGNS.step = what


def answer(function: Callable[[], Any], seconds: float, *, patient: bool = False) -> Any:
    """What a function returns, or raises, where it does so in time.

    It runs in a thread of its own, so that a loop in compiled code leaves this one free. Where
    other processes have the processors, a second counts when this one has had it, or three have
    gone by: what is slow for their sake alone is not without an answer. After one that was stopped
    a process should end by `end_with`.

    Args:
        function: what is run.
        seconds: how long, before it is stopped.
        patient: whether these are counted from the last sign that it goes on: a `step`, or a
            program that JAX has traced or compiled.

    Raises:
        NoAnswer: it did not return in time.

    >>> answer(lambda: 3, 5.0)
    3
    >>> def endless():
    ...     while True:
    ...         pass
    >>> answer(endless, 0.1)
    Traceback (most recent call last):
    funcnn.gradient.program.answering.NoAnswer: no answer in 0.1 s...
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:  # it is raised again by whoever waits
            outcome.append((False, error))

    step(str)
    begun, had = _SIGNS.last, 0.0
    watched = patient and _SIGNS.of_jax
    thread = threading.Thread(target=run, daemon=True, name="funcnn gradients")
    thread.start()
    try:
        while thread.is_alive():
            gone, had = _since(_SIGNS.last if watched else begun)
            if (gone >= seconds and had >= seconds) or gone >= _SHARED * seconds:
                break
            thread.join(max(seconds - gone, seconds / 10))
    except KeyboardInterrupt:
        _end(thread)
        end_with(130)
        raise
    if thread.is_alive():
        busy = f", nor in {_SHARED * seconds:g} s with {had:.0f} s of a processor"
        doing = _SIGNS.step()
        where = f" in {doing}" if doing else ""
        _end(thread)
        raise NoAnswer(f"no answer in {seconds:g} s{busy if had < seconds else ''}{where}")
    returned, value = outcome[0]
    if returned:
        return value
    raise value


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _since(before: tuple[float, float]) -> tuple[float, float]:
    return time.monotonic() - before[0], time.process_time() - before[1]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Inside, nobody prints what a thread that is stopped was doing."""
    hook, logged = sys.unraisablehook, logging.root.manager.disable
    sys.unraisablehook = lambda found: None if found.exc_type is _Stopped else hook(found)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logged)
        sys.unraisablehook = hook


def _end(thread: threading.Thread) -> None:
    """Raise an exception inside a thread, at its next step in Python."""
    _END.needed = True
    identifier, stopped = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stopped)
    with _silence():
        for _ in range(_TIMES):  # what Python calls by itself, as it collects, drops exceptions
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identifier, stopped)
            thread.join(_GRACE / _TIMES)
            if not thread.is_alive():
                break


def end_with(code: int) -> None:
    """Where a thread was stopped, let this process end with a code without waiting for it.

    >>> end_with(1)
    """
    if _END.needed:
        _END.code = code
        atexit.unregister(_END)
        atexit.register(_END)
