"""Check 10, edge values: zeros, tiny, saturated, tied, offset, NaN and infinite, sizes 0 and 1."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.edge_values import NOT_FINITE, extreme_values, smaller_sizes
from funcnn.gradient.case.pullbacks import Subject, cast, cotangents_of
from funcnn.gradient.case.representatives import stands_for_its_rule
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.float64 import perturbed
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.truth.point import LOST, Found, Point, first_missing, put
from funcnn.gradient.truth.rounded import Rounded
from funcnn.gradient.verdict.figures import describe_error
from funcnn.gradient.verdict.judge import relative_error
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

NAME = "edge"
_STOPS = 2  # loops that did not end, of one leaf in one dtype

Tried = tuple[str, Verdict, str]  # variation, verdict and note


@registered("full", order=4, only_derivatives=True)
def edge(situation: Situation) -> Iterator[Result]:
    """Each leaf in turn at the ends of what it may hold, the others as they are.

    In float64 the cotangents are those of the reference, within 1e-9 and what rounding may do
    beside an ordinary cotangent; they are finite wherever those are. Where only autodiff is NaN or
    infinite, the note says so. What a NaN or an infinity spreads to by autodiff, too, in a dtype of
    the case, is left out. In each dtype of the case the cotangents are finite wherever the float64
    truth at the same numbers is, and no less accurate than autodiff by the policy of check 2. At a
    kink that the case does not declare, or where forward and reverse mode of the reference differ,
    a mismatch is inconclusive.

    Nobody gave these arguments: what is wrong with them is a note, unless somebody asks for more.

    On the first case of a rule the axes are cut to the sizes 1 and 0 as well.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.leaf, result.verdict) for result in edge(one)]
    [('x', 'pass'), ('', 'pass')]
    """
    if situation.case.reference is not None and situation.case.intent == "derivative":
        why = "the case has a reference of its own, which holds at its arguments alone"
        yield situation.result(NAME, "", "skip", why)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        for i, leaf in enumerate(situation.leaves):
            tried = list(_values_of(situation, i))
            for verdict, note, name in _summary(tried):
                yield situation.result(NAME, leaf, verdict, note, setting=name)
        if stands_for_its_rule(situation):
            tried = list(_sizes(situation))
            for verdict, note, name in _summary(tried):
                yield situation.result(NAME, "", verdict, note, setting=name and "sizes")
        else:
            yield situation.result(NAME, "", "skip", "sizes 0 and 1 are tried on the first case")


def _summary(tried: list[Tried]) -> Iterator[tuple[Verdict, str, str]]:
    """Verdict, note and variation: one for all that passed, one for each that did not."""
    counts = Counter(verdict for _, verdict, _ in tried)
    bad = {"fail", "inconclusive"}
    worst: Iterator[tuple[Verdict, str, str]]
    worst = ((v, f"{name}: {note}", name) for name, v, note in tried if v in bad)
    yield from worst
    reasons = Counter(note for _, verdict, note in tried if verdict == "skip")
    skipped = "".join(f"; {n} skipped: {why}" for why, n in reasons.items())
    wins = "".join(f"; {name}: {note}" for name, v, note in tried if v == "pass" and note)
    if counts["fail"] + counts["inconclusive"] and not counts["pass"]:
        return
    verdict = "pass" if counts["pass"] else "skip"
    yield verdict, f"{counts['pass']} variations compared{skipped}{wins}", ""


def _values_of(situation: Situation, i: int) -> Iterator[Tried]:
    """One leaf, in float64 and then in each dtype."""
    with jax.enable_x64(True):
        subject = situation.subject("float64")
        point = Point.of(subject, situation.seed)
        nothing = "no elements" if not subject.x[i].size else ("" if point.w_size else "no outputs")
        tried: list[Tried] = []
        for name, value in () if nothing else _extremes(situation, subject.x[i], "float64"):
            at = point.at(put(subject.x, i, value))
            found = _ended(tried, at.verdict)
            if found[0] == "fail" and name in NOT_FINITE:
                found = _ended(tried, functools.partial(_but_what_spreads, situation, i, at))
            tried.append((name, *found))
    skipped: list[Tried] = [("values", "skip", nothing)]
    yield from skipped if nothing else tried
    good = {name for name, verdict, _ in tried if verdict == "pass"}
    for dtype in situation.case.dtypes if good else ():
        low = situation.subject(dtype)
        w = cotangents_of(low, situation.seed)[0][1]
        tried: list[Tried] = []
        for name, value in _extremes(situation, subject.x[i], dtype):
            if name in good:
                x = put(low.x, i, value.astype(jnp.dtype(dtype)))
                run = functools.partial(_in_low_precision, point, low, x, w)
                tried.append((f"{name} {dtype}", *_ended(tried, run)))
        yield from tried


def _ended(tried: list[Tried], run: Callable[[], Found]) -> Found:
    """What is found, unless a loop does not end; after some such loops no more are tried."""
    if sum(note.startswith("stopped") for _, _, note in tried) >= _STOPS:
        return "skip", "not tried, after others that did not end"
    try:
        return run()
    except EndlessLoop as error:
        return "skip", f"stopped: {error}"


def _extremes(situation: Situation, x: np.ndarray, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    return extreme_values(x, dtype, situation.seed)


def _but_what_spreads(situation: Situation, i: int, point: Point) -> Found:
    """The verdict where autodiff is finite in each dtype of the case, too.

    A NaN meets the zeros of a border or it does not: how XLA computes one convolution decides, and
    it has another way in float32 than in float64.
    """
    unsaid = [np.zeros(np.shape(t), bool) for t in point.truth]
    for dtype in situation.case.dtypes:
        low = situation.subject(dtype)
        x = put(low.x, i, np.asarray(point.x[i]).astype(low.x[i].dtype))
        automatic = low.pull_automatic(x, cotangents_of(low, situation.seed)[0][1])[1]
        for no, t in zip(unsaid, automatic, strict=True):
            no |= ~np.isfinite(np.asarray(t, np.float64))
    return dataclasses.replace(point, unsaid=tuple(unsaid)).verdict()


def _in_low_precision(point: Point, low: Subject, x: tuple[Any, ...], w: list[Any]) -> Found:
    """The rule in a low precision: finite wherever the truth is, and as accurate as autodiff."""
    eps = float(jnp.finfo(x[0].dtype).eps)
    largest = float(jnp.finfo(x[0].dtype).max)
    y, manual = low.pull_manual(x, w)
    if not all(np.all(np.isfinite(np.asarray(v, np.float64))) for v in (*x, *y)):
        return "skip", "not finite in low precision"
    automatic = low.pull_automatic(x, w)[1]
    with jax.enable_x64(True):
        exact = dataclasses.replace(point, x=cast(x, jnp.float64), w=cast(w, jnp.float64))
        draws = [exact.truth_at(tuple(perturbed(exact.x, eps / 2, s))) for s in range(2)]
        truth = exact.truth
    for j, leaf in enumerate(low.leaves):
        m, a = (np.asarray(d[j], np.float64) for d in (manual, automatic))
        t = truth[j]
        missing = (np.abs(t) < largest / 16) & ~np.isfinite(m)
        if np.any(missing & np.isfinite(a)):
            return (
                "fail",
                f"cotangent of {leaf} is not finite where the truth is: {first_missing(m, t)}",
            )
        if np.any(missing):
            return "inconclusive", f"cotangent of {leaf} is not finite, and autodiff is not either"
        if not np.all(np.isfinite(t)) or not np.all(np.isfinite(m)):
            continue
        k = max(float(np.linalg.norm(d[j] - t)) for d in draws)
        lost = (LOST + 8 * eps * (not np.any(t))) * point.ordinary[j] * np.sqrt(t.size)
        trusted = np.linalg.norm(a - t) if np.all(np.isfinite(a)) else 0.0
        allowed = 2 * trusted + 2 * k + 2 * eps * np.linalg.norm(t) + lost
        if np.linalg.norm(m - t) > allowed:
            with jax.enable_x64(True):
                rounded = Rounded(
                    exact.subject, exact.x, exact.w, j, np.asarray(manual[j]), t, True
                )
                excused = ("pass", "") if rounded.is_zero() else rounded.verdict()
            if excused:
                if excused[0] == "pass":
                    continue
                return excused
            ulps = (
                f"{relative_error(m, t) / eps:.3g} ulps, autodiff {relative_error(a, t) / eps:.3g}"
            )
            return "fail", f"cotangent of {leaf} off by {ulps}: {describe_error(m, a, t)}"
    return "pass", ""


def _sizes(situation: Situation) -> Iterator[Tried]:
    for name, other in smaller_sizes(situation):
        with jax.enable_x64(True):
            subject = other.subject("float64")
            try:
                jax.eval_shape(subject.automatic, *subject.x)
            except Exception:  # whatever it raises, the function does not take these sizes
                yield name, "skip", "sizes that the function refuses"
                continue
            try:
                point = Point(subject, subject.x, cotangents_of(subject, other.seed)[0][1], ())
                verdict, note = point.verdict()
            except Exception as error:  # the reference takes these sizes
                why = first_line(error)
                verdict, note = "fail", f"the rule raises where its reference does not: {why}"
        yield name, verdict, note
