"""The derivative of a small function by differences in many digits: a truth of another kind.

A difference over a step of 1e-25 at 80 digits has lost nothing: what cancels in float64 beside the
point, and a branch for one value alone, are no matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import mpmath
import numpy as np

from funcnn.gradient.program.digits import Digits, in_digits
from funcnn.gradient.truth.contested import Contested
from funcnn.gradient.verdict.judge import NOT_FINITE, UNCERTAIN
from funcnn.types import Verdict

# Of the slope, and of what the truth misses it by: what a gradient may miss it by and not be wrong.
MET = 1e-4
DIGITS = 80
_STEP = mpmath.mpf(10) ** -25  # relative, and of 1 at zero
_STEADY = mpmath.mpf(10) ** -12  # relative: both sides have one slope, and the point lies on it
MOST = 16  # elements
_NUMBERS = 100_000  # that are computed for all of them: a second or two


def in_many_digits(one: Contested, relative: float) -> tuple[Verdict, str] | None:
    """("pass" or "inconclusive", why) where many digits contradict the truth, else None.

    Args:
        one: what is contested.
        relative: how far an element may be from what the digits say, beside what is allowed.

    >>> import jax.numpy as jnp
    >>> from funcnn.gradient.case.pullbacks import Subject
    >>> f = lambda x: [jnp.where(x == 0, 1.0, jnp.expm1(x) / x)]
    >>> given = Subject(("x",), (np.zeros(1),), f, f, False), (np.zeros(1),), [np.ones(1)], 0
    >>> with jax.enable_x64(True):
    ...     right, wrong = (
    ...         in_many_digits(Contested(*given, np.array([m]), np.zeros(1), np.zeros(1)), 1e-9)
    ...         for m in (0.5, 0.6)
    ...     )
    >>> right, wrong
    (('pass', '80 digits decide, against autodiff: 0.5, autodiff 0'), None)
    """
    function = one.subject.plain or one.subject.automatic
    known = slopes_in_digits(function, one.x, one.w, one.leaf, one.off)
    if known is None or np.any(np.isnan(known)):
        return None
    manual, truth, allowed = (np.ravel(g)[one.off] for g in (one.manual, one.truth, one.allowed))
    unsaid = np.isnan(manual) & np.isnan(truth)
    allowed = np.where(unsaid, np.inf, allowed) + relative * np.where(
        np.isinf(known), 0.0, np.abs(known)
    )
    error, misses = (np.where(unsaid, 0.0, _apart(g, known)) for g in (manual, truth))
    if np.all(misses <= allowed):
        return None
    first = int(np.argmin(unsaid))
    said = f"{known[first]:.10g}, autodiff {truth[first]:.10g}"
    if np.all(error <= allowed) and np.any(unsaid):
        return "inconclusive", f"{NOT_FINITE} everywhere; {DIGITS} digits say {said}"
    if np.all(error <= allowed):
        return "pass", f"{DIGITS} digits decide, against autodiff: {said}"
    if np.all(error <= allowed + MET * np.minimum(misses, np.abs(known))):
        return (
            "inconclusive",
            f"{UNCERTAIN}: {DIGITS} digits say {said}, this {manual[first]:.10g}",
        )
    return None


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, np.abs(a - b))


def slopes_in_digits(
    f: Callable[..., list[Any]], x: Sequence[Any], w: Sequence[Any], leaf: int, where: np.ndarray
) -> np.ndarray | None:
    """The derivatives of sum(w f(x)) by some elements of a leaf, as float64.

    NaN where the two sides of the point have two slopes, or the function jumps; infinite where it
    is infinite to both sides, with two signs, as w (-inf) is at w = 0 where that counts as 0. None
    where it has what is not done in digits, or is too large. Needs x64 to be enabled.

    Args:
        f: from leaves to a list of outputs.
        x: the leaves, in float64.
        w: the cotangents of the outputs.
        leaf: the number of the leaf.
        where: the flat indices of the elements.

    >>> import jax.numpy as jnp
    >>> f = lambda x: [jnp.where(x == 0, 1.0, jnp.expm1(x) / x), jnp.abs(x)]
    >>> with jax.enable_x64(True):
    ...     print(slopes_in_digits(f, [np.zeros(1)], [np.ones(1), np.zeros(1)], 0, np.arange(1)))
    ...     print(slopes_in_digits(f, [np.zeros(1)], [np.zeros(1), np.ones(1)], 0, np.arange(1)))
    [0.5]
    [nan]
    """
    if where.size > MOST or not all(np.all(np.isfinite(each)) for each in (x[leaf], *w)):
        return None
    program, evaluate = jax.make_jaxpr(f)(*x), Digits(_NUMBERS)
    with mpmath.workdps(DIGITS):
        point, cotangents = list(map(in_digits, x)), list(map(in_digits, w))

        def value(c: int, step: Any) -> Any:
            moved = np.array(point[leaf])
            moved.flat[c] += step
            y = evaluate(program, [*point[:leaf], moved, *point[leaf + 1 :]])
            terms = zip(cotangents, map(in_digits, y), strict=True)
            # What no cotangent asks for may be infinite.
            reached = ((dy[dy != 0], out[dy != 0]) for dy, out in terms)
            return sum((np.sum(dy * out) for dy, out in reached), mpmath.mpf(0))

        try:
            return np.array([_slope(value, int(c), point[leaf].flat[c]) for c in where])
        except Exception:  # NoDigits, or what JAX's operations make of numbers that they never see
            return None


def _slope(value: Callable[[int, Any], Any], c: int, at: Any) -> float:
    """The slope at one element, NaN where there are two of them or the point lies aside."""
    scale = abs(at) if at else mpmath.mpf(1)
    h = _STEP * scale
    far_left, left, middle, right, far_right = (value(c, k * h) for k in (-2, -1, 0, 1, 2))
    if mpmath.isinf(left) and right == -left and mpmath.isfinite(middle):
        return float(right)
    sides = (left - far_left) / h, (far_right - right) / h
    slope = (right - left) / (2 * h)
    largest = max(abs(left), abs(right))
    size = max(abs(slope), *map(abs, sides), largest / scale)
    apart = max(abs(side - slope) for side in sides)
    aside = abs(middle - (left + right) / 2)
    if not apart <= _STEADY * size or not aside <= _STEADY * largest:
        return float("nan")
    return float(slope)
