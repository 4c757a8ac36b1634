"""Is a rule right? Its own code in float64 against independent derivatives, leaf by leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.gradient.checks.algebra import dot, truth
from funcnn.gradient.checks.context import context
from funcnn.gradient.checks.contract import contract
from funcnn.gradient.checks.cost import cost
from funcnn.gradient.checks.edge import edge
from funcnn.gradient.checks.finite_differences import finite_differences
from funcnn.gradient.checks.kink import kink
from funcnn.gradient.checks.laws import declared_laws, homogeneity
from funcnn.gradient.checks.mutation import mutation
from funcnn.gradient.checks.native import native
from funcnn.gradient.checks.primal import primal
from funcnn.gradient.checks.residuals import residuals
from funcnn.gradient.checks.rounding import rounding
from funcnn.gradient.checks.second_order import second_order
from funcnn.gradient.checks.transforms import transforms
from funcnn.gradient.compare import compare
from funcnn.gradient.diagnose import diagnose_failure
from funcnn.gradient.jaxprs import sites
from funcnn.gradient.results import CheckReport, GradientError, Result
from funcnn.gradient.situation import Situation
from funcnn.gradient.subject import Subject, cotangents, pinned_dtypes
from funcnn.gradient.truth import is_float
from funcnn.gradient.variants import one_line
from funcnn.gradient.without_rules import trace
from funcnn.registry import Case, Rule, registered_rules

__all__ = ["CheckReport", "GradientError", "Result", "check"]

Check = Callable[[Situation], Iterator[Result]]

# Where one of these fails, later numbers would mislead.
_FIRST: tuple[Check, ...] = (contract, primal)
_ALGEBRA: tuple[Check, ...] = (truth, homogeneity, dot, declared_laws)
_FULL: tuple[Check, ...] = (
    *(rounding, transforms, finite_differences, edge, kink, residuals, second_order, context),
)
_RELEASE: tuple[Check, ...] = (mutation, cost)
LEVELS: dict[str, tuple[Check, ...]] = {
    "fast": _ALGEBRA,
    "full": _ALGEBRA + _FULL,
    "release": _ALGEBRA + _FULL + _RELEASE,
}
# A surrogate need not be linear in its cotangent, nor a derivative.
_ONLY_DERIVATIVES = {homogeneity, dot, finite_differences, edge, kink, second_order}
# With a function to follow it has a truth.
_ONLY_WITH_TRUTH = {truth, rounding}


def check(
    target: Any,
    *args: Any,
    level: str = "fast",
    static: Mapping[str, Any] | None = None,
    intent: str = "derivative",
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    case: str | None = None,
) -> CheckReport:
    """Check the hand-derived gradient of a rule, or of any differentiable function.

    Level "fast", per leaf: shape, dtype and tree of the cotangents in each dtype of the case; the
    value, and the cotangents for several cotangents of the output, against autodiff of the
    reference, both in float64; exact zero from a zero cotangent and exact homogeneity under -1 and
    powers of two; the dot test <w, J v> = <J' w, v>, with J v from forward mode. Level "full" adds
    rounding in the low precisions, transformations, finite differences, edge values, kinks,
    residuals, second derivatives and determinism; level "release" mutants and cost. What fails to
    hold its contract or to compute its value is not checked further: later numbers would mislead.

    Args:
        target: a Rule, checked on its own cases or on `args`; or a function, checked on `args`
            against itself without rules. Where the function calls no rule, JAX's own derivative is
            held against float64 truth and finite differences.
        args: the arguments; integers, keys and other leaves are passed on. Other sizes are tried,
            too: axes of equal size change together.
        level: "fast", "full" or "release".
        static: keyword arguments.
        intent: "derivative", or "surrogate" for a gradient that differs from it on purpose (of a
            Rule without arguments each case says so itself).
        reference: a function of the same arguments whose automatic gradient is the truth.
        seed: of the cases and the cotangents.
        case: the name of the only case to check, by default all.

    Raises:
        ValueError: an unknown level, intent or case.
        TypeError: a function without arguments.

    >>> import funcnn as fnn
    >>> check(fnn.rules.tanh, jnp.linspace(-3.0, 3.0, 7)).ok
    True
    """
    _one_of("level", level, LEVELS)
    _one_of("intent", intent, ("derivative", "surrogate"))
    given = Case("arguments", args, dict(static or {}), reference=reference, intent=intent)
    if isinstance(target, Rule):
        cases = [given] if args else target.cases(jax.random.key(seed))
        if case is not None:
            _one_of("case", case, [c.name for c in cases])
            cases = [c for c in cases if c.name == case]
        return _check_rule(target, cases, level, seed)
    if not callable(target) or not args:
        raise TypeError("check: give a Rule, or a differentiable function and its arguments")
    return _check_function(target, given, level, seed)


def _one_of(name: str, value: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in known:
        raise ValueError(f"check: {name} is one of {', '.join(known)}, found {value!r}")


def _check_rule(rule: Rule, cases: list[Case], level: str, seed: int) -> CheckReport:
    results: list[Result] = []
    leaves: dict[str, None] = {}
    source = ""
    for case in cases:
        try:
            situation = Situation.of_rule(rule, case, seed)
        except TypeError as error:
            results.append(Result(rule.name, "contract", case.name, "", "fail", str(error), seed))
            continue
        source = situation.source
        leaves |= dict.fromkeys(_leaves_with_truth(situation))
        results += _run(situation, level)
    registered = registered_rules().get(rule.name) is rule
    return CheckReport(rule.name, tuple(results), tuple(leaves), 1, source, registered)


def _leaves_with_truth(situation: Situation) -> tuple[str, ...]:
    return () if _does_not_apply(truth, situation.case) else situation.leaves


def _run(situation: Situation, level: str) -> list[Result]:
    results: list[Result] = []
    for run in _FIRST + LEVELS[level]:
        found = _results(run, situation)
        results += [_diagnosed(situation, r) for r in found]
        if run in _FIRST and any(r.verdict == "fail" for r in found):
            break
    return results


def _results(run: Check, situation: Situation) -> list[Result]:
    why = _does_not_apply(run, situation.case)
    if why:
        return [situation.result(run.__name__, "", "skip", why)]
    try:
        return list(run(situation))
    except Exception as error:  # whatever the rule raises is what is wrong with it
        verdict, note = "fail", f"it raised {type(error).__name__}: {one_line(error)}"
        if _raises_anyway(run, situation):
            verdict, note = "skip", f"raises without the rule, too: {one_line(error)}"
        return [situation.result(run.__name__, "", verdict, note)]


def _raises_anyway(run: Check, situation: Situation) -> bool:
    """Whether a check raises where the automatic derivative stands in the rule's place."""
    try:
        list(run(dataclasses.replace(situation, manual=situation.automatic, rule=None)))
    except Exception:
        return True
    return False


