"""The manual and the automatic gradient of a function in float64 at one point, and a verdict."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.program.float64 import perturbed
from funcnn.gradient.truth.appeal import Appeal
from funcnn.gradient.verdict.figures import describe_error
from funcnn.types import ArrayLike, Verdict

_ELEMENT = 1e-9  # relative, as in check 1
_EPS = float(np.finfo(np.float64).eps)
LOST = 1e3 * _EPS  # of an ordinary cotangent: autodiff in float64 is no truth below

Found = tuple[Verdict, str]  # verdict and note


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """The manual and the automatic cotangents of a subject in float64 at one point.

    Attributes:
        subject: in float64.
        x: the point.
        w: the cotangents of its outputs.
        ordinary: for each leaf, how large an ordinary cotangent is.
        unsaid: for each leaf, where nothing is asked of its cotangent; empty: nowhere.
    """

    subject: Subject
    x: tuple[Any, ...]
    w: list[Any]
    ordinary: tuple[float, ...]
    unsaid: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, subject: Subject, seed: int = 0) -> Point:
        """The point at which the subject stands. Needs x64 to be enabled, as all here does.

        >>> import jax
        >>> from funcnn import rules
        >>> from funcnn.gradient.case.bound_case import Situation
        >>> from funcnn.core.registry import Case
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
        truth = [np.asarray(d) for d in self.subject.pull_automatic(self.x, self.w)[1]]
        if not self.unsaid:
            return truth
        return [np.where(no, np.nan, t) for no, t in zip(self.unsaid, truth, strict=True)]

    def truth_at(self, x: tuple[Any, ...]) -> list[np.ndarray]:
        """The automatic cotangents at another point."""
        return self.at(x).truth

    def verdict(self) -> Found:
        """("pass", "fail", "inconclusive" or "skip", why) over all leaves."""
        manual = [np.asarray(d) for d in self.subject.pull_manual(self.x, self.w)[1]]
        verdicts = [self._verdict(j, m) for j, m in enumerate(manual)]
        order = ("fail", "inconclusive", "pass", "skip")
        return min(verdicts, key=lambda f: (order.index(f[0]), not f[1]))

    def _verdict(self, j: int, m: np.ndarray) -> Found:
        leaf, t = self.subject.leaves[j], self.truth[j]
        both = np.isfinite(m) & np.isfinite(t)
        if not t.size:
            return "skip", "no elements"
        if np.any(np.isfinite(t) & ~np.isfinite(m)) and not self.subject.has_loop:
            return (
                "fail",
                f"cotangent of {leaf} is not finite where autodiff is: {first_missing(m, t)}",
            )
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
        return _ELEMENT * (np.abs(t) + rms) + LOST * (self.ordinary[j] if self.ordinary else 0.0)

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
        excuse = Appeal(self.subject, self.x, self.w, j, manual, truth, allowed).verdict()
        if excuse:
            return excuse
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


def put(x: tuple[Any, ...], i: int, value: ArrayLike) -> tuple[Any, ...]:
    """The leaves with another one in the place of leaf i.

    >>> put((1, 2, 3), 1, 5)
    (1, 5, 3)
    """
    return (*x[:i], value, *x[i + 1 :])


def _where(chosen: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, None]:
    return np.where(chosen, d, 0.0), None


def first_missing(m: np.ndarray, t: np.ndarray) -> str:
    """The first element that is not finite where the truth is.

    >>> first_missing(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    'nan at [1], where it is 2'
    """
    i = np.unravel_index(int(np.argmax(np.isfinite(t) & ~np.isfinite(m))), t.shape)
    return f"{m[i]} at {[int(n) for n in i]}, where it is {t[i]:.6g}"
