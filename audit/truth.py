"""The true derivative of a case: mpmath, or float64 where finite differences agree with it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import mpmath
import numpy as np
from arms import Arms
from cases import Case

from funcnn.gradient.program.float64 import NoTruth, perturbed

_UNIT = float(np.finfo(np.float32).eps) / 2
_TINY = float(np.finfo(np.float32).tiny)
_DRAWS = 3
_LEVELS = 5


@dataclasses.dataclass(frozen=True)
class Truth:
    """The derivative by each leaf, NaN where there is none, and how far it moves with the inputs.

    Attributes:
        gradient: arrays of float64, or None.
        floors: how far each element moves when the inputs change in their last place.
        source: what was done, or why there is no truth.
        kinks: how many elements stand on a kink.
        values: the function itself, there and at the changed inputs, where mpmath knows it.
    """

    gradient: list[Any] | None
    floors: list[Any]
    source: str
    kinks: int = 0
    values: Any = None

    def values_off(self, found: Any) -> Any:
        """Where the function itself is off: then no derivative that builds on it can be right."""
        true, *moved = self.values
        unit = np.spacing(np.maximum(np.abs(true), _TINY).astype(np.float32)).astype(np.float64)
        floor = np.max([np.abs(m - true) for m in moved], axis=0) / unit
        distance = np.where(np.isfinite(found), np.abs(found - true), np.inf) / unit
        beyond = np.abs(true) > float(np.finfo(np.float32).max)  # infinity is right there
        small = (np.abs(true) < 4 * _TINY) & (np.abs(found) < 4 * _TINY)
        return np.isfinite(true) & ~beyond & ~small & ~(distance <= 64 + 4 * floor)


def of_case(case: Case, arms: Arms) -> Truth:
    """The truth of a case by the best of the means that it allows."""
    if case.exact or case.truth:
        by = case.truth or (lambda *columns: _by_mpmath(case.exact, columns))
        true = by(*case.arrays)
        inputs = _moved_inputs(case)
        floors = _floors(true, [by(*moved) for moved in inputs])
        values = None if case.truth else [_values(case, x) for x in [case.arrays, *inputs]]
        return Truth(true, floors, "mpmath", values=values)
    return _by_float64(arms)


def _moved_inputs(case: Case) -> list[list[Any]]:
    """The inputs changed in their last place: all upwards, in turn, and by a coin."""
    random = np.random.default_rng(0)
    arrays = case.arrays
    signs = [[np.ones(x.shape) for x in arrays]]
    signs.append([np.full(x.shape, -((-1.0) ** i)) for i, x in enumerate(arrays)])
    if case.truth:
        signs += [[random.integers(0, 2, x.shape) * 2.0 - 1 for x in arrays] for _ in range(3)]
    return [
        [x.astype(np.float64) * (1 + s * _UNIT) for x, s in zip(arrays, draw, strict=True)]
        for draw in signs
    ]


def _values(case: Case, columns: list[Any]) -> Any:
    return np.array([_value(case.exact, row) for row in zip(*columns, strict=True)])


def _value(f: Any, point: Any) -> float:
    with mpmath.workdps(40):
        try:
            return float(mpmath.mpf(f(*(mpmath.mpf(float(v)) for v in point))))
        except (ValueError, TypeError, ZeroDivisionError, mpmath.libmp.NoConvergence):
            return float("nan")


def _floors(true: list[Any], moved: list[list[Any]]) -> list[Any]:
    return [
        np.nan_to_num(np.max([np.abs(m[i] - t) for m in moved], axis=0), nan=0.0)
        for i, t in enumerate(true)
    ]


def _by_mpmath(f: Any, columns: Any) -> list[Any]:
    """The partial derivatives at each point, by central differences at 70 digits."""
    points = list(zip(*columns, strict=True))
    rows = [[_partial(f, point, i) for i in range(len(point))] for point in points]
    return [np.array(column) for column in zip(*rows, strict=True)]


def _partial(f: Any, point: Any, i: int) -> float:
    value = abs(float(point[i]))
    # Next to zero the difference of two values is far smaller than they are.
    digits = 70 + (0 if not value else max(0, -3 * int(math.log10(value))))
    with mpmath.workdps(digits):
        x = [mpmath.mpf(float(v)) for v in point]
        step = (abs(x[i]) or mpmath.mpf(10) ** -12) * mpmath.mpf(10) ** -12
        ends = []
        for sign in (1, -1):
            moved = list(x)
            moved[i] = x[i] + sign * step
            try:
                ends.append(mpmath.mpf(f(*moved)))
            except (ValueError, TypeError, ZeroDivisionError, mpmath.libmp.NoConvergence):
                return float("nan")
        return float((ends[0] - ends[1]) / (2 * step))


def _by_float64(arms: Arms) -> Truth:
    candidates: dict[str, list[Any]] = {}
    why = ""
    try:
        candidates["float64 without rules"] = arms.raised_automatic()
    except (NoTruth, TypeError, ValueError) as error:
        why = str(error).splitlines()[0]
    manual = arms.raised_manual()
    if manual is not None:
        candidates["float64 with rules"] = manual
    with jax.enable_x64(True):
        slopes, bars, kinks = differences(arms)
    for name, gradient in candidates.items():
        if all(map(_agrees, gradient, slopes, bars)):
            true = [np.where(k, np.nan, g) for g, k in zip(gradient, kinks, strict=True)]
            floors = _moved_floors(arms, gradient, name)
            source = f"{name}, finite differences agree"
            return Truth(true, floors, source, int(sum(k.sum() for k in kinks)))
    worst = [_disagreement(g, slopes, bars) for g in candidates.values()]
    return Truth(None, [], f"no truth: {why} finite differences differ by {worst}".strip())


def _moved_floors(arms: Arms, gradient: list[Any], name: str) -> list[Any]:
    if name != "float64 without rules":
        return [np.abs(g) * _UNIT for g in gradient]
    moved = []
    for seed in range(_DRAWS):
        draws = perturbed([np.asarray(x, np.float64) for x in arms.x], _UNIT, seed)
        moved.append(arms.raised_automatic(draws))
    return _floors(gradient, moved)


def _agrees(g: Any, slope: Any, bar: Any) -> bool:
    return _error(g, slope, bar) <= 1.0


def _error(g: Any, slope: Any, bar: Any) -> float:
    judged = np.isfinite(slope)
    if not judged.any():
        return 0.0
    if not np.all(np.isfinite(g[judged])):
        return np.inf
    size = np.abs(slope) + np.sqrt(np.mean(slope[judged] ** 2))
    return float(np.max(np.where(judged, np.abs(g - slope) / (10 * bar + 1e-7 * size), 0.0)))


def _disagreement(gradient: list[Any], slopes: list[Any], bars: list[Any]) -> str:
    return f"{max(map(_error, gradient, slopes, bars)):.1e} error bars"


def differences(arms: Arms) -> tuple[list[Any], list[Any], list[Any]]:
    """Element by element: slope, its error bar, and whether the slopes of the two sides differ."""
    value = arms.raised_value()
    x = [np.asarray(v, np.float64) for v in arms.x]
    middle = float(value(*x))
    found: list[list[Any]] = [[], [], []]
    for leaf, array in enumerate(x):
        rows = [_slope(value, x, leaf, at, middle) for at in np.ndindex(array.shape)]
        for column, values in zip(found, zip(*rows, strict=True), strict=True):
            column.append(np.array(values).reshape(array.shape))
    return found[0], found[1], found[2]


def _slope(
    value: Any, x: list[Any], leaf: int, at: Any, middle: float
) -> tuple[float, float, bool]:
    scale = max(abs(float(x[leaf][at])), 1e-2)

    def end(step: float) -> float:
        moved = list(x)
        moved[leaf] = x[leaf].copy()
        moved[leaf][at] += step
        return float(value(*moved))

    steps = [scale * 1e-2 / 4**i for i in range(_LEVELS)]
    ends = [(end(h), end(-h)) for h in steps]
    table = [(up - down) / (2 * h) for h, (up, down) in zip(steps, ends, strict=True)]
    sides = [
        ((up - middle) / h, (middle - down) / h) for h, (up, down) in zip(steps, ends, strict=True)
    ]
    gaps = [abs(up - down) for up, down in sides]
    kink = gaps[-1] > 0.5 * gaps[0] and gaps[-1] > 1e-3 * max(map(abs, sides[-1]))
    factor, best, bar = 16.0, table[-1], np.inf
    while len(table) > 1:
        table = [(factor * b - a) / (factor - 1) for a, b in itertools.pairwise(table)]
        factor *= 16
        if abs(table[-1] - best) < bar:
            best, bar = table[-1], abs(table[-1] - best)
    noise = 1e-15 * abs(middle) / steps[-1]
    return (np.nan if kink else best), bar + noise, kink
