"""Is a rule right? Its own code in float64 against independent derivatives, leaf by leaf."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.gradient.checks.algebra import dot, truth
from funcnn.gradient.checks.contract import contract
from funcnn.gradient.checks.laws import declared_laws, homogeneity
from funcnn.gradient.checks.primal import primal
from funcnn.gradient.checks.rounding import rounding
from funcnn.gradient.compare import compare
from funcnn.gradient.jaxprs import sites
from funcnn.gradient.results import CheckReport, GradientError, Result
from funcnn.gradient.situation import Situation
from funcnn.gradient.subject import Subject, cotangents, pinned_dtypes
from funcnn.gradient.truth import is_float
from funcnn.gradient.without_rules import trace
from funcnn.registry import Case, Rule

__all__ = ["CheckReport", "GradientError", "Result", "check"]

_LEVELS = ("fast", "full")
_ALGEBRA = (primal, truth, homogeneity, dot, declared_laws)


def check(
    target: Any, *args: Any, level: str = "fast", static: Mapping[str, Any] | None = None
) -> CheckReport:
    """Check the hand-derived gradient of a rule, or of any differentiable function.

    Per leaf: the cotangent against the automatic one of the reference, both in float64; the value
    against the reference; shape, dtype and tree of the cotangents in each dtype of the case; exact
    zero from a zero cotangent; exact homogeneity under -1 and powers of two; the dot test
    <w, J v> = <J' w, v> with J v from forward mode. Level "full" adds rounding: the rule in each
    low precision against what autodiff does there.

    Args:
        target: a Rule, checked on its own cases or on `args`; or a function, checked on `args`
            against itself without rules.
        args: the arguments; integers, keys and other leaves are passed on.
        level: "fast" or "full".
        static: keyword arguments.

    Raises:
        ValueError: an unknown level.
        TypeError: a function without arguments.

    >>> import funcnn as fnn
    >>> check(fnn.rules.tanh, jnp.linspace(-3.0, 3.0, 7)).ok
    True
    """
    if level not in _LEVELS:
        raise ValueError(f"check: level is one of {', '.join(_LEVELS)}, found {level!r}")
    static = dict(static or {})
    if isinstance(target, Rule):
        given = [Case("arguments", args, static)] if args else target.cases()
        return _check_rule(target, given, level)
    if not callable(target) or not args:
        raise TypeError("check: give a Rule, or a differentiable function and its arguments")
    return _check_function(functools.partial(target, **static) if static else target, args)


def _check_rule(rule: Rule, cases: list[Case], level: str) -> CheckReport:
    results: list[Result] = []
    leaves: dict[str, None] = {}
    for case in cases:
        try:
            situation = Situation.of_rule(rule, case)
        except TypeError as error:
            results.append(Result(rule.name, "contract", case.name, "", "fail", str(error)))
            continue
        leaves |= dict.fromkeys(situation.leaves)
        results += _run(situation, level)
    return CheckReport(rule.name, tuple(results), tuple(leaves), 1)


def _run(situation: Situation, level: str) -> list[Result]:
    results = list(contract(situation))
    if any(r.verdict == "fail" for r in results):
        return results  # later numbers would mislead
    with jax.enable_x64(True):
        for run in _ALGEBRA:
            results += run(situation)
    if level == "full":
        results += rounding(situation)
    return results


def _check_function(f: Callable[..., Any], args: tuple[Any, ...]) -> CheckReport:
    name = getattr(f, "__name__", type(f).__name__)
    found = sites(trace(f, args, {}).jaxpr)
    situation = Situation.of_function(f, Case("arguments", args), name)
    with jax.enable_x64(True):
        pinned = _pinned(situation.subject("float64"))
        results = [] if pinned else [r for run in _ALGEBRA for r in run(situation)]
    if pinned:
        results = list(_in_its_own_dtype(f, args, situation, pinned))
    return CheckReport(name, tuple(results), situation.leaves, len(found))


def _pinned(subject: Subject) -> set[str]:
    """What a function computes in where float64 cannot reach; it has been traced as it is."""
    try:
        return pinned_dtypes(jax.make_jaxpr(subject.manual)(*subject.x))
    except (TypeError, ValueError):  # float64 meets the dtype that the function names
        return {"a dtype that it names"}


def _in_its_own_dtype(
    f: Callable[..., Any], args: tuple[Any, ...], situation: Situation, pinned: set[str]
) -> Iterator[Result]:
    """A function that names a dtype cannot run in float64: its rounding is judged instead."""
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