def _diagnosed(situation: Situation, result: Result) -> Result:
    if result.verdict != "fail":
        return result
    return dataclasses.replace(result, diagnosis=diagnose_failure(situation, result))


def _does_not_apply(run: Check, case: Case) -> str:
    if case.intent == "derivative" or run not in _ONLY_DERIVATIVES | _ONLY_WITH_TRUTH:
        return ""
    if run in _ONLY_WITH_TRUTH and case.reference is not None:
        return ""
    return "declared a surrogate"


def _check_function(f: Callable[..., Any], case: Case, level: str, seed: int) -> CheckReport:
    name = getattr(f, "__name__", type(f).__name__)
    situation = Situation.of_function(f, case, name, seed)
    found = sites(trace(f, case.args, dict(case.static)).jaxpr)
    if not found and case.reference is None:
        judged = tuple(native(situation))
        return CheckReport(name, judged, situation.leaves, 0, situation.source)
    with jax.enable_x64(True):
        pinned = _pinned(situation.subject("float64"))
    results = list(_in_its_own_dtype(situation, pinned)) if pinned else _run(situation, level)
    leaves = _leaves_with_truth(situation)
    return CheckReport(name, tuple(results), leaves, len(found), situation.source)


def _pinned(subject: Subject) -> set[str]:
    """What a function computes in where float64 cannot reach; it has been traced as it is."""
    try:
        return pinned_dtypes(jax.make_jaxpr(subject.manual)(*subject.x))
    except (TypeError, ValueError):  # float64 meets the dtype that the function names
        return {"a dtype that it names"}


def _in_its_own_dtype(situation: Situation, pinned: set[str]) -> Iterator[Result]:
    """A function that names a dtype cannot run in float64: its rounding is judged instead."""
    f, args = situation.manual, situation.args
    outputs = [leaf for leaf in jax.tree.leaves(jax.eval_shape(f, *args)) if is_float(leaf)]
    weights = cotangents(outputs)[0][1]

    def weighted(*args: Any) -> Any:
        ys = [leaf for leaf in jax.tree.leaves(f(*args)) if is_float(leaf)]
        return sum(jnp.vdot(w, y) for w, y in zip(weights, ys, strict=True))

    comparison = compare(weighted, *args, argnums=range(len(args)), pairs=0)
    note = f"judged in its own precision, since it computes in {', '.join(sorted(pinned))}"
    if comparison.no_truth:
        yield situation.result("truth", "", "inconclusive", comparison.no_truth)
    for leaf, row in zip(situation.leaves, comparison.rows, strict=False):
        verdict = {"WRONG": "fail", "INCONCLUSIVE": "inconclusive"}.get(row.verdict, "pass")
        yield situation.result("truth", leaf, verdict, row.note or note)
