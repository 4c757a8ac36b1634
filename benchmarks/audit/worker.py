"""One process that audits the sites it is told, so that a program that hangs can be ended."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import multiprocessing
import os
import time
from collections.abc import Iterable, Mapping
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
        # The tool itself once for each site: its programs take most of the time.
        levels = [level] + ["none"] * (len(cases) - 1)
        measured = [_measured(case, which) for case, which in zip(cases, levels, strict=True)]
    found = {"status": "audited", **summary(site, measured), "level": level, "cases": measured}
    return head(site) | found | {"seconds": round(time.perf_counter() - start, 1)}


def _measured(case: Any, level: str) -> dict[str, Any]:
    from measure import measure

    try:
        found = dataclasses.asdict(measure(case, level))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return {"label": case.label, "error": f"{type(error).__name__}: {first[:300]}"}
    for arm in ("manual", "automatic"):
        if found[arm] is not None:
            found[arm] = found[arm] | {"off": off(found[arm])}
    return found | {"surrogate": case.surrogate}


def off(worst: Mapping[str, Any]) -> bool:
    """Whether an error is beyond what the conditioning of the function explains."""
    from measure import OFF

    return not worst["ulps"] <= OFF + 4 * worst["floor"]


_RANK = {"right": 0, "better": 1, "inaccurate": 2, "wrong": 3}


def summary(site: Site, measured: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdict on a site, whom to blame, and the worst errors of its cases."""
    verdict, blame = "right", ""
    arms: dict[str, float] = {"manual": 0.0, "automatic": 0.0}
    judged = [m for m in measured if m.get("compared") or m.get("surrogate")]
    for case in judged:
        if case.get("surrogate"):
            return {"verdict": "surrogate", "blame": "", "manual": None, "automatic": None}
        for arm in arms:
            if case[arm]:
                arms[arm] = max(arms[arm], case[arm]["ulps"])
        manual = bool(case["manual"] and case["manual"]["off"])
        automatic = bool(case["automatic"] and case["automatic"]["off"])
        found = "right"
        if manual:
            found = "wrong" if case["contradiction"] else "inaccurate"
        elif automatic:
            found = "better"
        if _RANK[found] > _RANK[verdict]:
            verdict = found
            own = "autodiff" if site.kind == "no rule" else "rule"
            blame = ("both" if automatic else own) if manual else "autodiff"
    return {"verdict": verdict if judged else "no truth", "blame": blame, **arms}


def _plain(value: Any) -> Any:
    """JSON knows no infinity: it is written as text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, (int, str, bool, type(None))) else str(value)
