"""How far a derivative is from the truth, element by element, in units of the last place.

The truth is mpmath's where a case gives its function there; else the float64 derivative, with rules
or without, with which finite differences in float64 agree (see truth.py). The floor is what a
change of the inputs in their last place does to the truth: an error below it is the conditioning of
the function, and no fault of a derivative.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from arms import Arms
from cases import Case
from truth import Truth, of_case

import funcnn as fnn

# Relative error in float64, and what it comes to beside the whole leaf, or beside one: a formula
# that cancels loses all digits of a derivative far below either, in float64, too.
_WRONG, _BESIDE = 1e-6, 1e-8
OFF = 64.0  # ulps beyond four floors; what is below is as good as a float32 program can be
_TINY = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_MANUAL = {"rule", "both"}
_SHOWN = 8  # elements that are off, for each case


@dataclasses.dataclass(frozen=True)
class Off:
    """An element, or a leaf by its worst element, at which a derivative is off.

    Attributes:
        leaf, at: which of the arguments, and where in it.
        inputs: the arguments at that element.
        manual, automatic: the derivatives; None where there is none without rules.
        truth, floor: what it should be, and how uncertain that is, in ulps.
        ulps, ulps_automatic: the errors.
        in_float64: the relative error in float64, None where it was not run or the truth is zero.
        algebra: whether that is too much for rounding, so that it is the formula that is wrong.
        blame: "rule", "autodiff", "both", or "function" where its value is off, too.
    """

    leaf: int
    at: list[int]
    inputs: list[float]
    manual: float
    automatic: float | None
    truth: float
    floor: float
    ulps: float
    ulps_automatic: float | None
    in_float64: float | None
    algebra: bool
    blame: str


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found for a case.

    Attributes:
        label: the case's.
        compared: how many elements have a truth.
        source: where it comes from, or why there is none.
        ulps, ulps_automatic: the largest errors, with rules and without.
        off: the elements that are off, a formula that misses first, then the worst.
        sites: the rules in the program; with none, it is JAX's own derivative that is judged.
        kinks: how many elements stand on a kink, where there is no truth.
    """

    label: str
    compared: int
    source: str
    ulps: float | None
    ulps_automatic: float | None
    off: list[Off]
    sites: list[str]
    kinks: int = 0


def measure(case: Case) -> Measured:
    """Hold the derivatives of a case against the truth."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        arms = Arms(case)
        truth = of_case(case, arms)
        sites = sorted({f"{site.name} at {_inside(site.source)}" for site in arms.sites})
        if truth.gradient is None:
            return Measured(case.label, 0, truth.source, None, None, [], sites)
        found = _found(case, arms, truth)
        compared = sum(int(np.isfinite(t).sum()) for t in truth.gradient)
        without = [e.ulps_automatic for e in found if e.ulps_automatic is not None]
        off = [e for e in found if e.blame]
        off.sort(key=lambda e: (not e.algebra, -max(e.ulps, e.ulps_automatic or 0.0)))
        return Measured(
            *(case.label, compared, truth.source, max((e.ulps for e in found), default=None)),
            *(max(without, default=None), off[:_SHOWN], sites, truth.kinks),
        )


def _inside(source: str) -> str:
    """The text with paths from the site-packages folder on."""
    return re.sub(r"\S*site-packages/", "", source)


def check(case: Case, level: str) -> str:
    """The summary of `fnn.check` with its first failure, or the exception that it raised."""
    intent = "surrogate" if case.surrogate else "derivative"
    return _answer(lambda: fnn.check(case.f, *case.args, level=level, intent=intent))


def hunt(case: Case, seconds: float) -> str:
    """The summary of `fnn.hunt` from a case's arguments, or the example that it found."""
    return _answer(lambda: fnn.hunt(case.f, *case.args, budget=seconds), 20, 1500)


