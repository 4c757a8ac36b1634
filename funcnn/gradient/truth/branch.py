"""Where the function takes a branch for one value, both gradients may be those of the branch.

What is written `where(x == 0, 1, expm1(x) / x)` is smooth, and the derivative of its branch is
zero: autodiff and a rule that was copied from it agree, and both are wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import bind, inside_call
from funcnn.gradient.truth.many_digits import DIGITS, MOST, slopes_in_digits
from funcnn.types import Array, ClosedJaxpr, Equation

_OFF = 1e-6  # relative
_NOTHING = 1e-14  # of the largest element
_TESTS = {"eq": True, "ne": False}  # of two floats, and what says that they are equal


class _Equals(Evaluation):
    """Notes where two floats are equal, outside of loops."""

    def __init__(self) -> None:
        self.found: list[Array] = []

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        program = inside_call(eqn)
        outs = bind(eqn, x) if program is None else self(program, x)
        if _compares_floats(eqn):
            self.found.append(outs[0] == _TESTS[eqn.primitive.name])
        return outs

    @classmethod
    def of(cls, program: ClosedJaxpr, x: Sequence[Any]) -> list[Array]:
        """What is found in a program at its inputs."""
        equals = cls()
        equals(program, list(x))
        return equals.found


def _compares_floats(eqn: Equation) -> bool:
    return eqn.primitive.name in _TESTS and is_float(eqn.invars[0].aval)


def _may_be_equal(program: ClosedJaxpr) -> bool:
    calls = filter(None, map(inside_call, program.jaxpr.eqns))
    return any(map(_compares_floats, program.jaxpr.eqns)) or any(map(_may_be_equal, calls))


@dataclasses.dataclass(frozen=True, eq=False)
class Branches:
    """Where a function has found two floats equal, and what many digits say of a gradient there.

    Attributes:
        subject: in float64.
        found: for each comparison of floats in it, where they were equal.

    >>> import jax.numpy as jnp
    >>> f = lambda x: [jnp.where(x == 0, 0.0, jnp.sin(x))]
    >>> with jax.enable_x64(True):
    ...     branches = Branches.of(Subject(("x",), (np.zeros(1),), f, f, False))
    ...     branches.contradict([np.ones(1)], 0)
    'at [0] 80 digits say 1, by hand and by autodiff it is 0'
    """

    subject: Subject
    found: list[np.ndarray]

    @classmethod
    def of(cls, subject: Subject) -> Branches:
        """Of a function at its point. Needs x64 to be enabled."""
        program = jax.make_jaxpr(subject.automatic)(*subject.x)
        if subject.kinks or not _may_be_equal(program):
            return cls(subject, [])
        found = compiled(lambda *x: _Equals.of(program, x))(*subject.x)
        return cls(subject, [np.asarray(each) for each in found if np.any(each)])

    def contradict(self, w: Sequence[Any], leaf: int) -> str:
        """What is said against the gradient of a leaf, with which autodiff agrees, or "".

        Args:
            w: the cotangents of the outputs.
            leaf: its number.
        """
        x = self.subject.x[leaf]
        if not self.found or not x.size:
            return ""
        here = [np.ravel(found) for found in self.found if found.shape == x.shape]
        if not here and x.size > MOST:
            return ""  # which of its elements, if any, the comparison is about is not known
        where = np.flatnonzero(np.any(here, 0))[:MOST] if here else np.arange(x.size)
        known = slopes_in_digits(self.subject.automatic, self.subject.x, w, leaf, where)
        if known is None:
            return ""
        known = np.where(np.isinf(known), np.nan, known)  # a convention may do without it
        manual = np.ravel(self.subject.pull_manual(self.subject.x, list(w))[1][leaf])
        by_hand = np.where(np.isfinite(manual[where]), manual[where], np.nan)
        error = np.nan_to_num(np.abs(by_hand - known), nan=0.0)
        largest = np.max(np.abs(manual), where=np.isfinite(manual), initial=0.0)
        allowed = _OFF * np.fmax(np.abs(by_hand), np.abs(known)) + _NOTHING * largest
        error = np.where(error > allowed, error, 0.0)
        worst = int(np.argmax(error))
        if not error[worst]:
            return ""
        place = [int(i) for i in np.unravel_index(where[worst], x.shape)]
        said = f"{known[worst]:.10g}, by hand and by autodiff it is {by_hand[worst]:.10g}"
        return f"at {place} {DIGITS} digits say {said}"
