"""Check 2, rounding: the rule in each low precision against what autodiff does there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line, kind_and_line
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cast, cotangents_of, is_array_of_floats
from funcnn.gradient.case.representatives import stands_for_its_rule
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.float64 import perturbed
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.truth.rounded import Rounded
from funcnn.gradient.verdict.figures import describe_error
from funcnn.gradient.verdict.judge import NOT_FINITE, judge_rounding, noise_of
from funcnn.gradient.verdict.results import Result
from funcnn.types import Array, ArrayLike, Verdict

_DRAWS = 4  # of numbers changed in their last place, for the noise floor
_QUANTILE = 0.999  # of the elements
_NOISE = 4.0  # of what rounding on the way was seen to do


@registered("full", order=1, needs_truth=True)
def rounding(situation: Situation) -> Iterator[Result]:
    """Both gradients in each dtype of the case, held against float64 truth at the same numbers.

    Two criteria, over the leaf and for its elements. The error ||m - t|| / ||t|| of the rule is at
    most twice that of autodiff, twice the noise floor and two ulps. And of the elements that are
    further from the truth than four times their own noise, 99.9 % are within 8 ulps and four times
    what autodiff is off by. The noise is what the truth does when each argument and cotangent
    changes in its last place. Arguments of several dtypes are judged as they are, too. The first
    case of a rule runs eagerly as well as compiled.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Case("one", (jnp.linspace(-1.0, 1.0, 3),), dtypes=("float32",))
    >>> [result.dtype for result in rounding(Situation.of_rule(rules.tanh, one))]
    ['float32', 'float32 eager']
    """
    names: dict[str, Subject] = {d: situation.subject(d) for d in situation.case.dtypes}
    if len(given := _floats(situation)) and len({x.dtype for x in given}) > 1:
        names["mixed"] = dataclasses.replace(situation.subject("float32"), x=given)
    eager = stands_for_its_rule(situation)
    for name, low in names.items():
        yield from _or_why_not(situation, low, name, eager)
        eager = False  # each operation is compiled by itself: one dtype shows it


def _or_why_not(situation: Situation, low: Subject, name: str, eager: bool) -> Iterator[Result]:
    """The results in one dtype; what it raises is no matter of the others."""
    try:
        yield from list(_in_dtype(situation, low, name, eager))
    except EndlessLoop as error:
        yield situation.result("rounding", "", "inconclusive", f"stopped: {error}", dtype=name)
    except Exception as error:
        verdict, note = "fail", f"it raised {kind_and_line(error)}"
        try:
            low.pull_automatic(low.x, cotangents_of(low, situation.seed)[0][1])
        except Exception as automatic:
            verdict, note = "skip", f"raises without the rule, too: {first_line(automatic)}"
        yield situation.result("rounding", "", verdict, note, dtype=name)


def _floats(situation: Situation) -> tuple[np.ndarray, ...]:
    leaves = filter(is_array_of_floats, jax.tree.leaves(situation.args))
    return tuple(np.asarray(leaf) for leaf in leaves)


def _in_dtype(situation: Situation, low: Subject, name: str, eager: bool) -> Iterator[Result]:
    w = cotangents_of(low, situation.seed)[0][1]
    automatic = low.pull_automatic(low.x, w)[1]
    arms = {name: low.pull_manual(low.x, w)[1]}
    if eager:
        try:
            arms[f"{name} eager"] = _eagerly(low, w)
        except NameError as error:  # of an axis that is bound inside the vmap only
            note = f"JAX leaves the vmap before it calls the backward pass: {first_line(error)}"
            yield situation.result("rounding", "", "skip", note, dtype=f"{name} eager")
    truth, moved = _truth(situation, low, w)
    for arm, manual in arms.items():
        for i, leaf in enumerate(low.leaves):
            verdict = _judge(leaf, manual[i], automatic[i], truth[i], [m[i] for m in moved])
            if verdict[0] == "fail" or verdict[1] == NOT_FINITE:
                draws = [m[i] for m in moved]
                excuse = _excused(situation, low, w, i, (manual[i], automatic[i], truth[i], draws))
                verdict = excuse or verdict
            yield situation.result("rounding", leaf, *verdict, dtype=arm)


def _excused(
    situation: Situation, low: Subject, w: list[Any], i: int, gradients: tuple[Any, ...]
) -> tuple[Verdict, str] | None:
    """Why an error in a low precision is none: a zero, or a truth that is none."""
    manual, automatic, truth, moved = gradients
    if low.kinks:
        return None
    with jax.enable_x64(True):
        exact, x, dy = situation.subject("float64"), cast(low.x, "float64"), cast(w, "float64")
        rounded = Rounded(exact, x, dy, i, np.asarray(manual), truth, accuracy=True)
        if rounded.is_zero():
            return "pass", "zero, within the rounding of the terms that cancel"
        if not np.all(np.isfinite(truth)):
            return rounded.verdict()
        # The others have lost their digits, in float64 or on the way in the low precision.
        known = (np.abs(truth) > 4 * rounded.own) & (rounded.error > _NOISE * rounded.noise)
        kept = np.where(known, np.asarray(manual), np.asarray(truth)).astype(manual.dtype)
        row = judge_rounding("", kept, automatic, truth, moved)
        if row.verdict != "WRONG" and not _elements(kept, automatic, truth, moved):
            return "pass", f"{int(np.sum(~known))} elements are below what the truth can tell"
        return rounded.verdict()


def _eagerly(low: Subject, w: list[Any]) -> tuple[Any, ...]:
    return jax.vjp(low.manual, *map(jnp.asarray, low.x))[1](list(map(jnp.asarray, w)))


def _truth(situation: Situation, low: Subject, w: list[Any]) -> tuple[Any, list[Any]]:
    """In float64, at the very numbers that the low precision holds, and at changed ones."""
    unit = max(float(jnp.finfo(x.dtype).eps) / 2 for x in low.x) if low.x else 0.0
    with jax.enable_x64(True):
        pull = situation.subject("float64").pull_automatic
        x, dy = cast(low.x, jnp.float64), cast(w, jnp.float64)
        draws = []
        for seed in range(_DRAWS):
            # At a kink any change of x means another derivative.
            changed = x if low.kinks else tuple(perturbed(x, unit, seed))
            draws.append(pull(changed, perturbed(dy, unit, seed + _DRAWS))[1])
        return jax.tree.map(np.asarray, (pull(x, dy)[1], draws))


def _judge(
    leaf: str,
    manual: Array | np.ndarray,
    automatic: ArrayLike,
    truth: ArrayLike,
    moved: list[Any],
) -> tuple[Verdict, str]:
    row = judge_rounding(leaf, manual, automatic, truth, moved)
    if row.verdict == "WRONG":
        return "fail", row.note
    if row.verdict == "INCONCLUSIVE":
        return "inconclusive", row.note
    why = _elements(manual, automatic, truth, moved)
    if why:
        return "fail", why
    return "pass", f"{row.manual:.2g} ulps, autodiff {row.automatic:.2g}: {row.verdict}"


def _elements(
    manual: Array | np.ndarray, automatic: ArrayLike, truth: ArrayLike, moved: list[Any]
) -> str:
    """What is wrong with single elements that the norm of the leaf does not show, or ""."""
    info = jnp.finfo(manual.dtype)
    m, a, t = (np.asarray(g, np.float64) for g in (manual, automatic, truth))
    beyond = np.abs(m - t) > 4 * noise_of(t, moved)
    # The distance of neighbours at t; numbers below the smallest normal one are flushed to zero.
    magnitude = np.maximum(np.abs(t), float(info.smallest_normal))
    ulp = float(info.eps) * 2.0 ** np.floor(np.log2(magnitude))
    finite = np.isfinite(a)
    allowed = (
        4 * float(np.quantile((np.abs(a - t) / ulp)[finite], _QUANTILE)) + 8
        if np.any(finite)
        else 8.0
    )
    off = np.where(beyond, np.abs(m - t) / ulp, 0.0)
    if float(np.quantile(off, _QUANTILE)) <= allowed:
        return ""
    return (
        f"{np.sum(off > allowed)} elements off by more than {allowed:.3g} ulps, "
        f"up to {np.max(off):.3g}: {describe_error(np.where(off == np.max(off), m, t), a, t)}"
    )
