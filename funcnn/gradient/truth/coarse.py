"""Differences in a low precision, for a function that cannot run in float64.

They show a large mistake, and exclude no small one: what they do not contradict has no truth yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcnn.gradient.truth.richardson import central, extrapolated, steps_from, unit_direction

_LARGEST = 0.25  # the first step, relative to the root mean square of the leaf
_HALVINGS = 6
_BENT = 0.1  # of the slope: where its two sides differ by more at small steps, there is a kink
_KNOWN = 0.05  # of the slope: what the error bar must be below
_ROUNDINGS = 8  # of the value, in each difference
_DIRECTIONS = 3


class CoarseSlope(NamedTuple):
    """A derivative along one direction, its error bar, and the size of what was added up."""

    value: float
    bar: float
    size: float


def coarse_slope(
    f: Callable[..., Sequence[Any]],
    x: Sequence[np.ndarray],
    leaf: int,
    v: np.ndarray,
    w: Sequence[np.ndarray],
) -> CoarseSlope | None:
    """The slope of sum(w f) along a direction of one leaf, in the dtype of that leaf.

    Args:
        f: from the leaves to a list of outputs.
        x: the leaves.
        leaf: which of them moves.
        v: its direction, of length 1.
        w: the cotangents of the outputs.

    None where the differences are unsure of themselves: by rounding, or at a kink.

    >>> def third(x):
    ...     return [x**3]
    >>> x, v = np.array([2.0], np.float32), np.ones(1)
    >>> slope = coarse_slope(third, (x,), 0, v, [np.ones(1)])
    >>> abs(slope.value - 12) <= slope.bar < 0.05
    True
    >>> coarse_slope(lambda x: [abs(x - 2)], (x,), 0, v, [np.ones(1)]) is None
    True
    """
    at = np.asarray(x[leaf])
    unit = float(np.finfo(at.dtype).eps) if at.dtype.kind == "f" else 2.0**-8  # bfloat16
    scale = float(np.sqrt(np.mean(np.square(at, dtype=np.float64)))) or 1.0
    steps = scale * np.sqrt(at.size) * steps_from(_LARGEST, _HALVINGS)

    def weighted(step: float) -> np.ndarray:
        moved = (at.astype(np.float64) + step * v).astype(at.dtype)
        ys = f(*(moved if i == leaf else xi for i, xi in enumerate(x)))
        flat = [np.ravel(np.asarray(y, np.float64) * dy) for y, dy in zip(ys, w, strict=True)]
        return np.concatenate(flat)  # (M,)

    right, left = (np.stack([weighted(s) for s in sign * steps]) for sign in (1.0, -1.0))
    middle = weighted(0.0)
    if not all(np.all(np.isfinite(y)) for y in (right, left, middle)):
        return None
    table = central(right, left, steps).sum(1)  # (K,)
    noise = _ROUNDINGS * unit * float(np.sum(np.abs(middle))) / steps
    bent = np.abs(right - 2 * middle + left).sum(1) / steps
    size = float(np.sum(np.abs(central(right, left, steps)[-1])))
    slopes = []
    for k in range(1, len(steps)):
        value, change = extrapolated(table[k - 1 : k + 1])
        bar = float(change) + float(noise[k])
        if 0 < size >= bar / _KNOWN and bent[k] <= _BENT * size + noise[k]:
            slopes.append(CoarseSlope(float(value), bar, size))
    return min(slopes, key=lambda slope: slope.bar, default=None)


def contradicted(
    f: Callable[..., Sequence[Any]],
    x: Sequence[np.ndarray],
    leaf: int,
    gradient: np.ndarray,
    w: Sequence[np.ndarray],
    seed: int = 0,
) -> str:
    """What differences say against a gradient of one leaf along some directions, or "".

    >>> def third(x):
    ...     return [x**3]
    >>> x, w = np.array([2.0, 1.0], np.float32), [np.ones(2)]
    >>> contradicted(third, (x,), 0, 3 * x**2, w)
    ''
    >>> contradicted(third, (x,), 0, 6 * x**2, w).startswith("manual")
    True
    """
    for draw in range(_DIRECTIONS):
        random = np.random.default_rng([seed, 12, draw])
        v = unit_direction(np.shape(x[leaf]), random)
        slope = coarse_slope(f, x, leaf, v, w)
        if slope is None:
            continue
        with np.errstate(invalid="ignore"):
            found = float(np.sum(np.asarray(gradient, np.float64) * v))
        if not abs(found - slope.value) <= 10 * slope.bar + 0.01 * slope.size:
            return f"manual {found:.4g}, differences {slope.value:.4g} +- {slope.bar:.1e}"
    return ""
