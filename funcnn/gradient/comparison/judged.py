"""The leaves of a whole gradient, each with its verdict."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.core.errors import kind_and_line
from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.comparison.arms import Gradient
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import raise_function, raised
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.program.without_rules import Program
from funcnn.gradient.truth.rounded import Rounded, appealed
from funcnn.gradient.verdict.judge import ZERO, Row, is_doubtful, judge_gradient, judge_rounding
from funcnn.types import Array, ClosedJaxpr


@dataclasses.dataclass(frozen=True)
class Judge:
    """What a gradient of the program is held against.

    `further`: the program with loops that run on; `backward`: the manual gradient's own program.
    """

    names: tuple[str, ...]
    automatic: Gradient
    gradient: list[Any]
    truth: list[Any]
    moved: list[list[Any]]
    further: Callable[[], Program]
    backward: Callable[[], ClosedJaxpr]

    def rows(self, manual: list[Any]) -> tuple[Row, ...]:
        """A row for each leaf of a gradient."""
        judged = map(judge_gradient, self.names, manual, self.gradient, self.truth, self.moved)
        return tuple(
            appealed(row, self._rounded(i, manual[i])) if is_doubtful(row) else row
            for i, row in enumerate(judged)
        )

    def rejects(self, gradient: Gradient) -> bool:
        """Whether a gradient of the program is wrong in some leaf."""
        gradient_of_leaves = compiled(gradient)(gradient.program.leaves)
        return any(row.verdict == "WRONG" for row in self.rows(gradient_of_leaves))

    def _rounded(self, i: int, manual: Array) -> Rounded:
        one = [np.ones(())]
        return Rounded(self._subject, self._subject.x, one, i, np.asarray(manual), self.truth[i])

    @functools.cached_property
    def _subject(self) -> Subject:
        """The program in float64, as a function of the leaves to differentiate."""
        leaves, on = self.automatic.leaves, self.further()  # traced in the caller's precision
        with jax.enable_x64(True):
            high = [raised(x) for x in self.automatic.program.leaves]
            x = tuple(np.asarray(high[i]) for i in leaves)
            f, further = (
                _loss(raise_function(program), high, leaves)
                for program in (self.automatic.program, on)
            )
        backward = self.backward
        return Subject(self.names, x, f, f, kinks=False, further=further, backward=backward)


def program_of(gradient: Gradient, x64: bool) -> ClosedJaxpr:
    """The program of a gradient, in the leaves to differentiate and the cotangent of the loss."""
    leaves = gradient.program.leaves

    def pull(*args: Array) -> list[Array]:
        *x, dy = args
        return [dy * d for d in gradient(filled(leaves, gradient.leaves, x))]

    with jax.enable_x64(x64):
        loss = jax.eval_shape(gradient.run, *leaves)[0]
        return jax.make_jaxpr(pull)(*(leaves[i] for i in gradient.leaves), loss)


def _loss(
    run: Callable[[list[Any]], list[Any]], high: list[Any], leaves: Sequence[int]
) -> Callable[..., list[Any]]:
    return lambda *x: [run(filled(high, leaves, x))[0]]


def value_row(manual: Gradient, automatic: Gradient) -> Row:
    """What a surrogate must keep: the value beside its gradient, with its rules and without."""
    leaves = automatic.program.leaves

    def beside_the_gradient(gradient: Gradient) -> Array:
        chosen = [leaves[i] for i in gradient.leaves]
        return jax.vjp(lambda *x: gradient.run(*filled(leaves, gradient.leaves, x))[0], *chosen)[0]

    with_rules, without = map(beside_the_gradient, (manual, automatic))
    with jax.enable_x64(True):
        exact = raise_function(automatic.program)([raised(x) for x in leaves])[0]
    row = judge_rounding("value", with_rules, without, np.asarray(exact), [])
    zero = row.note == ZERO and not np.any(with_rules)
    return dataclasses.replace(row, verdict="TIE", zero=True) if zero else row


def raised_row(name: str, gradient: Array, error: Exception) -> Row:
    """The row of a leaf whose hand-derived gradient raises.

    >>> raised_row("w", np.ones(2), ValueError("no")).note
    'it raised ValueError: no'
    """
    note, nan = f"it raised {kind_and_line(error)}", float("nan")
    return Row(name, gradient.shape, str(gradient.dtype), nan, nan, nan, "WRONG", note)


def declared_row(name: str, manual: Array) -> Row:
    """The row of a leaf whose gradient differs from the derivative on purpose.

    >>> declared_row("w", np.ones(2)).verdict
    'SURROGATE'
    """
    note = "declared a surrogate: give reference= to hold it against another function"
    nan = float("nan")
    return Row(name, manual.shape, str(manual.dtype), nan, nan, nan, "SURROGATE", note)
