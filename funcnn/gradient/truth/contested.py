"""One leaf's gradient, and the automatic truth that it contradicts."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from funcnn.gradient.case.pullbacks import Subject

TINY = 1e-290  # what is below, and what it times 1e-9 is, XLA may take for 0


@dataclasses.dataclass(frozen=True, eq=False)
class Contested:
    """One leaf's gradient, and the truth that it contradicts, for one cotangent of the outputs.

    Attributes:
        subject: in float64.
        x: the point, in float64.
        w: the cotangents of the outputs.
        leaf: the index of the leaf.
        manual: its gradient.
        truth: its automatic one.
        allowed: how far either may be from the other, element by element.
    """

    subject: Subject
    x: tuple[Any, ...]
    w: list[Any]
    leaf: int
    manual: np.ndarray
    truth: np.ndarray
    allowed: np.ndarray

    @functools.cached_property
    def off(self) -> np.ndarray:
        """The flat indices of the elements that differ, the worst first.

        >>> x = np.ones(3)
        >>> one = Subject(("x",), (x,), list, lambda x: [x], False)
        >>> Contested(one, (x,), [x], 0, x * [1, 2, 3], x, 0 * x).off
        array([2, 1])
        """
        error = np.nan_to_num(np.ravel(np.abs(self.manual - self.truth)), nan=np.inf)
        wrong = np.flatnonzero(~(error <= np.ravel(self.allowed)))
        return wrong[np.argsort(-error[wrong], kind="stable")]

    def moved(self, c: int | np.ndarray, by: float | np.ndarray) -> tuple[Any, ...]:
        """The point with one element of the leaf, or some of them, elsewhere."""
        moved = np.array(self.x[self.leaf])
        moved.flat[c] += by
        return (*self.x[: self.leaf], moved, *self.x[self.leaf + 1 :])

    def pulled(self, x: tuple[Any, ...]) -> tuple[float, list[np.ndarray]]:
        """The outputs, weighted by their cotangents, and the truth of each leaf elsewhere."""
        y, pulled = self.subject.pull_automatic(x, self.w)
        value = sum(np.vdot(w, v) for w, v in zip(self.w, y, strict=True))
        return float(value), [np.asarray(d) for d in pulled]

    def weighted(self, x: tuple[Any, ...]) -> float:
        """The outputs, weighted by their cotangents."""
        return self.pulled(x)[0]

    @functools.cached_property
    def value(self) -> float:
        """They, at the point itself."""
        return self.weighted(self.x)

    @functools.cached_property
    def value_noise(self) -> float:
        """What rounding of the outputs may do to it."""
        y, _ = self.subject.pull_automatic(self.x, self.w)
        terms = (np.sum(np.abs(w * np.asarray(v))) for w, v in zip(self.w, y, strict=True))
        return 16 * 2.0**-52 * float(sum(terms))
