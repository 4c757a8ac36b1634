"""Is a rule right? Its own code in float64 against independent derivatives, leaf by leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax

from funcnn.core.errors import first_line, kind_and_line, plainly
from funcnn.core.given import check_call, check_positive, check_seed, described, function_name
from funcnn.core.layer import Layer
from funcnn.core.registry import Case, Rule, registered_rules
from funcnn.gradient.case.bound_case import Situation, trace_real
from funcnn.gradient.case.memory import MEGABYTES, too_large
from funcnn.gradient.checks.algebra import truth
from funcnn.gradient.checks.contract import contract
from funcnn.gradient.checks.native import native
from funcnn.gradient.checks.registered import Check, by_level, traits
from funcnn.gradient.comparison.as_it_is import judged_as_it_is, pinned_in
from funcnn.gradient.diagnosis.diagnose import diagnose_failure
from funcnn.gradient.program.answering import step
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.influence import rules_not_compared
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.verdict.results import CheckReport, GradientError, Result
from funcnn.names import import_files
from funcnn.types import Function, Intent, Level, PyTree

__all__ = ["CheckReport", "GradientError", "Result", "check"]

# The checks register themselves: no file is named here.
import_files("funcnn.gradient.checks")
import_files("funcnn.gradient.mutation")
import_files("funcnn.gradient.hunt")
LEVELS = by_level()
# What concerns another setting is a failure there, too.
_STRICT_LEVELS = {"release"}


def check(
    target: Rule | Function,
    *args: PyTree,
    level: Level = "fast",
    static: Mapping[str, Any] | None = None,
    intent: Intent = "derivative",
    reference: Function | None = None,
    seed: int = 0,
    case: str | None = None,
    strict: bool | None = None,
    megabytes: float = MEGABYTES,
) -> CheckReport:
    """Check the hand-derived gradient of a rule, or of any differentiable function.

    Level "fast", per leaf: shape, dtype and tree of the cotangents in each dtype of the case; the
    value, and the cotangents for several cotangents of the output, against autodiff of the
    reference, both in float64; exact zero from a zero cotangent and exact homogeneity under -1 and
    powers of two; the dot test <w, J v> = <J' w, v>, with J v from forward mode. Level "full" adds
    rounding in the low precisions, transformations, finite differences, edge values, kinks,
    residuals, second derivatives and determinism; level "release" mutants, cost and a short `hunt`.
    What fails to hold its contract or to compute its value is not checked further: later numbers
    would mislead.

    What has no reverse mode without the rule (a loop that ends by itself, a callback) is held
    against forward mode of the loop's body or, where there is none either, against differences. A
    loop that has not ended after some seconds is stopped, and what it was to show is inconclusive.
    Nothing else is: a callback that does not return is waited for here; `funcnn check` stops it.

    Args:
        target: a Rule, checked on its own cases or on `args`; or a function, checked on `args`
            against itself without rules. Where the function calls no rule, JAX's own derivative is
            held against float64 truth and finite differences.
        args: the arguments. Each float in them is one to differentiate, numbers of Python and of
            NumPy too, and a complex array is its two parts; integers, keys and other leaves are
            passed on. Other sizes are tried, too: axes of equal size change together.
        level: "fast", "full" or "release".
        static: keyword arguments.
        intent: "derivative", or "surrogate" for a gradient that differs from it on purpose (of a
            Rule without arguments each case says so itself).
        reference: a function of the same arguments whose automatic gradient is the truth.
        seed: of the cases and the cotangents.
        case: the name of the only case to check, by default all.
        strict: whether what concerns another setting than the arguments and dtypes given fails:
            matmul precision, dtype and rank promotion, x64, memory, dtypes and sizes that nobody
            gave, NaN and infinite arguments. Otherwise it is a note, printed and counted apart. By
            default at level "release", and for funcnn's own rules.
        megabytes: where a check is thought to take more, by the size of its arguments, it is not
            begun, and says so.

    Raises:
        ValueError: an unknown level, intent or case; megabytes that are no number above 0.
        TypeError: a function without arguments.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> check(fnn.rules.tanh, jnp.linspace(-3.0, 3.0, 7)).ok
    True
    """
    _one_of("level", level, LEVELS)
    _one_of("intent", intent, ("derivative", "surrogate"))
    check_seed("check", seed)
    check_positive("check", "megabytes", megabytes)
    if not isinstance(target, Rule) and (not callable(target) or not args):
        raise TypeError(_what_to_give(target))
    if args or not isinstance(target, Rule):
        check_call("check", target, args, static, reference)
    given = Case("arguments", args, dict(static or {}), reference=reference, intent=intent)
    if isinstance(target, Rule):
        cases = [given] if args else target.cases(jax.random.key(seed))
        if case is not None:
            _one_of("case", case, [c.name for c in cases])
            cases = [c for c in cases if c.name == case]
        strict = _is_ours(target) or level in _STRICT_LEVELS if strict is None else strict
        return _noted(_check_rule(target, cases, level, seed, megabytes, own=not args), strict)
    if case is not None:
        raise ValueError(f"check: case is for a Rule with cases of its own, found case {case!r}")
    strict = level in _STRICT_LEVELS if strict is None else strict
    return _noted(_check_function(target, given, level, seed, megabytes), strict)


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"check: {name} is one of {', '.join(known)}, found {value!r}")


def _what_to_give(target: object) -> str:
    if isinstance(target, Layer):
        rule = "a rule"
        if target.rule is not None and _is_ours(target.rule):
            rule = f"its rule, fnn.check(fnn.rules.{target.rule.name})"
        return (
            f"check: {target.kind} is a layer: check {rule}, or the layer at arguments, "
            f"fnn.check({target.kind}, params, x)"
        )
    alone = f"{described(target)} alone" if callable(target) else described(target)
    return f"check: give a Rule, or a differentiable function and its arguments; found {alone}"


def _is_ours(rule: Rule) -> bool:
    """One of funcnn's own rules, or such a rule with another pass."""
    own = registered_rules().get(rule.name)
    return "." not in rule.name and own is not None and own.reference is rule.reference


