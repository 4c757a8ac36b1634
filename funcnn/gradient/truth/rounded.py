"""A gradient in a low precision, beside what rounding on the way to it explains."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.truth.appeal import Appeal, Found, rounding_of
from funcnn.gradient.truth.floor import draws
from funcnn.gradient.verdict.figures import describe_error
from funcnn.gradient.verdict.judge import (
    ELEMENTS,
    ZERO,
    Row,
    allowed_of_elements,
    is_doubtful,
    noise_of,
)
from funcnn.types import Array

_FACTOR = 8.0  # of what rounding in the precision of the gradient does
_MORE_DRAWS = 6
_OWN = 4.0  # times the rounding of the truth: what is below is zero


@dataclasses.dataclass(frozen=True, eq=False)
class Rounded:
    """One leaf's gradient in a low precision, for one cotangent, and what rounding explains of it.

    Attributes:
        subject: in float64.
        x, w: the point and the cotangents of the outputs, in float64.
        leaf: the index of the leaf.
        manual: its gradient, in its own dtype.
        truth: its automatic one, in float64.
        accuracy: whether the rule's own rounding is what is asked about, and excuses nothing.
    """

    subject: Subject
    x: tuple[Any, ...]
    w: list[Any]
    leaf: int
    manual: Array | np.ndarray | np.number
    truth: Array | np.ndarray | np.number
    accuracy: bool = False

    @functools.cached_property
    def explained(self) -> np.ndarray:
        """What rounding in the precision of the gradient does to the automatic one."""
        unit = float(jnp.finfo(self.manual.dtype).eps)
        return rounding_of(self.subject, self.x, self.w, unit)[self.leaf]

    @functools.cached_property
    def own(self) -> np.ndarray:
        """What rounding does to the truth itself, in float64."""
        return rounding_of(self.subject, self.x, self.w, 2.0**-52)[self.leaf]

    @functools.cached_property
    def noise(self) -> np.ndarray:
        """That, and what changes of the arguments in their last place do to it."""
        unit = float(jnp.finfo(self.manual.dtype).eps) / 2

        def gradient(x: list[Any]) -> np.ndarray:
            return np.asarray(self.subject.pull_automatic(tuple(x), self.w)[1][self.leaf])

        truth = np.asarray(self.truth)
        moved = draws(gradient, self.x, truth, unit, _MORE_DRAWS)
        return np.maximum(self.explained, noise_of(truth, moved))

    @functools.cached_property
    def error(self) -> np.ndarray:
        """The error of each element."""
        return np.abs(np.asarray(self.manual, np.float64) - np.asarray(self.truth))

    def is_zero(self) -> bool:
        """Whether the truth is zero as far as its own terms tell, and the gradient rounds to it.

        Softmax does not see a shift, so that the gradient of a shift is zero: what is left of it is
        the rounding of terms that cancel.
        """
        own = self.own
        size, error = float(np.linalg.norm(self.truth)), float(np.linalg.norm(self.error))
        if size > _OWN * float(np.linalg.norm(own)):
            return False
        return error <= _FACTOR * float(np.linalg.norm(self.explained))

    def verdict(self) -> Found | None:
        """("pass" or "inconclusive", why), or None where nothing excuses the gradient."""
        truth = np.asarray(self.truth, np.float64)
        unit = float(jnp.finfo(self.manual.dtype).eps)
        known = np.where(np.isfinite(truth), truth, 0.0)
        rms = float(np.sqrt(np.mean(np.square(known)))) if truth.size else 0.0
        excusing = "nothing" if self.accuracy else "all"
        return self._after_appeal(_FACTOR * unit * (np.abs(known) + rms), excusing)

    def of_elements(self) -> Found | None:
        """The same for elements that the others outweigh."""
        allowed = allowed_of_elements(
            np.asarray(self.manual), np.asarray(self.truth, np.float64), self.noise
        )
        if np.all(self.error <= allowed):
            return "pass", "what single elements are off by is the rounding on the way to them"
        return self._after_appeal(allowed, "nothing" if self.accuracy else "elements")

    def _after_appeal(
        self, allowed: np.ndarray, excusing: Literal["all", "elements", "nothing"]
    ) -> Found | None:
        manual, truth = (np.asarray(g, np.float64) for g in (self.manual, self.truth))
        unit = float(jnp.finfo(self.manual.dtype).eps)
        given = self.subject, self.x, self.w, self.leaf, manual, truth
        return Appeal(*given, allowed, unit, excusing).verdict()


def appealed(row: Row, rounded: Rounded) -> Row:
    """The row of a leaf after an appeal, where it is wrong or its truth is zero.

    >>> x = np.zeros(2, np.float32)
    >>> with jax.enable_x64(True):
    ...     one = Subject(("x",), (np.ones(2),), list, lambda x: [0 * x.sum()], False)
    ...     rounded = Rounded(one, one.x, [np.ones(())], 0, x, np.zeros(2))
    ...     row = appealed(Row("x", (2,), "float32", 0.0, 0.0, 0.0, "INCONCLUSIVE", ZERO), rounded)
    >>> row.verdict, row.zero
    ('TIE', True)
    """
    if not is_doubtful(row):
        return row
    with jax.enable_x64(True):
        if not np.any(rounded.error) and not np.any(rounded.truth):
            note = f"{ZERO}, and so is this"
            return dataclasses.replace(row, verdict="TIE", note=note, zero=True)
        if rounded.is_zero():
            note = "zero, within the rounding of the terms that cancel"
            return dataclasses.replace(row, verdict="TIE", note=note, zero=True)
        if row.note == ZERO:
            note = describe_error(rounded.manual, None, rounded.truth)
            row = dataclasses.replace(row, verdict="WRONG", note=note)
        elements = row.note.startswith(ELEMENTS)
        excuse = rounded.of_elements() if elements else rounded.verdict()
    if excuse is None:
        return row
    verdict = "TIE" if excuse[0] == "pass" else "INCONCLUSIVE"
    return dataclasses.replace(row, verdict=verdict, note=excuse[1])
