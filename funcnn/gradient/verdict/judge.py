"""Verdicts: how far a gradient is from the truth, leaf by leaf, and whether that is too far.

No tolerance grows with size, and none is set by hand: an error is held against what autodiff does
in the same precision and against the noise floor, which is what a change of the inputs in their
last place does to the truth. "Inconclusive" is a verdict, and never a pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.verdict.figures import describe_error
from funcnn.types import ArrayLike, Verdict

# Phase A of the tolerance policy: both gradients are computed in float64.
_ALGEBRA_NORM = 1e-10
_ALGEBRA_ELEMENT = 1e-9
_CANCELLED = 1e-14
# An element that is off by as much of itself has no rounding error.
_GROSS = 1e-2
_GROSS_ULPS = 8.0
_LAST_PLACES = 4.0
_POOR = 0.05  # of the truth: what autodiff may be off by
_LUCK = 16.0  # of the noise that was seen: a few draws may all be small
ZERO = "the true gradient is zero everywhere"
NOT_FINITE = "the truth is not finite"
OVERFLOW = "the truth is beyond the largest number of the dtype"
ELEMENTS = "single elements"
OTHER_DTYPE = "its dtype"
UNCERTAIN = "the truth itself is uncertain"


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of a gradient, compared with its float64 truth.

    Attributes:
        leaf: its path.
        shape, dtype: of the leaf.
        manual, automatic: the error of either gradient, ||g - truth|| / ||truth||, in units of the
            last place (ulps) of the dtype.
        floor: the noise floor in the same units.
        verdict: "MANUAL" or "AUTO", whichever is more accurate by a factor of 2 and beyond the
            floor, "TIE", "WRONG" or "INCONCLUSIVE".
        note: what is wrong, or why nothing can be said.
        zero: whether both are zero, which is right and proves little.
    """

    leaf: str
    shape: tuple[int, ...]
    dtype: str
    manual: float
    automatic: float
    floor: float
    verdict: str
    note: str = ""
    zero: bool = False


def relative_error(g: ArrayLike, truth: ArrayLike) -> float:
    """||g - truth|| / ||truth||; infinite where g is not finite.

    >>> relative_error(np.array([3.0, 4.4]), np.array([3.0, 4.0])).__round__(3)
    0.08
    """
    g, truth = np.asarray(g, np.float64), np.asarray(truth, np.float64)
    if not np.all(np.isfinite(g)):
        return math.inf
    size, distance = np.linalg.norm(truth), np.linalg.norm(g - truth)
    return float(distance / size) if size else (math.inf if distance else 0.0)


def judge_rounding(
    leaf: str, manual: ArrayLike, automatic: ArrayLike, truth: ArrayLike, moved: list[Any]
) -> Row:
    """The verdict on one leaf in its own precision.

    The hand-derived gradient is wrong where its error exceeds twice that of autodiff, plus twice
    the noise floor, plus two units in the last place.

    Args:
        leaf: its path.
        manual, automatic: the two gradients.
        truth: the gradient in float64.
        moved: that truth at inputs which were changed in their last place.

    >>> x = np.ones(3, np.float32)
    >>> judge_rounding("w", 1.001 * x, x, np.ones(3), [np.ones(3)]).note
    'manual = 1.001 x truth; worst at [0]: manual 1.001, automatic 1, truth 1'
    """
    manual, automatic, truth = np.asarray(manual), np.asarray(automatic), np.asarray(truth)
    ulp = float(jnp.finfo(manual.dtype).eps)
    # What this precision cannot hold proves nothing.
    overflown = ~np.isfinite(manual) & (np.abs(truth) > float(jnp.finfo(manual.dtype).max))
    finite = np.isfinite(truth) & ~overflown
    known = np.where(finite, truth, 0.0)
    m, a = (relative_error(np.where(finite, g, 0), known) for g in (manual, automatic))
    inside = [np.where(finite & ~np.isnan(t), t, known) for t in moved]
    k = max((relative_error(t, known) for t in inside), default=0.0)
    verdict, note = _verdict(m, a, k, ulp, known)
    if verdict == "WRONG" and np.any(known) and np.all(_same(manual, automatic)):
        verdict, note = "TIE", ""  # what is off is the program in this precision, not the rule
    if verdict == "WRONG":
        note = describe_error(np.where(finite, manual, 0), automatic, known)
    elif not np.all(finite):
        verdict = "INCONCLUSIVE"
        note = OVERFLOW if np.all(np.isfinite(truth)) else NOT_FINITE
    shape, dtype = manual.shape, str(manual.dtype)
    return Row(leaf, shape, dtype, m / ulp, a / ulp, k / ulp, verdict, note)


