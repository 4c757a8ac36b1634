"""One trial: arguments and cotangents, how far off the gradient is there, and check's verdict.

The error is looked at quickly, for every trial; where it is more than is allowed, the verdict is
that of `check` at these arguments, appeals included.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.pullbacks import Subject, cast
from funcnn.gradient.checks.algebra import truth_of_leaf
from funcnn.gradient.checks.as_given import is_near, judged
from funcnn.gradient.hunt.extremes import leaves_the_range, overflows_as_given
from funcnn.gradient.hunt.place import Place
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.truth.appeal import NOISE, rounding_of
from funcnn.gradient.truth.point import Point
from funcnn.gradient.verdict.judge import ELEMENTS, allowed_in_algebra
from funcnn.types import Verdict

_SMALL = 1e-270  # what is below may have lost its digits in float64
# Numbers of a low precision nearer to its ends are left out, as by check's laws; float16 is small.
_FAR, _NOT_SO_FAR = 2.0**40, 2.0**6
_POOR = 0.05  # of a value: a program that is off by more does not compute it in this precision
_ORDINARY = 1e30  # beyond it, and below its inverse, float64 itself may leave its range


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Arguments and cotangents.

    Attributes:
        x: the leaves, in the dtypes that were given; integers and masks as floats.
        w: the cotangents of the outputs.
        how: what kinds of numbers these are, leaf by leaf, and last those of the cotangents.
    """

    x: tuple[np.ndarray, ...]
    w: tuple[np.ndarray, ...]
    how: tuple[str, ...] = ()

    def __str__(self) -> str:
        x, w = (", ".join(str(leaf.tolist()) for leaf in leaves) for leaves in (self.x, self.w))
        return textwrap.shorten(f"arguments {x}, cotangents {w}", 200, placeholder=" ...")


class Endless(Exception):
    """A rule's backward pass had to be stopped, where the function without its rules ended."""


class Score(NamedTuple):
    """How far off a gradient is: the worst of its leaves.

    Attributes:
        ratio: the error over what is allowed.
        error, allowed: of the worst element.
        leaf: its index.
        dtype: in which the rule ran: "float64", or the one that was given.
        why: why nothing was compared, or "".
    """

    ratio: float
    error: float = 0.0
    allowed: float = 0.0
    leaf: int = 0
    dtype: str = "float64"
    why: str = ""


def score(place: Place, trial: Trial) -> Score:
    """The error of the gradient at a trial; where its value is not defined nothing is said.

    Raises:
        Endless: the rule alone does not end there.
    """
    with np.errstate(all="ignore"):
        try:
            found, w, truth = _in_float64(place, trial)
            if found.why or found.ratio > 1 or not _has_low(place):
                return found
            return max(found, _as_given(place, trial, w, truth), key=lambda s: s.ratio)
        except EndlessLoop:
            return Score(0.0, why="a loop that did not end")


def _has_low(place: Place) -> bool:
    return any(jnp.finfo(x.dtype).bits < 64 for x in place.low.x)


def _in_float64(place: Place, trial: Trial) -> tuple[Score, list[Any], list[np.ndarray]]:
    with jax.enable_x64(True):
        x, w = cast(trial.x, "float64"), cast(list(trial.w), "float64")
        y, pulled = place.exact.pull_automatic(x, w)
        y = [np.asarray(v) for v in y]
        if any(np.any(np.isnan(v)) for v in y):
            return Score(0.0, why="the value is not defined"), w, []
        if any(np.any(np.isinf(v)) for v in y):  # the others have a derivative
            w = [np.where(np.isinf(v), 0.0, dy) for v, dy in zip(y, w, strict=True)]
            pulled = place.exact.pull_automatic(x, w)[1]
        truth = [np.asarray(t) for t in pulled]
        if place.pinned:
            why = "" if _has_low(place) else "it computes in a dtype of its own"
            return Score(0.0, why=why), w, truth
        value, manual = _by_hand(place.exact, x, w, truth)
    if any(np.any(np.isnan(v)) for v in value) and not _all_finite(trial.x):
        return Score(0.0, why="the value by hand is NaN at an infinite argument"), w, truth
    truth = _but_what_spreads(place, trial, truth)
    best = Score(0.0, why="the derivative is not finite")
    for i in _floats(place):
        one = _of_leaf(i, manual[i], truth[i])
        best = one if best.why or one.ratio > best.ratio else best
    return best, w, truth


