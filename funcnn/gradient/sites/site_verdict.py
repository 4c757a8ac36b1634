"""The verdict on a site: the worst of its values and of the cotangents of its operands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np

from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.sites import operands
from funcnn.gradient.sites.shaken import smooth_elements
from funcnn.gradient.sites.site_error import Arms, Question
from funcnn.gradient.verdict.judge import (
    NOT_FINITE,
    OVERFLOW,
    Row,
    is_doubtful,
    judge_gradient,
    judge_rounding,
)
from funcnn.types import ArrayLike, Equation


def only(smooth: np.ndarray, x: ArrayLike) -> np.ndarray:
    """x with zeros where it stands on a kink: they add nothing to any error.

    >>> only(np.array([True, False]), np.array([2.0, 3.0]))
    array([2., 0.])
    """
    kept = np.array(x)
    kept[~smooth] = 0
    return kept


def judge_site(
    arms: Arms, question: Question | None = None, moved: Collection[int] | None = None
) -> tuple[Row | None, str]:
    """The worst of a site's values and operands, and a note; None where nothing can be said.

    Elements that stand on a kink are left out; with a `question`, see `questioned`, each operand
    that seems wrong is looked at by itself; with `moved`, the operands of these numbers alone.

    >>> x = np.array([1.0], np.float32)
    >>> row, note = judge_site(Arms(([x], [2 * x]), ([x], [x]), ([x], [x]), ([x], [x]), []))
    >>> row.verdict, note
    ('WRONG', 'operand 0: manual = 2 x truth; worst at [0]: manual 2, automatic 1, truth 1')
    """
    judged, left_out = _judged(arms, question, moved)
    rows = [row for row in judged if row.verdict != "INCONCLUSIVE"]
    wrong = [row for row in rows if row.verdict == "WRONG"]
    unknown = [row for row in judged if row.note in {NOT_FINITE, OVERFLOW}]
    if unknown and not wrong:
        return None, "; ".join(f"{row.leaf}: {row.note}" for row in unknown)
    kinks = f"{left_out} elements stand on a kink or tie and are left out" if left_out else ""
    if not wrong and not any(row.leaf.startswith("operand") for row in rows):
        return None, kinks or "the true cotangents are zero everywhere, or not finite"
    worst = max(wrong or rows, key=lambda row: (not row.zero, row.manual))
    excused = [] if wrong else [row for row in rows if row is not worst and not row.zero]
    notes = [f"{row.leaf}: {row.note}" for row in (worst, *excused) if row.note]
    return worst, "; ".join(filter(None, [*notes, kinks]))


def moved_floats(eqn: Equation, moved: Collection[int] | None) -> list[int] | None:
    """The numbers among the float operands of a site of those among all of its operands.

    >>> import jax
    >>> eqn, = jax.make_jaxpr(lambda n, x: x * n)(2, 3.0).eqns[-1:]
    >>> moved_floats(eqn, {0})
    [0]
    """
    floats = [i for i in operands(eqn) if is_float(eqn.invars[i].aval)]
    return None if moved is None else [k for k, i in enumerate(floats) if i in moved]


def judge_surrogate(arms: Arms) -> tuple[Row, str]:
    """The value of a site whose rule is declared no derivative: a wrong one is no surrogate.

    >>> x = np.array([1.0], np.float32)
    >>> arms = Arms(([x], [2 * x]), ([x], [x]), ([x], [x]), ([x], [x]), [])
    >>> judge_surrogate(arms)[0].verdict
    'SURROGATE'
    """
    values = [row for row in _judged(arms, None)[0] if row.leaf.startswith("value")]
    wrong = [row for row in values if row.verdict == "WRONG"]
    if wrong:
        return wrong[0], f"{wrong[0].leaf}: {wrong[0].note}"
    nan = math.nan
    note = "declared a surrogate: give reference= to hold it against another function"
    return Row("", (), "", nan, nan, nan, "SURROGATE"), note


def _judged(
    arms: Arms, question: Question | None, moved: Collection[int] | None = None
) -> tuple[list[Row], int]:
    """A row for each value of a site and each cotangent, and how many elements stand on kinks."""
    manual, automatic, truth, shaken, draws_moved = arms
    rows: list[Row] = []
    left_out = 0
    for part, name in enumerate(("value", "operand")):
        for i, t in enumerate(truth[part]):
            unasked = name == "operand" and moved is not None and i not in moved
            if np.size(t) and not unasked:
                # Values do not jump where their derivatives do.
                whole = name == "value" or question is not None
                smooth = np.ones(t.shape, bool) if whole else smooth_elements(t, shaken[part][i])
                if name == "value":  # an infinite one is the function's, not the rule's
                    alike = [~np.isfinite(np.asarray(arm[part][i])) for arm in (manual, automatic)]
                    smooth &= ~(alike[0] & alike[1])
                else:
                    left_out += int(np.sum(~smooth))
                low = [only(smooth, arm[part][i]) for arm in (manual, automatic, truth)]
                draws = [only(smooth, draw[part][i]) for draw in draws_moved]
                judge = judge_rounding if name == "value" else judge_gradient
                row = judge(f"{name} {i}", low[0], low[1], low[2], draws)
                if question is not None and name == "operand" and is_doubtful(row):
                    row = question(row, i, low[0], low[2])
                    row = _with_errors_off_kinks(
                        row, smooth_elements(t, shaken[part][i]), low, draws
                    )
                rows.append(row)
    return rows, left_out


def _with_errors_off_kinks(
    row: Row, smooth: np.ndarray, low: Sequence[np.ndarray], draws: Sequence[np.ndarray]
) -> Row:
    """A row that is excused, with the errors of the elements off its kinks.

    At a kink the rule is on one side and the truth on the other: their distance is no error.
    """
    if row.verdict == "WRONG" or np.all(smooth):
        return row
    manual, automatic, truth = (only(smooth, x) for x in low)
    off = judge_gradient(row.leaf, manual, automatic, truth, [only(smooth, x) for x in draws])
    if off.verdict in {"WRONG", "INCONCLUSIVE"}:  # something else than kinks excuses it
        return row
    return dataclasses.replace(row, manual=off.manual, automatic=off.automatic, floor=off.floor)
