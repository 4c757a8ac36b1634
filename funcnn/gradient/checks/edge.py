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

from funcnn.gradient.appeal import Appeal, Rounded
from funcnn.gradient.error_lines import first_line
from funcnn.gradient.error_text import describe_error
from funcnn.gradient.extremes import extreme_values, smaller_sizes
from funcnn.gradient.judge import relative_error
from funcnn.gradient.loops import EndlessLoop
from funcnn.gradient.results import Result
from funcnn.gradient.situation import Situation
from funcnn.gradient.subject import Subject, cast, cotangents_of
from funcnn.gradient.truth import perturbed

NAME = "edge"
_ELEMENT = 1e-9  # relative, as in check 1
_EPS = float(np.finfo(np.float64).eps)
_LOST = 1e3 * _EPS  # of an ordinary cotangent: autodiff in float64 is no truth below

_STOPS = 2  # loops that did not end, of one leaf in one dtype

Found = tuple[str, str]  # verdict and note
Tried = tuple[str, str, str]  # variation, verdict and note


def edge(situation: Situation) -> Iterator[Result]:
    """Each leaf in turn at the ends of what it may hold, the others as they are.

    In float64 the cotangents are those of the reference, within 1e-9 and what rounding may do
    beside an ordinary cotangent; they are finite wherever those are. Where only autodiff is NaN or
    infinite, the note says so. In each dtype of the case they are finite wherever the float64 truth
    at the same numbers is, and no less accurate than autodiff by the policy of check 2. At a kink
    that the case does not declare, or where forward and reverse mode of the reference differ, a
    mismatch is inconclusive.

    Nobody gave these arguments: what is wrong with them is a note, unless somebody asks for more.

    On the first case of a rule the axes are cut to the sizes 1 and 0 as well.

    >>> from funcnn import rules
    >>> from funcnn.registry import Case
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
            found = list(_values_of(situation, i))
            for verdict, note, name in _summary(found):
                yield situation.result(NAME, leaf, verdict, note, setting=name)
        if is_first_case(situation):
            found = list(_sizes(situation))
            for verdict, note, name in _summary(found):
                yield situation.result(NAME, "", verdict, note, setting=name and "sizes")
        else:
            yield situation.result(NAME, "", "skip", "sizes 0 and 1 are tried on the first case")


def is_first_case(situation: Situation) -> bool:
    """Whether this is the first case of its rule, or arguments that are none of its cases.

    >>> from funcnn import rules
    >>> cases = rules.relu.cases()
    >>> [is_first_case(Situation.of_rule(rules.relu, case)) for case in cases[:2]]
    [True, False]
    """
    cases = situation.rule.cases() if situation.rule else []
    names = [case.name for case in cases]
    return situation.case.name not in names[1:] or situation.case.name == names[0]


def _summary(found: list[Tried]) -> Iterator[Tried]:
    """Verdict, note and variation: one for all that passed, one for each that did not."""
    counts = Counter(verdict for _, verdict, _ in found)
    bad = {"fail", "inconclusive"}
    yield from ((v, f"{name}: {note}", name) for name, v, note in found if v in bad)
    reasons = Counter(note for _, verdict, note in found if verdict == "skip")
    skipped = "".join(f"; {n} skipped: {why}" for why, n in reasons.items())
    wins = "".join(f"; {name}: {note}" for name, v, note in found if v == "pass" and note)
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
        found: list[Tried] = []
        for name, value in () if nothing else _extremes(situation, subject.x[i], "float64"):
            at = point.at(_put(subject.x, i, value))
            found.append((name, *_ended(found, at.verdict)))
    yield from [("values", "skip", nothing)] if nothing else found
    good = {name for name, verdict, _ in found if verdict == "pass"}
    for dtype in situation.case.dtypes if good else ():
        low = situation.subject(dtype)
        w = cotangents_of(low, situation.seed)[0][1]
        tried: list[Tried] = []
        for name, value in _extremes(situation, subject.x[i], dtype):
            if name in good:
                x = _put(low.x, i, value.astype(jnp.dtype(dtype)))
                run = functools.partial(_in_low_precision, point, low, x, w)
                tried.append((f"{name} {dtype}", *_ended(tried, run)))
        yield from tried


def _ended(found: list[Tried], run: Callable[[], Found]) -> Found:
    """What is found, unless a loop does not end; after some such loops no more are tried."""
    if sum(note.startswith("stopped") for _, _, note in found) >= _STOPS:
        return "skip", "not tried, after others that did not end"
    try:
        return run()
    except EndlessLoop as error:
        return "skip", f"stopped: {error}"


def _extremes(situation: Situation, x: Any, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    return extreme_values(x, dtype, situation.seed)


def _put(x: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
    return (*x[:i], value, *x[i + 1 :])


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """The manual and the automatic cotangents of a subject in float64 at one point.

    Attributes:
        subject: in float64.
        x: the point.
        w: the cotangents of its outputs.
        ordinary: for each leaf, how large an ordinary cotangent is.
    """

    subject: Subject
    x: tuple[Any, ...]
    w: list[Any]
    ordinary: tuple[float, ...]

    @classmethod
    def of(cls, subject: Subject, seed: int = 0) -> Point:
        """The point at which the subject stands. Needs x64 to be enabled, as all here does.

        >>> from funcnn import rules
        >>> from funcnn.registry import Case
        >>> with jax.enable_x64(True):
        ...     case = Case("one", (np.array([20.0, 1.0]),))
        ...     Point.of(Situation.of_rule(rules.relu, case).subject("float64")).verdict()
        ('pass', '')
        """
        w = cotangents_of(subject, seed)[0][1]
        largest = max((float(np.max(np.abs(dy), initial=0.0)) for dy in w), default=0.0)
        plain = cls(subject, subject.x, w, ())
        sizes = (np.abs(t[np.isfinite(t)]) for t in plain.truth)
        return dataclasses.replace(
            plain, ordinary=tuple(float(np.max(s, initial=0.0)) or largest for s in sizes)
        )

    def at(self, x: tuple[Any, ...]) -> Point:
        """The same at another point."""
        return dataclasses.replace(self, x=x)

    @property
    def w_size(self) -> int:
        """How many outputs there are."""
        return sum(dy.size for dy in self.w)

    @functools.cached_property
    def truth(self) -> list[np.ndarray]:
        """The automatic cotangents of the leaves."""
        return [np.asarray(d) for d in self.subject.pull_automatic(self.x, self.w)[1]]

    def truth_at(self, x: tuple[Any, ...]) -> list[np.ndarray]:
        """The automatic cotangents at another point."""
        return self.at(x).truth

    def verdict(self) -> Found:
        """("pass", "fail", "inconclusive" or "skip", why) over all leaves."""
        manual = [np.asarray(d) for d in self.subject.pull_manual(self.x, self.w)[1]]
        found = [self._verdict(j, m) for j, m in enumerate(manual)]
        order = ("fail", "inconclusive", "pass", "skip")
        return min(found, key=lambda f: (order.index(f[0]), not f[1]))

    def _verdict(self, j: int, m: np.ndarray) -> Found:
        leaf, t = self.subject.leaves[j], self.truth[j]
        both = np.isfinite(m) & np.isfinite(t)
        if not t.size:
            return "skip", "no elements"
        if np.any(np.isfinite(t) & ~np.isfinite(m)) and not self.subject.has_loop:
            return "fail", f"cotangent of {leaf} is not finite where autodiff is: {_first(m, t)}"
        if not np.any(both):
            alone = np.any(np.isfinite(m))
            note = f"cotangent of {leaf} is finite, and autodiff is not"
            return ("pass", note) if alone else ("skip", "no cotangent is finite")
        wrong = both & ~(np.abs(m - t) <= self._allowed(j, both))
        if np.any(wrong):
            if self.subject.has_loop:
                return "inconclusive", "a loop that ends by its numbers ends elsewhere with these"
            return (self._beside_infinite_values(j) or self._excuse(j, m, wrong)) or (
                "fail",
                f"cotangent of {leaf}: " + describe_error(*_where(both, m), _where(both, t)[0]),
            )
        wins = int(np.sum(np.isfinite(m) & ~np.isfinite(t)))
        return "pass", f"finite where autodiff is not, {wins} of {leaf}" if wins else ""

    def _allowed(self, j: int, both: np.ndarray) -> np.ndarray:
        t = np.where(both, self.truth[j], 0.0)
        rms = float(np.linalg.norm(t)) / np.sqrt(max(int(np.sum(both)), 1))
        return _ELEMENT * (np.abs(t) + rms) + _LOST * (self.ordinary[j] if self.ordinary else 0.0)

    def _beside_infinite_values(self, j: int) -> Found | None:
        """The verdict on the outputs that are finite: another one has no derivative to be right."""
        y = [np.asarray(v) for v in self.subject.pull_automatic(self.x, self.w)[0]]
        if all(np.all(np.isfinite(v)) for v in y):
            return None
        w = [np.where(np.isfinite(v), dy, 0.0) for v, dy in zip(y, self.w, strict=True)]
        if all(np.array_equal(a, b) for a, b in zip(w, self.w, strict=True)):
            return None  # these are those outputs
        beside = dataclasses.replace(self, w=w)
        return beside._verdict(j, np.asarray(self.subject.pull_manual(self.x, w)[1][j]))

    def _excuse(self, j: int, m: np.ndarray, wrong: np.ndarray) -> Found | None:
        """Why a mismatch says nothing about the rule: see Appeal; or there is no truth."""
        t, allowed = self.truth[j], self._allowed(j, np.isfinite(self.truth[j]))
        both = np.isfinite(m) & np.isfinite(t)
        manual, truth = np.where(both, m, 0.0), np.where(both, t, 0.0)
        found = Appeal(self.subject, self.x, self.w, j, manual, truth, allowed).verdict()
        if found:
            return found
        error = np.where(wrong, np.abs(m - t), 0.0)
        draws = [self.truth_at(tuple(perturbed(self.x, _EPS / 2, s)))[j] for s in range(2)]
        noise = np.max([np.abs(np.nan_to_num(d - t, nan=np.inf)) for d in draws], axis=0)
        if not np.any(wrong & ~(np.abs(m - t) <= allowed + 1e3 * noise)):
            return "inconclusive", "the truth itself is uncertain by as much"
        worst = int(np.argmax(error))
        forward = self._forward(j, worst)
        if not abs(forward - t.flat[worst]) <= 0.1 * error.flat[worst]:
            return "inconclusive", "forward and reverse mode of the reference differ as much"
        return None

    def _forward(self, j: int, c: int) -> float:
        """One element of the truth by forward mode."""
        v = [np.zeros_like(np.asarray(x)) for x in self.x]
        v[j].flat[c] = 1.0
        pushed = self.subject.push_automatic(self.x, tuple(v))
        return float(sum(np.vdot(w, y) for w, y in zip(self.w, pushed, strict=True)))


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
            return "fail", f"cotangent of {leaf} is not finite where the truth is: {_first(m, t)}"
        if np.any(missing):
            return "inconclusive", f"cotangent of {leaf} is not finite, and autodiff is not either"
        if not np.all(np.isfinite(t)) or not np.all(np.isfinite(m)):
            continue
        k = max(float(np.linalg.norm(d[j] - t)) for d in draws)
        lost = (_LOST + 8 * eps * (not np.any(t))) * point.ordinary[j] * np.sqrt(t.size)
        trusted = np.linalg.norm(a - t) if np.all(np.isfinite(a)) else 0.0
        allowed = 2 * trusted + 2 * k + 2 * eps * np.linalg.norm(t) + lost
        if np.linalg.norm(m - t) > allowed:
            with jax.enable_x64(True):
                rounded = Rounded(exact.subject, exact.x, exact.w, j, np.asarray(manual[j]), t)
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


def _where(chosen: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, None]:
    return np.where(chosen, d, 0.0), None


def _first(m: np.ndarray, t: np.ndarray) -> str:
    i = np.unravel_index(int(np.argmax(np.isfinite(t) & ~np.isfinite(m))), t.shape)
    return f"{m[i]} at {[int(n) for n in i]}, where it is {t[i]:.6g}"