def judge_gradient(
    leaf: str, manual: ArrayLike, automatic: ArrayLike, truth: ArrayLike, moved: list[Any]
) -> Row:
    """As `judge_rounding`, and no element is off by a good part of itself that others outweigh.

    >>> truth = np.array([1e-5, 1e5])
    >>> right = truth.astype(np.float32)
    >>> row = judge_gradient("w", right * np.float32([7, 1]), right, truth, [truth])
    >>> row.verdict, row.note
    ('WRONG', 'single elements: worst at [0]: manual 7e-05, automatic 1e-05, truth 1e-05')
    >>> judge_gradient("w", truth.astype(np.int32), right, truth, [truth]).note
    'its dtype is int32, and that of the argument float32'
    """
    manual, automatic = np.asarray(manual), np.asarray(automatic)
    if manual.dtype != automatic.dtype:
        note = f"{OTHER_DTYPE} is {manual.dtype}, and that of the argument {automatic.dtype}"
        nan = math.nan
        return Row(leaf, manual.shape, str(manual.dtype), nan, nan, nan, "WRONG", note)
    row = judge_rounding(leaf, manual, automatic, truth, moved)
    if row.verdict in {"WRONG", "INCONCLUSIVE"}:
        return row
    truth = np.asarray(truth)
    noise = noise_of(truth, moved)
    by_autodiff = np.minimum(np.nan_to_num(np.abs(automatic - truth)), np.abs(truth) / 2)
    allowed = allowed_of_elements(manual, truth, noise) + 2 * by_autodiff
    off = np.isfinite(truth) & ~(np.abs(manual - truth) <= allowed) & ~_same(manual, automatic)
    if not np.any(off):
        return row
    note = f"{ELEMENTS}: {describe_error(np.where(off, manual, truth), automatic, truth)}"
    return dataclasses.replace(row, verdict="WRONG", note=note)


def _same(manual: np.ndarray, automatic: np.ndarray) -> np.ndarray:
    """Where both gradients are one number but for its last places."""
    ulp = float(jnp.finfo(manual.dtype).eps)
    a = automatic.astype(np.float64)
    return np.abs(manual.astype(np.float64) - a) <= _LAST_PLACES * ulp * np.abs(a)


def noise_of(truth: ArrayLike, moved: Sequence[ArrayLike]) -> np.ndarray:
    """What small changes of the inputs do to each element of a gradient.

    A changed input may have left the domain, as beside the one value that a branch is for: where
    the gradient is NaN there, that change says nothing.

    >>> noise_of(np.array([1.0, 1.0]), [np.array([1.1, np.nan]), np.array([1.2, 1.0])]).round(2)
    array([0.2, 0. ])
    """
    truth = np.asarray(truth)
    changes = [np.abs(np.asarray(t) - truth) for t in moved]
    return np.max(
        [np.zeros(truth.shape), *(np.where(np.isnan(c), 0.0, c) for c in changes)], axis=0
    )


def allowed_of_elements(
    gradient: np.ndarray, truth: np.ndarray, noise: np.ndarray | float
) -> np.ndarray:
    """By how much each element of a gradient may differ from its truth, whatever the others are.

    Args:
        gradient: in its own dtype.
        truth: in float64.
        noise: what rounding was seen to do to each element.

    >>> allowed_of_elements(np.ones(1, np.float32), np.ones(1), 0.0)
    array([0.01])
    """
    info = jnp.finfo(gradient.dtype)
    gross = max(_GROSS, _GROSS_ULPS * float(info.eps))
    return gross * np.abs(truth) + _LUCK * noise + float(info.smallest_normal)


def is_doubtful(row: Row) -> bool:
    """Whether a row is one to appeal against: wrong, or held against a truth that proves nothing.

    >>> is_doubtful(Row("w", (), "float32", 0.0, 0.0, 0.0, "INCONCLUSIVE", ZERO))
    True
    """
    if row.note.startswith(OTHER_DTYPE):
        return False
    return row.verdict == "WRONG" or row.note in {ZERO, NOT_FINITE}


