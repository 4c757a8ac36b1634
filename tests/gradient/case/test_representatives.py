"""The cases on which a costly check is shown prove something, and are unlike."""

import jax.numpy as jnp

from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.representatives import shown_cases, shown_elsewhere


def rule_with(*cases):
    rule = Rule(lambda x: x * x, "square")
    rule.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
    rule.defcases(lambda key: iter(cases))
    return rule


KINK = Case("kink", (jnp.zeros(2),), kinks=True)
EMPTY, POINT = Case("empty", (jnp.zeros((0, 3)),)), Case("point", (jnp.ones(()),))
ROWS, OTHER = Case("rows", (jnp.ones((2, 3)),)), Case("other rows", (jnp.ones((4, 5)),))
LINE = Case("line", (jnp.ones(3),))


def test_two_unlike_cases_that_prove_something():
    rule = rule_with(KINK, EMPTY, POINT, ROWS, OTHER, LINE)
    situations = {case.name: Situation.of_rule(rule, case) for case in rule.cases()}
    assert [case.name for case in shown_cases(situations["empty"])] == ["rows", "line"]
    shown = [name for name, one in situations.items() if not shown_elsewhere(one)]
    assert shown == ["rows", "line"]


def test_where_nothing_else_is_there_the_kink_is_shown():
    rule = rule_with(KINK)
    assert shown_cases(Situation.of_rule(rule, KINK)) == [KINK]
