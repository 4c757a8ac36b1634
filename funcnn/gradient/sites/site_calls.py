"""The verdicts on those calls of a site that are looked at, and on each operand by itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.pullbacks import cotangents
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.perturbations import Tap
from funcnn.gradient.sites.site_error import ALL, Arms, Only, Question, evaluate_sites, questioned
from funcnn.gradient.sites.site_verdict import judge_site, judge_surrogate, moved_floats
from funcnn.gradient.verdict.judge import Row
from funcnn.types import ClosedJaxpr

# The row of a site's worst operand, None where nothing can be said; and a note.
Judged = tuple[Row | None, str]


def judge_calls(
    tap: Tap,
    operands: Sequence[tuple[Any, ...]],
    true: ClosedJaxpr | None = None,
    *,
    surrogate: bool = False,
    moved: Collection[int] | None = None,
) -> list[Judged]:
    """A row for each call of a site, with cotangents that are drawn.

    A rule that asks for symbolic zeros has more: each operand differentiated by itself, and each
    result used by itself.

    Args:
        tap: the site, as if no loop stood around it.
        operands: of each call.
        true: what has the true derivative, by default what the rule wraps.
        surrogate: whether its value alone can be judged.
        moved: which of its operands depend on an argument, by default all.

    Raises:
        NoTruth: what the rule wraps cannot be raised to float64.

    >>> from funcnn.gradient.program.sites import site_of
    >>> eqn, = jax.make_jaxpr(jax.nn.relu)(1.0).eqns
    >>> judged = judge_calls(Tap(site_of(eqn), eqn, ()), [(np.float32(2),), (np.float32(-2),)])
    >>> [(row.verdict, note) for row, note in judged if row]
    [('TIE', ''), ('TIE', 'operand 0: the true gradient is zero everywhere, and so is this')]
    """
    chosen = moved_floats(tap.eqn, moved)
    if chosen == []:
        return [(None, "none of its operands depends on an argument")]
    calls = _Calls(tap, operands, true, surrogate, chosen)
    return [judged for only in _each_alone(tap, chosen) for judged in calls.judged(only)]


def _each_alone(tap: Tap, chosen: Sequence[int] | None) -> Iterator[Only]:
    """All operands and results at once; and each by itself where a rule asks which they are."""
    yield ALL
    if not tap.site.sees_zeros:
        return
    floats = [i for i, aval in enumerate(tap.operands) if is_float(aval)]
    kept = floats if chosen is None else [floats[k] for k in chosen]
    yield from (Only(operand=i) for i in kept if len(floats) > 1)
    results = range(len(tap.outputs))
    yield from (Only(result=i) for i in results if len(results) > 1)


@dataclasses.dataclass(frozen=True)
class _Calls:
    tap: Tap
    operands: Sequence[tuple[Any, ...]]
    true: ClosedJaxpr | None
    surrogate: bool
    chosen: Sequence[int] | None

    def judged(self, only: Only) -> Iterator[Judged]:
        """The row of each call, and a note."""
        every = self._arms(only)
        for arms, operands, dys in zip(every, self.operands, self._cotangents, strict=True):
            if self.surrogate:
                yield judge_surrogate(arms)
            elif only != ALL:
                chosen = self.chosen if only.operand is None else None
                row, note = judge_site(arms, self._question(only, operands, dys), chosen)
                yield row, _unused(only) + note.removeprefix("operand 0: ") if note else ""
            else:
                question = questioned(self.tap, operands, dys, self.true)
                row, note = judge_site(arms, question, self.chosen)
                zeros = [] if row is None or row.zero else _zeros(every, self.chosen)
                yield row, "; ".join(filter(None, [note, *zeros]))

    def _question(self, only: Only, operands: Sequence[Any], dys: Sequence[np.ndarray]) -> Question:
        """The appeal of a call in which something is unused: the others are zero there."""
        dys = [dy if only.result in {None, k} else 0 * dy for k, dy in enumerate(dys)]
        question = questioned(self.tap, operands, dys, self.true)
        floats = [i for i, aval in enumerate(self.tap.operands) if is_float(aval)]

        def of_one(row: Row, i: int, manual: np.ndarray, truth: np.ndarray) -> Row:
            leaf = i if only.operand is None else floats.index(only.operand)
            return question(row, leaf, manual, truth)

        return of_one

    @functools.cached_property
    def _cotangents(self) -> list[list[np.ndarray]]:
        return [cotangents(self.tap.outputs, seed)[0][1] for seed in range(len(self.operands))]

    def _arms(self, only: Only) -> list[Arms]:
        """The arms of each call, from one program."""
        n, dys = len(self.operands), self._cotangents
        if n == 1:
            return evaluate_sites([self.tap], self.operands, dys, self.true, only)
        tap = dataclasses.replace(self.tap, lengths=(n,))
        stacked = [list(map(_stack, zip(*rows, strict=True))) for rows in (self.operands, dys)]
        (arms,) = evaluate_sites([tap], [stacked[0]], [stacked[1]], self.true, only)
        return [jax.tree.map(lambda x, call=call: x[call], arms) for call in range(n)]


def _stack(values: Sequence[Any]) -> Any:
    return (np if is_float(values[0]) else jnp).stack(values)


def _zeros(every: Sequence[Arms], chosen: Sequence[int] | None) -> list[str]:
    """The operands of which nothing is proved, as their cotangent is zero in each call."""
    truths = zip(*(arms.truth[1] for arms in every), strict=True)
    zero = [i for i, each in enumerate(truths) if not any(map(np.any, each))]
    asked = zero if chosen is None else [i for i in zero if i in chosen]
    return [f"operand {i}: its true cotangent is zero here" for i in asked]


def _unused(only: Only) -> str:
    if only.operand is not None:
        return f"operand {only.operand} differentiated alone: "
    return f"result {only.result} used alone: "
