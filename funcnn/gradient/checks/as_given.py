"""Check 16, as given: a function in the dtypes of its arguments, where all else is in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cast, cotangents_of
from funcnn.gradient.checks.algebra import without_reverse_mode
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.without_rules import trace
from funcnn.gradient.truth.floor import draws
from funcnn.gradient.truth.rounded import Rounded, appealed
from funcnn.gradient.verdict.judge import Row, judge_gradient
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

_DRAWS = 2  # of numbers changed in their last place
_VERDICTS: dict[str, Verdict] = {"WRONG": "fail", "INCONCLUSIVE": "inconclusive"}


@registered("fast", order=5, needs_truth=True)
def as_given(situation: Situation) -> Iterator[Result]:
    """The gradient of a function with hand-written rules, in the dtypes that it was given.

    A rule may overflow where the reference does not, or be another one in float32. What is near the
    truth is not looked into: a few digits are the matter of the check of rounding. The cases of a
    registered rule are, each in its dtypes, at that level.

    >>> from funcnn.core.registry import Case
    >>> softplus = jax.custom_vjp(jax.nn.softplus)
    >>> softplus.defvjp(
    ...     lambda x: (jax.nn.softplus(x), x),
    ...     lambda x, dy: (dy * jnp.exp(x) / (1 + jnp.exp(x)),),
    ... )
    >>> def verdicts(x):
    ...     one = Situation.of_function(softplus, Case("one", (jnp.array(x),)), "softplus")
    ...     return [result.verdict for result in as_given(one)]
    >>> verdicts([1.0, 2.0]), verdicts([1.0, 100.0])
    (['pass'], ['fail'])
    """
    low = situation.subject()
    if situation.rule or not any(_is_low(x) for x in low.x):
        return
    if not sites(trace(situation.manual, situation.args, {}).jaxpr):
        return
    w = cotangents_of(low, situation.seed)[0][1]
    with jax.enable_x64(True):
        exact, x, dy = situation.subject("float64"), cast(low.x, "float64"), cast(w, "float64")
        if without_reverse_mode(exact, dy):
            return
        truth = [np.asarray(t) for t in exact.pull_automatic(x, dy)[1]]
    manual = low.pull_manual(low.x, w)[1]
    for i, leaf in enumerate(low.leaves):
        if _is_low(low.x[i]):
            near = is_near(np.asarray(manual[i]), truth[i])
            verdict, note = ("pass", "") if near else judged(low, exact, i, w, manual, truth)
            dtype = str(low.x[i].dtype)
            yield situation.result("as given", leaf, verdict, note, dtype=dtype)


def _is_low(x: np.ndarray) -> bool:
    return jnp.finfo(x.dtype).bits < 64


def is_near(manual: np.ndarray, truth: np.ndarray) -> bool:
    """Whether half of the digits are there, of each element beside a typical one.

    >>> is_near(np.float32([1.0]), np.array([1.0001])), is_near(np.float32([1.0]), np.array([1.1]))
    (True, False)
    """
    half = float(np.sqrt(jnp.finfo(manual.dtype).eps))
    typical = float(np.sqrt(np.mean(np.square(truth)))) if truth.size else 0.0
    error = np.abs(manual.astype(np.float64) - truth)
    return bool(np.all(error <= half * (np.abs(truth) + typical)))


def judged(
    low: Subject,
    exact: Subject,
    i: int,
    w: list[Any],
    manual: tuple[Any, ...],
    truth: list[np.ndarray],
) -> tuple[Verdict, str]:
    """As `compare` judges a leaf; what autodiff itself cannot say in this dtype is left out.

    Args:
        low, exact: the subject as given, and in float64.
        i: the leaf.
        w: the cotangents of the outputs, as given.
        manual, truth: the cotangents of all leaves.

    >>> with jax.enable_x64(True):
    ...     low = Subject(("x",), (np.ones(1, np.float32),), list, lambda x: [2 * x], False)
    ...     exact = Subject(("x",), (np.ones(1),), list, lambda x: [2 * x], False)
    ...     judged(low, exact, 0, [low.x[0]], (low.x[0],), [np.full(1, 2.0)])[0]
    'fail'
    """
    automatic = np.asarray(low.pull_automatic(low.x, w)[1][i])
    unsaid = ~np.isfinite(automatic)
    known = np.where(unsaid, automatic, np.asarray(manual[i])), np.where(unsaid, np.nan, truth[i])
    unit = float(jnp.finfo(automatic.dtype).eps) / 2
    with jax.enable_x64(True):
        x, dy = cast(low.x, "float64"), cast(w, "float64")

        def gradient(x: list[Any]) -> np.ndarray:
            return np.asarray(exact.pull_automatic(tuple(x), dy)[1][i])

        moved = draws(gradient, x, truth[i], unit, _DRAWS)
        row = judge_gradient(low.leaves[i], known[0], automatic, known[1], moved)
        row = appealed(row, Rounded(exact, x, dy, i, known[0], known[1]))
    return _VERDICTS.get(row.verdict, "pass"), _said(row)


def _said(row: Row) -> str:
    return row.note or f"{row.manual:.2g} ulps, autodiff {row.automatic:.2g}: {row.verdict}"
