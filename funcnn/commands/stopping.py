"""How a training is asked to stop, and by whom it speaks: signals, and one of many processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from funcnn.train.processes import any_of_all, are_many, is_first


@contextmanager
def one_voice() -> Iterator[None]:
    """Of many processes the first alone says what all do; what goes wrong each says."""
    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def asked_to_stop(received: list[int], calls: int) -> Callable[[], bool]:
    """Whether a signal has come; of many processes all stop, at the same call, one in so many."""
    asked = itertools.count()

    def stop() -> bool:
        if not are_many():
            return bool(received)
        return next(asked) % max(calls, 1) == 0 and any_of_all(bool(received))

    return stop


@contextmanager
def signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted, and the run stops after its call; a second one stops it now."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt(signal.Signals(number).name)
        received.append(number)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
