"""funcnn check: rules side by side in several processes, or one function of somebody else's."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import jax

from funcnn.commands.target import answered, check_name, check_writable, subjects
from funcnn.config import ConfigError
from funcnn.core.registry import Rule
from funcnn.gradient.case.memory import MEGABYTES
from funcnn.gradient.check import check
from funcnn.gradient.program.answering import NoAnswer, end_with
from funcnn.gradient.verdict.reports import CheckReports
from funcnn.gradient.verdict.results import CheckReport, Result
from funcnn.rules import registered_rules
from funcnn.types import Level

_MOST_PROCESSES = 8  # each holds JAX and what it has compiled, about half a gigabyte


def check_rules(
    names: Sequence[str],
    *,
    level: Level,
    case: str | None = None,
    seed: int = 0,
    target: str | None = None,
    arguments: str | None = None,
    processes: int | None = None,
    as_json: bool = False,
    html: str | None = None,
    strict: bool | None = None,
    seconds_each: float = 30.0,
    megabytes: float = MEGABYTES,
) -> int:
    """Check registered rules, all of them where none is named, or one target. 1 where one is wrong.

    Raises:
        ConfigError: as `subjects` does; an unknown case; what the function does not take.
    """
    check_writable("--html", html)
    _two_devices()
    chosen, args = subjects("check", names, target, arguments)
    if case is not None:
        _check_case(chosen, args, case, seed)
    options = {"level": level, "case": case, "seed": seed, "strict": strict}
    options |= {"seconds_each": seconds_each, "megabytes": megabytes}
    checked = _checked(chosen, args, processes, **options)
    reports = []
    for report in checked:
        reports.append(report)
        _show(report, as_json)
    if html is not None:
        CheckReports(tuple(reports)).to_html(html, facts={"level": level, "seed": str(seed)})
    if not as_json:
        _say_how_to_see_the_rest(reports)
    wrong = [report.target for report in reports if not report.ok]
    if wrong:
        print(f"wrong or not compared: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _show(report: CheckReport, as_json: bool) -> None:
    if as_json:
        for row in report.rows():
            print(json.dumps(row))
    else:
        print(report.text(), flush=True)


def _say_how_to_see_the_rest(reports: Sequence[CheckReport]) -> None:
    totals = {
        word: sum(report.counts[verdict] for report in reports)
        for verdict, word in (("inconclusive", "inconclusive"), ("skip", "skipped"))
    }
    if any(totals.values()):
        counts = ", ".join(f"{n:,} {word}" for word, n in totals.items())
        print(f"{counts}: --json and --html FILE list them, with the reasons", file=sys.stderr)


def _two_devices() -> None:
    """Some checks need two devices; one CPU can play both, when told before JAX starts."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        jax.config.update("jax_num_cpu_devices", 2)
    except RuntimeError:
        return  # JAX has started; the checks count what they skip


def _check_case(
    chosen: Sequence[tuple[str, Any]], args: tuple[Any, ...], case: str, seed: int
) -> None:
    if len(chosen) != 1:
        raise ConfigError(["check: --case needs one RULE, as in: funcnn check relu --case kink"])
    ((_, rule),) = chosen
    if not isinstance(rule, Rule) or args:
        raise ConfigError(["check: --case is for a Rule that is checked on its own cases"])
    known = [c.name for c in rule.cases(jax.random.key(seed))]
    check_name(f"check: {rule.name} has no case", case, known)


def _checked(
    chosen: Sequence[tuple[str, Any]],
    args: tuple[Any, ...],
    processes: int | None,
    **options: Any,
) -> Iterator[CheckReport]:
    """The reports in the order of the rules."""
    # Only funcnn's own rules are registered in another process.
    own = [name for name, subject in chosen if registered_rules().get(name) is subject]
    own = [n for n in own if registered_rules()[n].reference.__module__.startswith("funcnn.rules.")]
    wanted = min(processes or _usable_processes(), len(own))
    if wanted < 2 or len(own) < len(chosen):
        yield from (_check(path, subject, args, **options) for path, subject in chosen)
        return
    pool = ProcessPoolExecutor(
        wanted, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    workers: list[BaseProcess] = []
    try:
        with _termination_raises():
            with _interrupts_held_back():
                reports = pool.map(functools.partial(_check_by_name, **options), own)
                workers += multiprocessing.active_children()
            yield from reports
    except BaseException as error:
        for worker in multiprocessing.active_children():
            worker.terminate()  # what it computes is of no use to anybody any more
        # An interrupt ends the workers, too; of the two, it may be their end that is seen here.
        if isinstance(error, BrokenProcessPool) and any(map(_was_interrupted, workers)):
            raise KeyboardInterrupt from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _was_interrupted(worker: BaseProcess) -> bool:
    worker.join(timeout=1)
    # Where the pool's own thread has waited for it first, the code is known a moment later.
    deadline = time.monotonic() + 1
    while worker.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return worker.exitcode == -signal.SIGINT


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM as an interrupt, so that the workers end before their parent does."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usable_processes() -> int:
    """One for each core that we may use; on an accelerator one, since each would take it whole.

    Tracing holds Python's lock, so threads do not run side by side; processes do.
    """
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _MOST_PROCESSES)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """While processes start: an interrupt would have Python itself print a traceback there."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it lets interrupts through when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start_worker() -> None:
    """An interrupt ends a worker in silence, and it does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _two_devices()


def _check_by_name(name: str, **options: Any) -> CheckReport:
    return _check(name, registered_rules()[name], (), **options)


def _check(
    path: str, subject: Any, args: tuple[Any, ...], seconds_each: float, **options: Any
) -> CheckReport:
    run = functools.partial(check, **options)
    try:
        return answered("check", path, subject, args, seconds_each, run)
    except NoAnswer as error:
        end_with(1)
        return CheckReport(path, (Result(path, "answer", "", "", "fail", str(error)),), (), 1)
