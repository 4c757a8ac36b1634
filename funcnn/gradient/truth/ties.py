"""Whether a gradient at ties is one that no way to break them explains.

Each element of a tie may lie between its own two slopes, and their sum be wrong: where max(x, y)
gives dy to both. What is moved along with its partners does not break the tie; where the function
is smooth in such a direction there is one slope, and every gradient has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn.gradient.truth.contested import TINY, Contested

_ROUNDS = 16  # directions that are tried
_WORST = 8  # elements that are looked at with their partners alone, where all at once say nothing
_NEAR = 1e-9  # relative, in float64
STEP = 2.0**-27  # relative: a power of 2, so that what ties is rounded alike
_GRID = 2.0**20  # elements of a direction that are equal but for rounding are made equal
_EXPLAINED = 1e-4  # relative
_COMPARABLE = 1e-4  # of the largest element that is moved
_CLEAR = 1e-2  # of what is judged: what may be unclear about the function


def misses_a_tie(one: Contested) -> bool | None:
    """Whether some direction along which the function is smooth has another slope than this says.

    None where no direction tells: a tie of products bends away from every one of them. The
    gradients beside the point, one for each way to break the ties, are looked for in the
    direction of what they do not explain yet. None of them there: it is no other side's gradient.

    >>> import jax
    >>> from funcnn.gradient.case.pullbacks import Subject
    >>> x, half = np.ones(2), np.full(2, 0.5)
    >>> def misses(manual):
    ...     f = lambda x: [jax.numpy.max(x)]
    ...     with jax.enable_x64(True):
    ...         one = Subject(("x",), (x,), f, f, False)
    ...         return misses_a_tie(Contested(one, (x,), [1.0], 0, manual, half, 1e-9 * x))
    >>> misses(np.array([1.0, 0.0])), misses(np.array([0.3, 0.7])), misses(np.ones(2))
    (False, False, True)
    """
    point = TiedPoint.of(one)
    answer = point.misses(np.ones(point.truth.size, bool))
    if answer is not None:
        return answer
    seen = np.zeros(point.truth.size, bool)
    start = sum(np.size(leaf) for leaf in one.x[: one.leaf])
    answer = False
    for c in start + one.off[:_WORST]:
        if not seen[c]:  # several at once may each need another direction
            partners = point.partners(int(c))
            seen |= partners
            alone = point.misses(partners)
            if alone:
                return True
            answer = None if alone is None else answer
    return answer


@dataclasses.dataclass(frozen=True, eq=False)
class TiedPoint:
    """What is contested, in vectors of all elements of all leaves.

    Attributes:
        one: that.
        truth: of all leaves.
        own: what the gradient has beyond it, in the leaf that is judged.
        others: what the rule has in the others, in float64: it counts where they take part in ties.
        allowed: what may be rounding.
    """

    one: Contested
    truth: np.ndarray
    own: np.ndarray
    others: np.ndarray
    allowed: np.ndarray

    @classmethod
    def of(cls, one: Contested) -> TiedPoint:
        """What is contested, with the truth and the rule of the other leaves."""
        truth = one.pulled(one.x)[1]
        own = np.zeros(one.truth.size)
        own[one.off] = np.ravel(one.manual - np.asarray(truth[one.leaf]))[one.off]
        zeros = [np.zeros(np.shape(leaf)) for leaf in one.x]
        others = zeros
        if len(one.x) > 1:
            try:
                (exact,) = one.subject.shaken_manual(2.0**-52, 0)
                pulled = zip(exact(one.x, list(one.w)), truth, strict=True)
                others = [np.asarray(m) - t for m, t in pulled]
            except Exception:  # what the rule does in float64: then this leaf is judged by itself
                pass
        near = [_NEAR * np.abs(t) for t in truth]
        in_turn = truth, _put(one, zeros, own), _put(one, others, zeros[one.leaf])
        return cls(one, *map(_flat, (*in_turn, _put(one, near, one.allowed))))

    def misses(self, chosen: np.ndarray) -> bool | None:
        """Whether a direction in which some elements are moved has another slope; None: unknown."""
        beside: list[np.ndarray] = []
        for _ in range(_ROUNDS):
            reached = np.any([np.abs(g) > self.allowed for g in beside], axis=0)
            excess = np.where(chosen, self.own + np.where(reached, self.others, 0.0), 0.0)
            rest = _unexplained(excess, [np.where(chosen, g, 0.0) for g in beside])
            largest = float(np.max(np.abs(rest)))
            if np.all(np.abs(rest) <= self.allowed + _EXPLAINED * np.max(np.abs(excess))):
                return False
            direction = np.round(rest / largest * _GRID) / _GRID
            step = STEP * self.size(direction)
            (left, g), (right, h) = (self.moved(sign * step * direction) for sign in (-1, 1))
            changes = [g - self.truth, h - self.truth]
            if np.max(np.abs(changes)) <= _CLEAR * largest:
                return self._other_slope(excess, direction, (right - left) / (2 * step), step)
            beside += changes
        return None

    def _other_slope(
        self, excess: np.ndarray, direction: np.ndarray, slope: float, step: float
    ) -> bool | None:
        """Whether the slope of the function is that of the truth, and not that of the gradient."""
        by = abs(float((self.truth + excess) @ direction) - slope)
        unclear = abs(float(self.truth @ direction) - slope) + self.one.value_noise / step
        slack = float(self.allowed @ np.abs(direction))
        return True if by > slack and unclear <= _CLEAR * by else None

    def partners(self, c: int) -> np.ndarray:
        """The elements that take part in the ties of one, in theirs, and so on; itself included."""
        random, tied = np.random.default_rng(0), np.arange(self.truth.size) == c
        for _ in range(_ROUNDS):
            direction = tied * random.uniform(0.5, 1.0, tied.size)
            step = STEP * self.size(direction)
            (_, g), (_, h) = (self.moved(sign * step * direction) for sign in (-1, 1))
            change = np.maximum(np.abs(g - self.truth), np.abs(h - self.truth))
            grown = tied | (change > self.allowed + _EXPLAINED * np.max(change))
            if np.array_equal(grown, tied):
                break
            tied = grown
        return tied

    def moved(self, by: np.ndarray) -> tuple[float, np.ndarray]:
        """The value and the gradients of all leaves at another point."""
        one = self.one
        value, pulled = one.pulled(tuple(map(np.add, one.x, _parts(one, by))))
        return value, _flat(pulled)

    def size(self, direction: np.ndarray) -> float:
        """The power of 2 below the smallest element moved, among those that are comparable."""
        sizes = np.abs(_flat(self.one.x))[direction != 0]
        sizes = sizes[sizes > TINY]
        if not sizes.size:
            return 1.0
        return 2.0 ** np.floor(np.log2(max(np.min(sizes), _COMPARABLE * np.max(sizes))))


def _unexplained(excess: np.ndarray, beside: list[np.ndarray]) -> np.ndarray:
    """What is left of it beside all that those gradients, without the truth, can make up."""
    columns = [g / np.linalg.norm(g) for g in beside if np.any(g)]
    if not columns:
        return excess
    matrix = np.stack(columns, 1)
    return excess - matrix @ np.linalg.lstsq(matrix, excess, rcond=1e-6)[0]


def _put(one: Contested, leaves: Sequence[Any], own: Any) -> list[Any]:
    return [*leaves[: one.leaf], own, *leaves[one.leaf + 1 :]]


def _parts(one: Contested, flat: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum([np.size(leaf) for leaf in one.x])[:-1]
    parts = zip(np.split(flat, ends), one.x, strict=True)
    return [part.reshape(np.shape(leaf)) for part, leaf in parts]


def _flat(leaves: Sequence[Any]) -> np.ndarray:
    """One vector of all of them; what is not finite takes no part."""
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
    return np.where(np.isfinite(flat), flat, 0.0)