def _verdict(m: float, a: float, k: float, ulp: float, truth: ArrayLike) -> tuple[str, str]:
    if not np.any(truth):
        # Where both arms leave rounding noise, nothing is proved either way.
        if m and not a:
            return "WRONG", ""
        return "INCONCLUSIVE", ZERO
    # An autodiff that is off by a good part of itself excuses nothing: the appeal asks why.
    trusted = 2 * min(a, _POOR) if math.isfinite(a) else 0.0
    if m > trusted + 2 * k + 2 * ulp:
        return "WRONG", ""
    if not math.isfinite(a) or (a > 2 * m and a > k + ulp):
        return "MANUAL", ""
    return ("AUTO", "") if m > 2 * a and m > k + ulp else ("TIE", "")


def judge_algebra(
    manual: ArrayLike, truth: ArrayLike, moved: list[Any], size: float = 0.0
) -> tuple[Verdict, str]:
    """("pass", "fail" or "inconclusive", why): the rule's own code in float64 against the truth.

    Args:
        manual: the rule's cotangent, computed in float64.
        truth: the automatic one of its reference, in float64.
        moved: that truth at inputs which were changed in the last place of float64.
        size: the norm of the largest such gradient; one that cancels to rounding noise beside it
            proves nothing.

    >>> judge_algebra(np.array([2.0]), np.array([1.0]), [])[0]
    'fail'
    >>> judge_algebra(np.zeros(2), np.zeros(2), [])
    ('inconclusive', 'the true gradient is zero everywhere')
    """
    manual, truth = np.asarray(manual, np.float64), np.asarray(truth, np.float64)
    moved = [np.asarray(t) for t in moved]
    if not np.all(np.isfinite(truth)):
        return _judge_finite(manual, truth, moved, size)
    if truth.size == 0:
        return "inconclusive", "no elements"
    if not np.any(truth):
        if not np.all(np.abs(manual) <= _CANCELLED * size):
            return (
                "fail",
                f"{np.count_nonzero(manual)} elements differ from zero, and truth is zero",
            )
        return "inconclusive", ZERO
    noise_alone = _CANCELLED * size
    if np.linalg.norm(truth) <= noise_alone and np.linalg.norm(manual) <= noise_alone:
        return "inconclusive", "the true gradient cancels to rounding noise"
    noise = noise_of(truth, moved)
    # At a jump of the derivative the other side is no noise; and here both stand on one side.
    base = allowed_in_algebra(truth)
    noise = np.where((noise > 1e6 * base) & (np.abs(manual - truth) <= base), 0.0, noise)
    floor = 1e3 * float(np.linalg.norm(noise) / np.linalg.norm(truth))
    if floor > 1e-3:
        return "inconclusive", f"{UNCERTAIN} by {floor / 1e3:.1e}"
    allowed = base + 1e3 * noise
    error = relative_error(manual, truth)
    if error <= max(_ALGEBRA_NORM, floor) and np.all(np.abs(manual - truth) <= allowed):
        return "pass", f"{error:.1e}"
    return "fail", describe_error(manual, None, truth)


def _judge_finite(
    manual: np.ndarray, truth: np.ndarray, moved: list[Any], size: float
) -> tuple[Verdict, str]:
    """The verdict where the truth is finite; elsewhere a finite gradient proves nothing."""
    finite = np.isfinite(truth)
    if np.any(finite & ~np.isfinite(manual)):
        return "fail", "not finite where the truth is"
    parts = [np.where(finite, g, 0.0) for g in (manual, truth, *moved)]
    verdict, note = judge_algebra(parts[0], parts[1], parts[2:], size)
    if verdict == "fail":
        return verdict, note
    if np.any(np.isinf(truth) & np.isfinite(manual)):
        return "fail", "finite where the truth is infinite"
    alike = np.array_equal(np.isfinite(manual), finite)
    return "inconclusive", NOT_FINITE if alike else f"{UNCERTAIN}: it is NaN where this is finite"


def allowed_in_algebra(truth: ArrayLike, size: float = 0.0) -> np.ndarray:
    """By how much each element may differ from the truth in float64, its noise not counted.

    >>> float(allowed_in_algebra(np.array([3.0, 4.0]))[0]) < 1e-8
    True
    """
    truth = np.where(np.isfinite(truth), truth, 0.0)
    rms = math.sqrt(float(np.mean(np.square(truth)))) if np.size(truth) else 0.0
    return _ALGEBRA_ELEMENT * (np.abs(truth) + rms) + _CANCELLED * size