def _noted(report: CheckReport, strict: bool) -> CheckReport:
    """A failure in another setting as a note, unless somebody asks for those settings."""
    if strict:
        return report
    results = tuple(
        dataclasses.replace(r, verdict="note") if r.verdict == "fail" and r.setting else r
        for r in report.results
    )
    return dataclasses.replace(report, results=results)


def _check_rule(
    rule: Rule, cases: list[Case], level: Level, seed: int, megabytes: float, *, own: bool
) -> CheckReport:
    if rule.underived:
        underived = Result(rule.name, "contract", "", "", "fail", rule.underived)
        return CheckReport(rule.name, (underived,), (), 1, own=own)
    results: list[Result] = []
    leaves: dict[str, None] = {}
    source = ""
    for case in cases:
        try:
            situation = Situation.of_rule(rule, case, seed, own=own)
        except TypeError as error:
            results.append(Result(rule.name, "contract", case.name, "", "fail", str(error), seed))
            continue
        source = situation.source
        leaves |= dict.fromkeys(_leaves_with_truth(situation))
        large = too_large(case.args, megabytes)
        results += _not_begun(situation, large) if large else _run(situation, level)
    again = _command(rule) if own else ""
    laws = tuple({law: None for case in cases for law in case.laws})
    every = tuple(results)
    return CheckReport(rule.name, every, tuple(leaves), 1, source, again, own, laws=laws)


def _command(rule: Rule) -> str:
    """What checks a registered rule on the command line: by its name, or by where it stands."""
    if registered_rules().get(rule.name) is not rule or rule.__module__ == "__main__":
        return ""
    if "." not in rule.name:
        return f"funcnn check {rule.name}"
    return f"funcnn check --target {rule.__module__}:{rule.reference.__qualname__}"


