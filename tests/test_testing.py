"""Gradient tests for another project: wrong rules fail, right ones pass, nothing passes unseen."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import funcnn as fnn
from funcnn.core.registry import Rule
from funcnn.testing import assert_gradients, gradient_cases, rule_tests

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/own_rules/test_own_rules.py"


def scale(x, a):
    return x * a


def make_rule(backward, *cases):
    rule = Rule(scale, "scale")
    rule.defvjp(lambda x, a: (x * a, (x, a)), backward)
    rule.defcases(lambda key: iter(cases))
    return rule


def right(res, dy):
    x, a = res
    return a * dy, x * dy


def wrong(res, dy):
    x, a = res
    return a * dy, jnp.abs(x) * dy


POSITIVE = fnn.Case("positive", (jnp.array([1.0, 2.0]), jnp.array([3.0, -4.0])))
SIGNED = fnn.Case("signed", (jnp.array([1.0, -2.0]), jnp.array([3.0, 4.0])))
ZERO = fnn.Case("zero", (jnp.zeros(2), jnp.array([3.0, 4.0])))


def test_a_right_rule_passes_and_the_report_comes_back():
    report = assert_gradients(make_rule(right, POSITIVE, SIGNED))
    assert report.ok
    assert {r.case for r in report.results} >= {"positive", "signed"}


def test_a_wrong_rule_fails_only_on_the_case_that_shows_it():
    rule = make_rule(wrong, POSITIVE, SIGNED)
    assert_gradients(rule, case="positive")
    with pytest.raises(fnn.GradientError, match=r"FAIL scale truth: leaf a case signed"):
        assert_gradients(rule, case="signed")
    with pytest.raises(fnn.GradientError):
        assert_gradients(rule)


def test_a_foreign_function_with_keyword_arguments_and_an_intent():
    @jax.custom_vjp
    def straight_through(x):
        return jnp.round(x)

    straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, dy: (dy,))

    def f(x, *, factor):
        return factor * straight_through(x)

    x = jnp.array([0.3, 1.7])
    assert_gradients(f, x, static={"factor": 2.0}, intent="surrogate")
    with pytest.raises(fnn.GradientError):
        assert_gradients(f, x, static={"factor": 2.0})
    with pytest.raises(fnn.GradientError):  # the surrogate's own truth is another one
        assert_gradients(
            f,
            x,
            static={"factor": 2.0},
            intent="surrogate",
            reference=lambda x, *, factor: -factor * x,
        )


def test_one_parameter_a_case():
    rule = make_rule(right, POSITIVE, SIGNED, POSITIVE)
    params = gradient_cases(rule, fnn.rules.tanh)
    assert [p.id for p in params[:2]] == ["scale-positive", "scale-signed"]
    assert params[0].values == (rule, "positive")
    assert len(params) == 2 + len(fnn.rules.tanh.cases())


def test_rule_tests_tell_the_cases_apart():
    rule = make_rule(wrong, POSITIVE, SIGNED)
    test = rule_tests(rule)
    test(rule, "positive")
    with pytest.raises(fnn.GradientError, match="case signed"):
        test(rule, "signed")


# A case alone, such as the one of zeros here, need not compare everything; all of them must.
def test_an_argument_that_no_case_compares_fails():
    alone = make_rule(right, ZERO)
    test = rule_tests(alone)
    test(alone, "zero")
    with pytest.raises(fnn.GradientError, match=r"NOT COMPARED scale: leaf a:"):
        test(alone, None)
    rule_tests(alone)(make_rule(right, ZERO, SIGNED), None)


def test_a_rule_that_breaks_its_contract_compares_nothing():
    rule = make_rule(lambda res, dy: (dy,), SIGNED)
    with pytest.raises(fnn.GradientError, match="NOT COMPARED scale: leaf a, x"):
        rule_tests(rule)(rule, None)


@pytest.mark.parametrize(
    ("rules", "kind", "message"),
    [
        ([], ValueError, "no rules"),
        ([jnp.sin], TypeError, r"expected a Rule, as of @fnn\.rule, found the function sin; for a"),
        (jnp.sin, TypeError, "found the function sin; for a function call assert_gradients"),
        (3, TypeError, r"expected a Rule, as of @fnn\.rule, found int 3$"),
        (Rule(scale, "bare"), ValueError, "bare: a rule without cases; add some with @bare\\.def"),
    ],
)
def test_nothing_to_test_is_an_error(rules, kind, message):
    with pytest.raises(kind, match=message):
        rule_tests(rules)


def test_the_example_runs_in_pytest_one_test_a_case():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--override-ini=addopts=",
        "-v",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, str(EXAMPLE)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout
    for name in ("test_rules[", "scaled_tanh-rows]", "-every argument]", "test_clip"):
        assert name in done.stdout
