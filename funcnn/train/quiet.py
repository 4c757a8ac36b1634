"""Keep what orbax prints beside the error that it raises from the user."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeAlias

_LONGEST_WRITE = 10.0  # seconds
Hook: TypeAlias = "Callable[[sys.UnraisableHookArgs], Any]"


@contextlib.contextmanager
def orbax_silenced() -> Iterator[None]:
    """Inside, orbax's threads, tasks and coroutines report no failure but the one that is raised.

    A failed save fails in several threads at once, and each prints a traceback: through the loggers
    `absl` and `asyncio`, the hook of threads, or, when its coroutines are collected, the hook of
    what cannot be raised. Records and exceptions that are not of a save go where they went before.

    >>> with orbax_silenced():
    ...     pass
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    thread_hook, unraisable_hook = threading.excepthook, sys.unraisablehook

    def thread(args: threading.ExceptHookArgs) -> None:
        if not _of_orbax(args.exc_traceback, args.thread):
            thread_hook(args)

    for logger in loggers:
        logger.addFilter(_not_of_orbax)
    threading.excepthook, sys.unraisablehook = thread, _without_writes(unraisable_hook)
    try:
        yield
    except BaseException as error:
        _wait_for_orbax()
        # Tasks that failed are reported when they are collected: here, where nobody hears it.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        # Writes that are still under way end at some later time, so this hook stays, and so does
        # the filter: of a write that was never begun Python warns when it is collected.
        unraisable_hook = sys.unraisablehook
        warnings.filterwarnings("ignore", "coroutine '.*write_fragment' was never", RuntimeWarning)
        raise
    finally:
        threading.excepthook, sys.unraisablehook = thread_hook, unraisable_hook
        for logger in loggers:
            logger.removeFilter(_not_of_orbax)


def _wait_for_orbax() -> None:
    """Until the other threads of a save that failed have failed, too, or have written."""
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax"):
            threading.Thread.join(thread, _LONGEST_WRITE)  # its own join raises what it raised


def _without_writes(hook: Hook) -> Hook:
    """A hook of what cannot be raised that prints nothing of orbax's coroutines and writes."""
    if hasattr(hook, "without_writes"):
        return hook

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        # A write of the storage library that ends when orbax has closed its event loop.
        late = args.object is None and str(args.exc_value) == "Event loop is closed"
        if not (late or _of_orbax(args.exc_traceback, args.object)):
            hook(args)

    unraisable.without_writes = True  # pyright: ignore[reportFunctionMemberAccess]
    return unraisable


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in f"{record.pathname} {record.getMessage()}"


def _of_orbax(trace: TracebackType | None, source: object) -> bool:
    files = [frame.filename for frame in traceback.extract_tb(trace)]
    return "orbax" in f"{files} {source!r}"
