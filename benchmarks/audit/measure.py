"""How far a derivative is from the truth, element by element, in units of the last place.

The truth is mpmath's where a case gives its function there; else the float64 derivative, with rules
or without, with which finite differences in float64 agree (see truth.py). The floor is what a
change of the inputs in their last place does to the truth: an error below it is the conditioning of
the function, and no fault of a derivative.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from arms import Arms
from cases import Case
from truth import Truth, of_case

import funcnn as fnn

OFF = 64.0  # ulps beyond four floors; what is below is as good as a float32 program can be
_TINY = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Worst:
    """The element, or the leaf, at which a derivative is furthest from the truth."""

    leaf: int
    at: list[int]
    inputs: list[float]
    found: float
    truth: float
    ulps: float
    floor: float

    @property
    def off(self) -> bool:
        """Whether the derivative is to blame, and not the conditioning of the function."""
        return not self.ulps <= OFF + 4 * self.floor


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found for a case.

    Attributes:
        label: the case's.
        compared: how many elements have a truth.
        source: where it comes from, or why there is none.
        manual, automatic: the worst with the rules and without; None where not run or not judged.
        contradiction: the relative error of the derivative in float64, where it is above 1e-6.
        sites: the rules in the program; with none, `manual` is JAX's own derivative.
        check: what `fnn.check` says.
        kinks: how many elements stand on a kink, where any value between the slopes is right.
    """

    label: str
    compared: int
    source: str
    manual: Worst | None
    automatic: Worst | None
    contradiction: float
    sites: list[str]
    check: str
    kinks: int = 0


def measure(case: Case, level: str = "fast") -> Measured:
    """Hold the derivatives of a case against the truth."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        arms = Arms(case)
        said = check(case, level) if level != "none" else "not run"
        truth = of_case(case, arms)
        sites = sorted({site.name for site in arms.sites})
        if truth.gradient is None:
            return Measured(case.label, 0, truth.source, None, None, 0.0, sites, said)
        manual = _worst(case, arms.native_manual(), truth)
        automatic = arms.native_automatic()
        without = None if automatic is None else _worst(case, automatic, truth)
        compared = sum(int(np.isfinite(t).sum()) for t in truth.gradient)
        contradiction = _contradiction(arms.raised_manual(), truth)
        return Measured(
            *(case.label, compared, truth.source, manual, without, contradiction),
            *(sites, said, truth.kinks),
        )


def check(case: Case, level: str) -> str:
    """The summary of `fnn.check` with its first failure, or the exception that it raised."""
    intent = "surrogate" if case.surrogate else "derivative"
    try:
        report = fnn.check(case.f, *case.args, level=level, intent=intent)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return f"CRASH {type(error).__name__}: {first[:300]}"
    lines = str(report).splitlines()
    return " | ".join([lines[-1], *lines[:-1]][:3])[:600]


def _worst(case: Case, found: list[Any], truth: Truth) -> Worst | None:
    judge = _worst_element if case.elementwise else _worst_leaf
    candidates = [
        judge(case, i, *map(np.asarray, row))
        for i, row in enumerate(zip(found, truth.gradient, truth.floors, strict=True))
    ]
    kept = [c for c in candidates if c is not None]
    return max(kept, key=lambda w: w.ulps - 4 * w.floor) if kept else None


def _worst_element(case: Case, leaf: int, found: Any, true: Any, floor: Any) -> Worst | None:
    judged = np.isfinite(true) & (np.abs(true) < _LARGEST)
    if not judged.any():
        return None
    ulp = np.spacing(np.maximum(np.abs(np.where(judged, true, 1.0)), _TINY).astype(np.float32))
    distance = np.where(np.isfinite(found), np.abs(found.astype(np.float64) - true), np.inf)
    flushed = (np.abs(true) < 4 * _TINY) & (np.abs(found) < 4 * _TINY)  # XLA keeps no subnormals
    distance = np.where(flushed, 0.0, distance)
    excess = np.where(judged, distance / ulp - 4 * floor / ulp, -np.inf)
    at = np.unravel_index(int(np.argmax(excess)), true.shape)
    inputs = [float(x[at]) for x in case.arrays if x.shape == true.shape]
    numbers = (float(a[at]) for a in (found, true, distance / ulp, floor / ulp))
    return Worst(leaf, [int(i) for i in at], inputs, *numbers)


def _worst_leaf(case: Case, leaf: int, found: Any, true: Any, floor: Any) -> Worst | None:
    judged = np.isfinite(true)
    size = float(np.linalg.norm(true[judged])) if judged.any() else 0.0
    if not size:
        return None
    distance = np.where(judged, np.abs(found.astype(np.float64) - true), 0.0)
    distance = np.where(judged & ~np.isfinite(found), np.inf, distance)
    at = np.unravel_index(int(np.argmax(distance)), true.shape)
    ulp = size * float(np.finfo(np.float32).eps)
    ulps, floors = float(np.linalg.norm(distance)) / ulp, float(np.linalg.norm(floor)) / ulp
    inputs = [float(case.arrays[leaf][at])]
    return Worst(
        leaf, [int(i) for i in at], inputs, float(found[at]), float(true[at]), ulps, floors
    )


def _contradiction(found: list[Any] | None, truth: Truth) -> float:
    """The relative error of the derivative in float64 beyond 1e-6: then its algebra is wrong."""
    worst = 0.0
    for g, t in zip(found or [], truth.gradient or [], strict=False):
        judged = np.isfinite(t) & (np.abs(t) > 1e-290) & (np.abs(t) < 1e290)
        if judged.any():
            scale = np.abs(t) + 1e-9 * float(np.sqrt(np.mean(t[judged] ** 2)))
            error = np.where(np.isfinite(g), np.abs(g - t) / scale, np.inf)
            worst = max(worst, float(np.max(np.where(judged, error, 0.0))))
    return worst if worst > 1e-6 else 0.0
