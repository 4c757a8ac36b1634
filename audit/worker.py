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


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of funcnn beside: the level of `check`, the seconds of `hunt`."""

    level: str
    hunt: float

    @property
    def nothing(self) -> bool:
        """Whether nothing is asked."""
        return self.level == "none" and not self.hunt

    @classmethod
    def of(cls, wanted: Any, known: dict[str, Any]) -> Asked:
        """What is wanted, less what a result holds already."""
        level = wanted.level if known["level"] == "none" else "none"
        return cls(level, 0 if known.get("hunt") else wanted.hunt)


class Worker:
    """A process with a pipe to it, started again where one had to be ended."""

    def __init__(self, seconds: float, asked: Asked):
        self.seconds, self.asked = seconds, asked
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.asked), daemon=True)
        self._process.start()

    def audit(self, site: Site, known: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result for a site; the process is ended where it takes too long.

        Where a result is known, what is asked is added to it, and nothing else is done again.
        """
        self._pipe.send((site, known))
        if self._pipe.poll(self.seconds):
            with contextlib.suppress(EOFError):
                return self._pipe.recv()
            why = "the process died"
        else:
            why = f"did not return within {self.seconds:.0f} s"
        self._process.terminate()
        self._start()
        if known is not None and known["status"] == "audited":
            cases = [case | {"check": f"no answer: {why}"} for case in known["cases"]]
            return known | {"level": self.asked.level, "hunt": self.asked.hunt, "cases": cases}
        return head(site) | {"status": "not audited", "reason": why}


def _serve(pipe: Any, asked: Asked) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    with contextlib.suppress(EOFError):  # the parent is done
        while True:
            pipe.send(_plain(audit(*pipe.recv(), asked)))


def head(site: Site) -> dict[str, Any]:
    """The fields of a site."""
    return dataclasses.asdict(site) | {"key": site.key}


def audit(site: Site, known: dict[str, Any] | None, asked: Asked) -> dict[str, Any]:
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
        if known is not None and known["status"] == "audited":
            left = Asked.of(asked, known)
            said = [_said(case, *which) for case, *which in _which(cases, left)]
            added = [case | more for case, more in zip(known["cases"], said, strict=True)]
            return known | {"level": asked.level, "hunt": asked.hunt, "cases": added}
        measured = [_measured(case) | _said(case, *which) for case, *which in _which(cases, asked)]
    found = {"status": "audited", **summary(site, measured), **dataclasses.asdict(asked)}
    seconds = round(time.perf_counter() - start, 1)
    return head(site) | found | {"cases": measured, "seconds": seconds}


def _which(cases: list[Any], asked: Asked) -> list[tuple[Any, str, float]]:
    """Each case with its level of `check` and the seconds of its hunt.

    The whole level once for each site, as its programs take most of the time; a hunt goes on from
    its first arguments, and only where the function works element by element.
    """
    levels = [asked.level] + ["none" if asked.level == "none" else "fast"] * (len(cases) - 1)
    seconds = [asked.hunt if cases[0].elementwise else 0.0] + [0.0] * (len(cases) - 1)
    return [
        (case, level if level == "none" else case.level or level, hunt)
        for case, level, hunt in zip(cases, levels, seconds, strict=True)
    ]


def _measured(case: Any) -> dict[str, Any]:
    from measure import measure

    try:
        found = dataclasses.asdict(measure(case))
    except Exception as error:
        return {"label": case.label, "error": f"{type(error).__name__}: {_first_line(error)}"}
    return found | {"surrogate": case.surrogate}


def _said(case: Any, level: str, seconds: float) -> dict[str, Any]:
    """What `check` and `hunt` say, of those that are asked."""
    from measure import check, hunt

    said = {} if level == "none" else {"check": check(case, level)}
    return said | ({"hunt": hunt(case, seconds)} if seconds and not case.surrogate else {})


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


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
