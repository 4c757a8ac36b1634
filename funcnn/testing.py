"""Gradient tests for a project of one's own: one line with pytest.

from funcnn.testing import rule_tests
from my_project import my_rule, other_rule

test_rules = rule_tests([my_rule, other_rule])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from funcnn.core.given import described
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.check import check
from funcnn.gradient.verdict.results import CheckReport, GradientError
from funcnn.types import Function, Intent, Level, PyTree

__all__ = ["GradientError", "assert_gradients", "gradient_cases", "rule_tests"]


def assert_gradients(
    target: Rule | Function,
    *args: PyTree,
    level: Level = "fast",
    static: Mapping[str, Any] | None = None,
    intent: Intent = "derivative",
    reference: Function | None = None,
    seed: int = 0,
    case: str | None = None,
    strict: bool | None = None,
) -> CheckReport:
    """Raise where the gradient of a rule, or of any function of JAX, is wrong or was not compared.

    Args:
        target: a Rule, checked on its own cases or on `args`; or a function, checked on `args`.
        args, level, static, intent, reference, seed, strict: as for `fnn.check`.
        case: the only case of a Rule to check. A case alone need not compare every argument with a
            truth that is not zero, so it only must not fail; `rule_tests` asks for the rest.

    Returns:
        the report, which is right.

    Raises:
        GradientError: the message is the report.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (2 * x**2 * dy,))
    >>> assert_gradients(cube, jnp.array([1.0, 2.0]))
    Traceback (most recent call last):
    funcnn.gradient.verdict.results.GradientError: FAIL cube truth: ...
    """
    report = check(
        target,
        *args,
        level=level,
        static=static,
        intent=intent,
        reference=reference,
        seed=seed,
        case=case,
        strict=strict,
    )
    if report.failures or case is None:
        report.raise_if_failed()
    return report


def gradient_cases(*rules: Rule) -> list[Any]:
    """One `pytest.param(rule, case)` for each case of the rules, named after both.

    For a test of one's own, `@pytest.mark.parametrize(("rule", "case"), gradient_cases(rule))`,
    that calls `assert_gradients(rule, case=case)` beside whatever else it asserts.

    Raises:
        ValueError: a rule has no cases.
        TypeError: one is not a Rule.

    >>> from funcnn import rules
    >>> [param.id for param in gradient_cases(rules.relu)][:2]
    ['relu-normal', 'relu-cube']
    """
    import pytest

    return [
        pytest.param(rule, case, id=f"{rule.name}-{case}")
        for rule in rules
        for case in dict.fromkeys(c.name for c in _cases(rule))
    ]


def rule_tests(
    rules: Rule | Iterable[Rule], *, level: Level = "fast", strict: bool | None = None
) -> Callable[..., None]:
    """A parametrized test: one for each case, and one that every argument was really compared.

    Args:
        rules: one Rule, or several.
        level, strict: as for `fnn.check`; a package that wants its rules to hold in every setting
            asks for strict=True at the level "full".

    Raises:
        ValueError: there are no rules, or one has no cases.
        TypeError: one is not a Rule.

    >>> from funcnn import rules
    >>> test_activations = rule_tests([rules.relu, rules.tanh])
    >>> test_activations(rules.relu, "normal")
    """
    import pytest

    if isinstance(rules, Rule) or not isinstance(rules, Iterable) or isinstance(rules, str):
        rules = [cast(Rule, rules)]
    chosen = list(rules)
    if not chosen:
        raise ValueError("rule_tests: no rules; give a Rule or several")
    params = gradient_cases(*chosen)
    params += [pytest.param(rule, None, id=f"{rule.name}-every argument") for rule in chosen]

    @pytest.mark.parametrize(("rule", "case"), params)
    def test(rule: Rule, case: str | None) -> None:
        if case is None:
            _assert_every_argument(rule)
        else:
            assert_gradients(rule, level=level, case=case, strict=strict)

    return test


def _cases(rule: Rule) -> list[Case]:
    if not isinstance(rule, Rule):
        cure = "; for a function call assert_gradients(f, *args)" if callable(rule) else ""
        message = f"expected a Rule, as of @fnn.rule, found {described(rule)}{cure}"
        raise TypeError(f"funcnn.testing: {message}")
    cases = rule.cases()
    if not cases:
        message = f"a rule without cases; add some with @{rule.local_name}.defcases"
        raise ValueError(f"{rule.name}: {message}")
    return cases


def _assert_every_argument(rule: Rule) -> None:
    """Each differentiable argument meets, in some case, a truth that is not zero."""
    cases = _cases(rule)
    missing = {leaf for c in cases if _has_truth(c) for leaf in Situation.of_rule(rule, c).leaves}
    for name in dict.fromkeys(c.name for c in cases):
        if missing:
            report = check(rule, case=name)
            missing -= set(report.leaves) - set(report.uncovered)
    if missing:
        raise GradientError(
            f"NOT COMPARED {rule.name}: leaf {', '.join(sorted(missing))}: in no case is the true "
            "gradient of it different from zero; add one"
        )


def _has_truth(case: Case) -> bool:
    return case.intent == "derivative" or case.reference is not None