def _leaves_with_truth(situation: Situation) -> tuple[str, ...]:
    return () if _does_not_apply(truth, situation.case) else situation.leaves


def _not_begun(situation: Situation, why: str) -> list[Result]:
    return [situation.result("truth", leaf, "inconclusive", why) for leaf in situation.leaves]


def _run(situation: Situation, level: Level) -> list[Result]:
    results: list[Result] = []
    for run in LEVELS[level]:
        of_check = _results(run, situation)
        results += [_diagnosed(situation, r) for r in of_check]
        if traits(run).stops and any(r.verdict == "fail" and not r.setting for r in of_check):
            break
    return results


def _results(run: Check, situation: Situation) -> list[Result]:
    name = run.__name__
    step(lambda: f"check {name}, case {situation.case.name}")
    why = _does_not_apply(run, situation.case)
    if why:
        return [situation.result(name, "", "skip", why)]
    try:
        return list(run(situation))
    except EndlessLoop as error:
        return [situation.result(name, "", "inconclusive", f"stopped: {error}")]
    except Exception as error:  # whatever the rule raises is what is wrong with it
        verdict, note = "fail", f"it raised {kind_and_line(error)}"
        if _raises_anyway(run, situation):
            verdict, note = "skip", f"raises without the rule, too: {first_line(error)}"
        return [situation.result(name, "", verdict, note)]


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
    said = traits(run)
    if case.intent == "derivative" or not (said.only_derivatives or said.needs_truth):
        return ""
    if said.needs_truth and case.reference is not None:
        return ""
    return "declared a surrogate"


def _check_function(
    f: Function, case: Case, level: Level, seed: int, megabytes: float
) -> CheckReport:
    name = function_name(f)
    situation = Situation.of_function(f, case, name, seed)
    with plainly("check"):
        program = trace_real(situation.manual, situation.args, case.args)
    rules = sites(program.jaxpr)
    if why := too_large(case.args, megabytes):
        large = tuple(_not_begun(situation, why))
        return CheckReport(name, large, situation.leaves, len(rules), situation.source)
    if not rules and case.reference is None:
        judged = tuple(native(situation))
        report = CheckReport(name, judged, situation.leaves, 0, situation.source)
        return dataclasses.replace(report, source_of=situation.source_of)
    leaves = _leaves_with_truth(situation)
    results: list[Result] = _results(contract, situation)
    if not any(r.verdict == "fail" for r in results):
        with jax.enable_x64(True):
            pinned = pinned_in(situation)
        results = (
            [*results, *_as_it_is(situation, pinned), *_not_run(situation, level, pinned)]
            if pinned
            else _run(situation, level)
        )
    floats = [i for i, leaf in enumerate(program.leaves) if is_float(leaf)]
    others = tuple(rules_not_compared(program, floats, []))
    more = {
        "rules_not_compared": tuple(sorted({(site.name, why) for site, why in others})),
        "run": len({site.rule for site in rules}) - len(others) if rules else 1,
    }
    report = CheckReport(name, tuple(results), leaves, len(rules), situation.source, **more)
    return dataclasses.replace(report, source_of=situation.source_of)


def _as_it_is(situation: Situation, pinned: set[str]) -> list[Result]:
    if why := _does_not_apply(truth, situation.case):
        return [situation.result("truth", "", "skip", why)]
    return judged_as_it_is(situation, pinned)


def _not_run(situation: Situation, level: Level, pinned: set[str]) -> list[Result]:
    """The checks that need float64, where a function names another dtype."""
    names = [run.__name__ for run in LEVELS[level] if run not in (contract, truth)]
    why = f"it computes in {', '.join(sorted(pinned))}"
    return [situation.result(name, "", "skip", why) for name in names]
