"""Check 11, kinks and ties: between the one-sided derivatives, by the reference's convention."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.truth.richardson import extrapolated, steps_from
from funcnn.gradient.verdict.results import Result
from funcnn.types import Array, Function, Verdict

NAME = "kink"
_COORDINATES = 64  # of one leaf
_STEPS = steps_from(1e-4, 3)
_ROWS = 128  # of one call: every number of coordinates runs the same program
_BETWEEN = 1e-9  # relative, beside ten times the error bar of the differences
_CONVENTION = 1e-9  # relative: the same slope chosen, in other arithmetic
_TOO_WIDE = 1e-4


@registered("full", order=5, only_derivatives=True)
def kink(situation: Situation) -> Iterator[Result]:
    """At declared kinks and ties each coordinate of the cotangent is held against two things.

    It lies between what the derivatives from the left and from the right allow, and it is what
    autodiff of the reference says: the convention of the rule is that of its reference. And a
    second call gives the same bits, so that ties are split the same way every time.

    Of a leaf with more than 64 elements the coordinates at kinks come first, then drawn ones.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> zeros = Case("zeros", (np.zeros(3),), kinks=True)
    >>> [str(result) for result in kink(Situation.of_rule(rules.relu, zeros))]
    ['PASS relu kink: leaf x case zeros: 3 of 3 coordinates, 3 at a kink']
    """
    if not situation.case.kinks:
        return
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        subject = situation.subject("float64")
        verdicts = list(_verdicts(subject, situation.seed))
    for leaf, verdict in zip(situation.leaves, verdicts, strict=True):
        yield situation.result(NAME, leaf, *verdict)


def _verdicts(subject: Subject, seed: int) -> Iterator[tuple[Verdict, str]]:
    w = cotangents_of(subject, seed)[0][1]
    if not sum(dy.size for dy in w):
        skipped: tuple[Verdict, str] = "skip", "no outputs"
        yield from [skipped] * len(subject.x)
        return
    y = subject.pull_automatic(subject.x, w)[0]
    finite = [np.isfinite(np.asarray(yi)) for yi in y]
    w = [np.where(ok, dy, 0.0) for ok, dy in zip(finite, w, strict=True)]
    manual, again = (subject.pull_manual(subject.x, w)[1] for _ in range(2))
    automatic = subject.pull_automatic(subject.x, w)[1]
    program = _along_coordinates(subject)
    for i, x in enumerate(subject.x):
        if not np.array_equal(manual[i], again[i], equal_nan=True):
            yield "fail", "a second call gives other bits"
        elif not np.any(np.isfinite(x)):
            yield "skip", "no finite elements"
        else:
            pair = (np.ravel(np.asarray(d[i], np.float64)) for d in (manual, automatic))
            yield _Sides.of(program, subject, i, w, seed).verdict(*pair)


def _along_coordinates(subject: Subject) -> Function:
    """`(x, leaf, coordinates, steps) -> (rows, M)`: f with one coordinate of one leaf moved."""

    def values(x: Sequence[Array], leaf: Array, coordinates: Array, steps: Array) -> Array:
        def at(row: tuple[Array, Array]) -> Array:
            coordinate, step = row
            moved = []
            for i, xi in enumerate(x):
                places = jnp.arange(xi.size).reshape(xi.shape)
                chosen = (places == coordinate) & (leaf == i)
                # Where nothing moves x stays as it is, infinite or not.
                moved.append(jnp.where(chosen, xi + step, xi))
            return jnp.concatenate([jnp.ravel(y) for y in subject.automatic(*moved)])

        return jax.lax.map(at, (coordinates, steps))

    return compiled(values)


@dataclasses.dataclass(frozen=True)
class _Sides:
    """What the one-sided derivatives by some coordinates of a leaf allow for its cotangent.

    Attributes:
        coordinates: which, as flat indices.
        low, high: for each the smallest and largest sum over the outputs of w times a derivative
            between that from the left and that from the right.
        bar: the error bar of both.
        at_kink: whether the two sides differ.
        size: the number of elements of the leaf.
    """

    coordinates: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bar: np.ndarray
    at_kink: np.ndarray
    size: int

    @classmethod
    def of(cls, program: Function, subject: Subject, i: int, w: list[Any], seed: int) -> _Sides:
        x = np.ravel(np.asarray(subject.x[i]))
        weights = np.concatenate([np.ravel(dy) for dy in w])  # (M,)
        chosen = _chosen(program, subject, i, weights, seed)
        steps = np.abs(np.where(x[chosen] == 0, _typical(x), x[chosen]))[:, None] * _STEPS  # (C, K)
        slopes, bars = [], []
        middle = _evaluate(program, subject, i, chosen[:1], np.zeros((1, 1)))[0, 0]  # (M,)
        for sign in (1.0, -1.0):
            values = _evaluate(program, subject, i, chosen, sign * steps)  # (C, K, M)
            with np.errstate(invalid="ignore"):
                table = (values - middle) / (sign * steps[:, :, None])
            table = np.where(weights == 0, 0.0, table)  # an infinite output takes no part
            slope, change = extrapolated(np.moveaxis(table, 1, 0), order=1)  # (C, M)
            slopes.append(np.where(weights == 0, 0.0, weights * slope))
            bars.append(np.sum(np.abs(weights * change), -1))
        # Outputs that do not move at all carry no rounding either.
        carried = np.where((slopes[0] == 0) & (slopes[1] == 0), 0.0, np.abs(weights * middle))
        noise = np.finfo(np.float64).eps * np.sum(carried, -1)  # (C,)
        low = np.sum(np.minimum(*slopes), -1)
        high = np.sum(np.maximum(*slopes), -1)
        bar = bars[0] + bars[1] + 4 * noise / steps[:, -1]
        return cls(chosen, low, high, bar, high - low > 20 * bar + 1e-9, x.size)

    def verdict(self, manual: np.ndarray, automatic: np.ndarray) -> tuple[Verdict, str]:
        """Of the flat cotangents of the whole leaf."""
        m, a = manual[self.coordinates], automatic[self.coordinates]
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        scale = np.maximum(largest, _typical(largest))
        largest = np.maximum(scale, np.where(np.isfinite(a), np.abs(a), 0.0))
        judged = np.isfinite(self.bar) & (self.bar <= _TOO_WIDE * largest)
        slack = 10 * self.bar + _BETWEEN * scale
        # Written so that NaN is outside.
        outside = judged & ~((m >= self.low - slack) & (m <= self.high + slack))
        blamed = judged & ~((a >= self.low - slack) & (a <= self.high + slack))
        other = judged & ~(np.abs(m - a) <= _CONVENTION * largest)
        for wrong, why in (
            (blamed, "the reference's own derivative is not between its one-sided ones"),
            (outside, "not between the one-sided derivatives"),
            (other, "not the convention of the reference"),
        ):
            if np.any(wrong):
                return "fail", f"{why}: {self._worst(wrong, m, a)}"
        count = f"{np.sum(judged)} of {self.size} coordinates"
        if not np.any(judged):
            return "inconclusive", f"{count}: the differences say nothing about the others"
        return "pass", f"{count}, {np.sum(judged & self.at_kink)} at a kink"

    def _worst(self, wrong: np.ndarray, m: np.ndarray, a: np.ndarray) -> str:
        i = int(np.argmax(wrong))
        return (
            f"{np.sum(wrong)} coordinates, first {self.coordinates[i]}: manual {m[i]:.6g}, "
            f"automatic {a[i]:.6g}, one-sided {self.low[i]:.6g} to {self.high[i]:.6g}"
        )


def _chosen(
    program: Function, subject: Subject, i: int, weights: np.ndarray, seed: int
) -> np.ndarray:
    """The finite coordinates; of many those at kinks first, which two points each can tell."""
    x = np.ravel(np.asarray(subject.x[i]))
    finite = np.flatnonzero(np.isfinite(x))
    if finite.size <= _COORDINATES:
        return finite
    finite = np.random.default_rng([seed, 11]).permutation(finite)[: 8 * _COORDINATES]
    h = (np.abs(np.where(x[finite] == 0, _typical(x), x[finite])) * _STEPS[-1])[:, None]
    right, left = (_evaluate(program, subject, i, finite, s * h)[:, 0] for s in (1.0, -1.0))
    middle = _evaluate(program, subject, i, finite[:1], np.zeros((1, 1)))[0, 0]
    second = np.nan_to_num(np.abs(right - 2 * middle + left) * np.abs(weights), posinf=0.0)
    bent = np.max(second, -1, initial=0.0) / h[:, 0]
    return finite[np.argsort(-bent, kind="stable")[:_COORDINATES]]


def _evaluate(
    program: Function, subject: Subject, i: int, chosen: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """f with each coordinate moved by each of its steps, (C, K) -> (C, K, M)."""
    rows = np.repeat(chosen, steps.shape[1]), np.ravel(steps)
    out = []
    for start in range(0, len(rows[0]), _ROWS):
        coordinates, moves = (r[start : start + _ROWS] for r in rows)
        n = len(coordinates)
        padded = np.pad(coordinates, (0, _ROWS - n)), np.pad(moves, (0, _ROWS - n))
        out.append(np.asarray(program(subject.x, i, *padded))[:n])
    values = np.concatenate(out)
    return values.reshape(*steps.shape, values.shape[-1])


def _typical(x: np.ndarray) -> float:
    """The median size of the elements that are finite and not zero, or 1."""
    sizes = np.abs(x[np.isfinite(x) & (x != 0)])
    return float(np.median(sizes)) if sizes.size else 1.0