def _answer(ask: Callable[[], Any], at_most: int = 3, characters: int = 600) -> str:
    """The last line of a report and its first ones, or the exception that it raised."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            lines = str(ask()).splitlines()
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return f"CRASH {type(error).__name__}: {first[:300]}"
    said = " | ".join([lines[-1], *(_inside(line) for line in lines[:-1])][:at_most])
    return said.replace(str(Path(__file__).parent), "audit")[:characters]


def _found(case: Case, arms: Arms, truth: Truth) -> list[Off]:
    manual, automatic = arms.native_manual(), arms.native_automatic()
    # A sampler draws other numbers in float64.
    double = None if case.draws else arms.raised_manual()
    values_off = truth.values_off(arms.native_values()) if case.exact else None
    value_off = values_off is None and arms.value_is_off()
    found = []
    for leaf, (true, floor) in enumerate(zip(truth.gradient or [], truth.floors, strict=True)):
        judged = np.isfinite(true) & (np.abs(true) < _LARGEST)
        arrays = [a and np.asarray(a[leaf], np.float64) for a in (manual, automatic, double)]
        if case.elementwise:
            places = [at for at in np.ndindex(true.shape) if judged[at]]
            errors = [_element_errors(g, true) for g in arrays[:2]]
            unit = _ulp(true)
        else:
            worst = _worst_place(arrays[0], true, judged)
            places = [worst] if worst is not None else []
            errors = [_leaf_error(g, true, judged) for g in arrays[:2]]
            unit = np.full(true.shape, _leaf_ulp(true, judged))
            floor = np.full(true.shape, np.linalg.norm(floor[judged]))
        for at in places:
            bad = value_off if values_off is None else bool(values_off[at])
            found.append(_element(case, leaf, at, arrays, true, floor / unit, errors, bad))
    return found


def _element(
    case: Case, leaf: int, at: Any, arrays: Any, true: Any, floor: Any, errors: Any, bad: bool
) -> Off:
    manual, automatic, double = (None if a is None else float(a[at]) for a in arrays)
    ulps, without = (None if e is None else float(e[at]) for e in errors)
    whose = [e is not None and not e <= OFF + 4 * float(floor[at]) for e in (ulps, without)]
    names = {(True, True): "both", (True, False): "rule", (False, True): "autodiff"}
    blame = names.get((whose[0], whose[1]), "")
    apart = None if double is None or not true[at] else abs(double - true[at]) / abs(true[at])
    apart = float("inf") if apart is not None and np.isnan(apart) else apart
    algebra = apart is not None and _is_algebra(apart, true, at)
    return Off(
        leaf,
        [int(i) for i in at],
        [float(x[at]) for x in case.arrays if x.shape == true.shape],
        *(manual or 0.0, automatic, float(true[at]), float(floor[at]), ulps or 0.0, without),
        *(apart, algebra, "function" if bad and not algebra and blame in _MANUAL else blame),
    )


def _is_algebra(apart: float, true: Any, at: Any) -> bool:
    whole = min(1.0, float(np.max(np.abs(true[np.isfinite(true)]))))
    return bool(apart > _WRONG and apart * abs(true[at]) > _BESIDE * whole)


def _ulp(true: Any) -> Any:
    """Of each element; of one that is exactly zero, which has none, that of the largest."""
    size = np.minimum(np.nan_to_num(np.abs(true), posinf=0.0), _LARGEST)
    size = np.where(size == 0.0, size.max(initial=0.0) or 1.0, np.maximum(size, _TINY))
    return np.spacing(size.astype(np.float32)).astype(np.float64)


def _element_errors(g: Any, true: Any) -> Any:
    """In ulps; infinite where g is not finite. XLA keeps no subnormal numbers."""
    if g is None:
        return None
    flushed = (np.abs(true) < 4 * _TINY) & (np.abs(g) < 4 * _TINY)
    distance = np.where(np.isfinite(g), np.abs(g - true), np.inf)
    return np.where(flushed, 0.0, distance) / _ulp(true)


def _leaf_ulp(true: Any, judged: Any) -> float:
    return float(np.linalg.norm(true[judged])) * float(np.finfo(np.float32).eps) or 1.0


def _leaf_error(g: Any, true: Any, judged: Any) -> Any:
    if g is None:
        return None
    distance = np.where(np.isfinite(g), np.abs(g - true), np.inf)[judged]
    return np.full(true.shape, float(np.linalg.norm(distance)) / _leaf_ulp(true, judged))


def _worst_place(g: Any, true: Any, judged: Any) -> Any:
    if not judged.any() or not np.any(true[judged]):
        return None
    distance = np.where(np.isfinite(g), np.abs(g - true), np.inf)
    return np.unravel_index(int(np.argmax(np.where(judged, distance, -1.0))), true.shape)
