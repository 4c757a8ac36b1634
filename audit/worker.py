"""One process that audits the sites it is told, so that a program that hangs can be ended."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import multiprocessing
import os
import time
from typing import Any

from sites import Site


class Worker:
    """A process with a pipe to it, started again where one had to be ended."""

    def __init__(self, seconds: float, level: str):
        self.seconds, self.level = seconds, level
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.level), daemon=True)
        self._process.start()

    def audit(self, site: Site) -> dict[str, Any]:
        """The result for a site; the process is ended where it takes too long."""
        self._pipe.send(site)
        if self._pipe.poll(self.seconds):
            with contextlib.suppress(EOFError):
                return self._pipe.recv()
            why = "the process died"
        else:
            why = f"did not return within {self.seconds:.0f} s"
        self._process.terminate()
        self._start()
        return head(site) | {"status": "not audited", "reason": why}


def _serve(pipe: Any, level: str) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    with contextlib.suppress(EOFError):  # the parent is done
        while True:
            pipe.send(_plain(audit(pipe.recv(), level)))


def head(site: Site) -> dict[str, Any]:
    """The fields of a site."""
    return dataclasses.asdict(site) | {"key": site.key}


def audit(site: Site, level: str) -> dict[str, Any]:
    """One line of the results: measured by its cases, or the reason why not."""
    from cases.table import CASES, reason_for

    make = CASES.get(site.key)
    if make is None:
        return head(site) | {"status": "not audited", "reason": reason_for(site)}
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cases = make()
        except Exception as error:
            reason = f"no arguments: {type(error).__name__}: {str(error)[:200]}"
            return head(site) | {"status": "not audited", "reason": reason}
        # The whole level once for each site: its programs take most of the time.
        levels = [level] + ["none" if level == "none" else "fast"] * (len(cases) - 1)
        which = [
            each if level == "none" else case.level or each
            for case, each in zip(cases, levels, strict=True)
        ]
        measured = [_measured(case, each) for case, each in zip(cases, which, strict=True)]
    found = {"status": "audited", **summary(site, measured), "level": level, "cases": measured}
    return head(site) | found | {"seconds": round(time.perf_counter() - start, 1)}


def _measured(case: Any, level: str) -> dict[str, Any]:
    from measure import measure

    try:
        found = dataclasses.asdict(measure(case, level))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return {"label": case.label, "error": f"{type(error).__name__}: {first[:300]}"}
    return found | {"surrogate": case.surrogate}


def summary(site: Site, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """The verdict on a site, and the largest errors of its cases.

    "wrong" where it is the formula that misses; "inaccurate" where float32 loses the digits;
    "better" where it is right and the derivative without the rules is off; "right" else.
    A function without a rule of its own may call functions that have one: then the blame stands
    as it is. Where it calls none, what was blamed on "rule" is JAX's automatic derivative.
    """
    judged = [m for m in measured if m.get("compared")]
    if any(m.get("surrogate") for m in measured):
        for m in judged:
            m["off"] = []  # another derivative on purpose is not off
        return {"verdict": "surrogate", "ulps": None, "ulps_automatic": None}
    for m in judged if site.kind == "no rule" else ():
        for off in m["off"]:
            if off["blame"] == "rule" and not m["sites"]:
                off["blame"] = "autodiff"
    verdicts = [_verdict(off) for m in judged for off in m["off"]]
    verdict = next((v for v in ("wrong", "inaccurate", "better") if v in verdicts), "right")
    largest = {
        name: max((m[name] for m in judged if m[name] is not None), default=None)
        for name in ("ulps", "ulps_automatic")
    }
    return {"verdict": verdict if judged else "no truth", **largest}


def _verdict(off: Any) -> str:
    if off["blame"] == "autodiff" and off["ulps_automatic"] is not None:
        return "better"
    return "wrong" if off["algebra"] else "inaccurate"


def _plain(value: Any) -> Any:
    """JSON knows no infinity: it is written as text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, (int, str, bool, type(None))) else str(value)
