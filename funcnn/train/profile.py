"""A trace of a few calls of the step, for Perfetto: what the host and the device did, and when."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from funcnn.types import PyTree

STEP = "train"  # the name of a call of the step in the trace, as in JAX's documentation


class Profile:
    """What `fit(..., profile=Profile(folder))` traces: `calls` calls of its step after the first.

    The first call compiles, and is left out; where fewer calls follow than asked for, those that
    there are are traced. JAX's profiler writes into `folder/plugins/profile/TIME/`, and `trace` is
    then the path of the file there that https://ui.perfetto.dev opens, None before that or where
    there is none. In it each call is an event "train" with its first step as `step_num`.

    `tell` is given one line when the trace is there; `warn` one where there is none, because the
    profiler fails, or the run has no second call: the run goes on. `warn` is by default
    `warnings.warn`. It is for one run: a second `fit` needs another.

    >>> Profile("runs/x/profile").trace is None
    True
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        calls: int = 3,
        *,
        tell: Callable[[str], Any] | None = None,
        warn: Callable[[str], Any] = warnings.warn,
    ):
        if calls < 1:
            raise ValueError(f"a profile is of 1 call or more, found calls={calls}")
        self.folder = Path(folder)
        self.calls = calls
        self.trace: Path | None = None
        self._tell, self._warn = tell, warn
        self._made = 0  # calls of the step, since the run began
        self._traced: tuple[int, int] | None = None  # the steps, while a trace is being taken
        self._over = False

    def begins(self) -> bool:
        """Whether the trace is to begin before the next call."""
        return self._made == 1 and not self._over

    def ends(self) -> bool:
        """Whether it is to end after the last one."""
        return self._traced is not None and self._made > self.calls

    def begin(self, pending: PyTree) -> None:
        """Begin, when the device has done what is `pending`."""
        jax.block_until_ready(pending)
        # Without the events of each function of Python, which are many and say little here.
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        try:
            jax.profiler.start_trace(
                self.folder, create_perfetto_trace=True, profiler_options=options
            )
        except Exception as error:  # another trace is being taken, perhaps
            self._fail(error)
        else:
            self._traced = (0, 0)

    @contextlib.contextmanager
    def call(self, position: int, count: int) -> Iterator[None]:
        """Inside, the steps after `position` are made in one call."""
        with jax.profiler.StepTraceAnnotation(STEP, step_num=position + 1):
            yield
        self._made += 1
        if self._traced is not None:
            self._traced = (self._traced[0] or position + 1, position + count)

    def end(self, pending: PyTree) -> None:
        """Write the trace, when the device has done what is `pending`."""
        assert self._traced is not None
        (first, last), self._traced, self._over = self._traced, None, True
        try:
            jax.block_until_ready(pending)
            jax.profiler.stop_trace()
            self.trace = max(self.folder.rglob("perfetto_trace.json.gz"), key=os.path.getmtime)
        except Exception as error:  # a full disk, perhaps
            self._fail(error)
            return
        if self._tell is not None:
            where = f"{self.trace}; open it at https://ui.perfetto.dev"
            self._tell(f"trace of steps {first} to {last}: {where}")

    def close(self) -> None:
        """The run is over: write what has been traced, or warn that there is nothing."""
        if self._traced is not None:
            self.end(None)
        elif not self._over:
            self._over = True
            what = "had its steps already" if not self._made else "ended with its first call"
            self._warn(f"no trace: the run {what}, and the first, which compiles, is not traced")

    def _fail(self, error: Exception) -> None:
        self._over = True
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        self._warn(f"no trace: the profiler failed: {reason}")