def _by_hand(
    subject: Subject, x: tuple[Any, ...], w: list[Any], truth: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The value of the function with its rules, and its cotangents."""
    try:
        y, pulled = subject.pull_manual(x, w)
        return [np.asarray(v) for v in y], [np.asarray(m) for m in pulled]
    except EndlessLoop as error:
        if not _all_finite((*x, *truth)):
            raise
        raise Endless(f"{error} on the way back; without the rule it ends") from error


def _all_finite(leaves: Iterable[np.ndarray]) -> bool:
    return all(np.all(np.isfinite(leaf)) for leaf in leaves)


def _floats(place: Place) -> list[int]:
    return [i for i, kind in enumerate(place.hunted.kinds) if kind == "float"]


def _but_what_spreads(place: Place, trial: Trial, truth: list[np.ndarray]) -> list[np.ndarray]:
    """The truth but where an infinite argument makes autodiff NaN in the dtypes given.

    How XLA computes decides there, and it has another way in another dtype.
    """
    if _all_finite(trial.x) or not _has_low(place):
        return truth
    finite = _finite_in_low(place, trial)
    return [np.where(known, t, np.nan) for known, t in zip(finite, truth, strict=True)]


def _finite_in_low(place: Place, trial: Trial) -> list[np.ndarray]:
    with jax.enable_x64(False):
        automatic = place.low.pull_automatic(trial.x, list(trial.w))[1]
    return [np.isfinite(np.asarray(a, np.float64)) for a in automatic]


def _of_leaf(i: int, manual: np.ndarray, truth: np.ndarray, dtype: str = "float64") -> Score:
    known = np.isfinite(truth)
    if not np.any(known):
        return Score(0.0, leaf=i, why="the derivative is not finite")
    allowed = allowed_in_algebra(truth) + _SMALL
    error = np.where(known, np.abs(manual - np.where(known, truth, 0.0)), 0.0)
    error = np.where(np.isnan(error), np.inf, error)
    ratios = error / allowed
    worst = int(np.argmax(ratios))
    ratio, off, most = (float(v.flat[worst]) for v in map(np.asarray, (ratios, error, allowed)))
    return Score(ratio, off, most, i, dtype)


def _as_given(place: Place, trial: Trial, w: list[Any], truth: list[np.ndarray]) -> Score:
    """In the dtypes that were given, where the function itself computes its value in them."""
    if not all(map(_is_ordinary, trial.x)):
        return Score(0.0)
    low_w = _low(w, trial)
    _, manual = _by_hand(place.low, trial.x, low_w, truth)
    off = [i for i in _floats(place) if _is_off(manual[i], truth[i])]
    if not off or not _computes_its_value(place, trial, low_w):
        return Score(0.0)
    best = Score(0.0)
    for i in off:
        half = float(np.sqrt(jnp.finfo(manual[i].dtype).eps))
        t = np.where(np.isfinite(truth[i]), truth[i], 0.0)
        allowed = half * (np.abs(t) + np.sqrt(np.mean(np.square(t)))) + _SMALL
        error = np.abs(manual[i].astype(np.float64) - t)
        error = np.where(_within(t, manual[i]), np.where(np.isnan(error), np.inf, error), 0.0)
        worst = int(np.argmax(error / allowed))
        ratio, e, a = (float(v.flat[worst]) for v in (error / allowed, error, allowed))
        dtype = str(manual[i].dtype)
        best = max(best, Score(ratio, e, a, i, dtype), key=lambda s: s.ratio)
    return best


def _is_ordinary(x: np.ndarray) -> bool:
    """Whether all are finite, and none is subnormal: XLA takes those for zero on a CPU."""
    size, tiny = np.abs(x.astype(np.float64)), float(jnp.finfo(x.dtype).smallest_normal)
    return bool(np.all(np.isfinite(size) & ((size == 0) | (size >= tiny))))


def _low(w: list[Any], trial: Trial) -> list[Any]:
    return [np.asarray(dy).astype(given.dtype) for dy, given in zip(w, trial.w, strict=True)]


def _is_off(manual: np.ndarray, truth: np.ndarray) -> bool:
    known = _within(truth, manual)
    blank = np.zeros((), manual.dtype)
    return not is_near(np.where(known, manual, blank), np.where(known, truth, 0.0))


def _within(truth: np.ndarray, manual: np.ndarray) -> np.ndarray:
    """Where the truth is well inside the range of the dtype, or zero."""
    info, size = jnp.finfo(manual.dtype), np.abs(truth)
    far = _FAR if info.nexp >= 8 else _NOT_SO_FAR
    high, low = float(info.max) / far, float(info.smallest_normal) * far
    return np.isfinite(truth) & (size < high) & ((size > low) | (truth == 0))


def _computes_its_value(place: Place, trial: Trial, w: list[Any]) -> bool:
    """Whether the function without its rules comes near its value and its gradient, too.

    Where it overflows in this precision, nobody may expect a gradient.
    """
    y, g = place.low.pull_automatic(trial.x, w)
    with jax.enable_x64(True):
        x = cast(trial.x, "float64")
        exact, truth = place.exact.pull_automatic(x, cast(w, "float64"))
    pairs = [*zip(y, exact, strict=True), *zip(g, truth, strict=True)]
    return all(_comes_near(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _comes_near(low: np.ndarray, exact: np.ndarray) -> bool:
    known = np.isfinite(exact)
    size = np.abs(np.where(known, exact, 0.0))
    slack = float(jnp.finfo(low.dtype).smallest_normal) * _FAR
    error = np.abs(low.astype(np.float64) - np.where(known, exact, 0.0))
    return bool(np.all(~known | (error <= _POOR * size + slack)))


def verdict(place: Place, trial: Trial, found: Score) -> tuple[Verdict, str]:
    """What `check` says of the leaf at this trial, appeals included, and why."""
    i = found.leaf
    with np.errstate(all="ignore"):
        try:
            if _is_extreme(trial) and leaves_the_range(place, trial):
                return "inconclusive", "float64 itself leaves its range on the way"
            if found.dtype == "float64":
                return _algebra(place, trial, i)
            if overflows_as_given(place, trial):
                return "inconclusive", "the function without its rule overflows on the way"
            return _low_verdict(place, trial, i)
        except EndlessLoop as error:
            return "inconclusive", f"stopped: {error}"


def _is_extreme(trial: Trial) -> bool:
    sizes = np.concatenate([np.ravel(np.abs(v)).astype(np.float64) for v in (*trial.x, *trial.w)])
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return bool(np.any(sizes > _ORDINARY) or np.any(sizes < 1 / _ORDINARY))


def _algebra(place: Place, trial: Trial, i: int) -> tuple[Verdict, str]:
    with jax.enable_x64(True):
        x, w = cast(trial.x, "float64"), _finite_only(place, trial)
        subject = place.exact.at(x)
        if not _all_finite(x):
            finite = _finite_in_low(place, trial)
            return Point(subject, x, w, (), tuple(~known for known in finite)).verdict()
        said, note = truth_of_leaf(place.situation, subject, [("hunted", w)], i)
        if said != "fail":
            return ("pass" if said == "zero" else said), note
        if ELEMENTS not in note:  # at the ends of what there is, more is excused
            again = Point(subject, x, w, ()).verdict()
            if again[0] != "fail":
                return again
        if _may_be_lost(subject, x, w, i):
            return "inconclusive", "the truth has lost its digits here"
        return "fail", note.removeprefix("cotangent hunted: ")


def _may_be_lost(subject: Subject, x: tuple[Any, ...], w: list[Any], i: int) -> bool:
    """Whether rounding explains it, if that of any element counts for all.

    Of many trials some have draws of rounding errors that happen to cancel.
    """
    manual, truth = (
        np.asarray(pull(x, w)[1][i]) for pull in (subject.pull_manual, subject.pull_automatic)
    )
    if not np.all(np.isfinite(manual)):
        return False
    noise = rounding_of(subject, x, w, 2.0**-52)[i]
    known = np.isfinite(truth)
    error = np.where(known, np.abs(manual - np.where(known, truth, 0.0)), 0.0)
    return bool(np.all(error <= allowed_in_algebra(truth) + NOISE * np.max(noise, initial=0.0)))


def _finite_only(place: Place, trial: Trial) -> list[Any]:
    x, w = cast(trial.x, "float64"), cast(list(trial.w), "float64")
    y = [np.asarray(v) for v in place.exact.pull_automatic(x, w)[0]]
    return [np.where(np.isfinite(v), dy, 0.0) for v, dy in zip(y, w, strict=True)]


def _low_verdict(place: Place, trial: Trial, i: int) -> tuple[Verdict, str]:
    with jax.enable_x64(True):
        w = _finite_only(place, trial)
        x = cast(trial.x, "float64")
        exact = place.exact.at(x)
        truth = [np.asarray(t) for t in exact.pull_automatic(x, w)[1]]
    low_w = _low(w, trial)
    manual = tuple(map(np.asarray, place.low.pull_manual(trial.x, low_w)[1]))
    known = _within(truth[i], manual[i])
    # What is left out is zero on both sides.
    shown = np.where(known, manual[i], 0).astype(manual[i].dtype)
    manual = (*manual[:i], shown, *manual[i + 1 :])
    truth = [*truth[:i], np.where(known, truth[i], 0.0), *truth[i + 1 :]]
    return judged(place.low.at(trial.x), exact, i, low_w, manual, truth)
