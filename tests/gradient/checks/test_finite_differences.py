"""Finite differences as a judge of the rule and of the truth, and the numbers they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.finite_differences import finite_differences
from funcnn.gradient.truth.richardson import (
    along,
    central,
    extrapolated,
    jumps,
    steps_from,
    unit_direction,
)

RANDOM = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return jnp.asarray(scale * RANDOM.normal(size=shape), jnp.float32)


def rule_of(reference, backward, name="planted"):
    """A rule of one argument whose residual is that argument."""
    rule = Rule(reference, name)
    rule.defvjp(lambda x: (reference(x), x), lambda x, dy: (backward(x, dy),))
    return rule


def judged(rule, *args, **keywords):
    return list(finite_differences(Situation.of_rule(rule, Case("one", args, **keywords))))


def verdicts(rule, *args, **keywords):
    return [result.verdict for result in judged(rule, *args, **keywords)]


# The numbers


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_no_component_of_a_direction_is_blind(size):
    v = unit_direction((size,), np.random.default_rng(size))
    assert np.linalg.norm(v) == pytest.approx(1.0, rel=1e-12)
    assert np.min(np.abs(v)) >= 0.1 / np.sqrt(size)
    assert size == 1 or {-1.0, 1.0} == set(np.sign(v))


def test_the_error_bar_covers_the_error_and_is_small():
    steps = steps_from(1e-2)
    for f, slope in ((np.exp, np.exp(0.7)), (np.sin, np.cos(0.7)), (lambda x: 1 / x, -1 / 0.49)):
        table = central(f(0.7 + steps)[:, None], f(0.7 - steps)[:, None], steps)
        value, change = extrapolated(table[:, 0])
        assert abs(value - slope) <= change + 1e-12
        assert change < 1e-11


def test_one_sided_differences_gain_one_order_a_column():
    steps = steps_from(1e-2)
    value, change = extrapolated((np.exp(steps) - 1) / steps, order=1)
    assert abs(value - 1) < 1e-12
    assert change < 1e-11
    # With the orders of central differences the first power of h stays.
    assert abs(extrapolated((np.exp(steps) - 1) / steps)[0] - 1) > 1e-5


@pytest.mark.parametrize("distance", [0.0, 0.3, 2 / 3, 0.9])
def test_a_kink_within_the_last_step_does_not_fade(distance):
    steps = steps_from(1.0)
    kink = distance * steps[-1]

    def f(x):
        return np.sin(x) + np.abs(x - kink)

    found = jumps(f(steps)[:, None], f(-steps)[:, None], f(np.zeros(1)), steps)[:, 0]
    assert found[-1] > 0.5 * found[-2]
    assert 1.0 <= found[-1] <= 4.0


def test_every_leaf_moves_alone():
    with jax.enable_x64(True):
        program = along(lambda a, b: [a * b], jax.jit)
        x = (np.array([2.0]), np.array([3.0]))
        v = (np.array([1.0]), np.array([10.0]))
        y = np.asarray(program(x, v, np.array([[1.0, 0.0], [0.0, 1.0]])))
    assert y.tolist() == [[9.0], [26.0]]


# The verdicts


def test_a_right_rule_passes_with_every_leaf():
    rule = rules.linear
    results = judged(rule, draw(4, 3, scale=1e4), draw(3, 2), draw(2))
    assert [(r.leaf, r.verdict) for r in results] == [("x", "pass"), ("w", "pass"), ("b", "pass")]


@pytest.mark.parametrize("factor", [-1.0, 1 + 1e-6, 0.0, float("nan")])
def test_a_wrong_rule_fails_and_autodiff_is_not_blamed(factor):
    rule = rule_of(jnp.tanh, lambda x, dy: dy * (1 - jnp.tanh(x) ** 2) * factor)
    (result,) = judged(rule, draw(5))
    assert result.verdict == "fail"
    assert "to blame" not in result.note


def test_one_leaf_of_three_is_accused():
    def backward(res, dy):
        x, w = res
        return dy @ w.T, x.T @ dy, -3 * dy.sum(0)

    rule = rules.linear.replace(
        forward=lambda x, w, b: (rules.linear.reference(x, w, b), (x, w)), backward=backward
    )
    # x is so large that the gradient of b is nothing beside that of w.
    assert verdicts(rule, draw(4, 3, scale=1e6), draw(3, 2), draw(2)) == ["pass", "pass", "fail"]


def test_softplus_as_the_sigmoid_of_a_clipped_input_fails():
    rule = rule_of(
        rules.softplus.reference, lambda x, dy: dy * jax.nn.sigmoid(jnp.clip(x, -1.0, 1.0))
    )
    assert verdicts(rule, draw(7)) == ["fail"]
    assert verdicts(rule, 0.1 * draw(7)) == ["pass"]  # nothing is clipped here


def stopped(x):
    return x * jax.lax.stop_gradient(jnp.sin(x))


def test_a_reference_with_a_stop_gradient_is_to_blame():
    right = rule_of(stopped, lambda x, dy: dy * (jnp.sin(x) + x * jnp.cos(x)))
    shared = rule_of(stopped, lambda x, dy: dy * jnp.sin(x))  # rule and autodiff agree: both wrong
    for rule in (right, shared):
        (result,) = judged(rule, draw(5))
        assert result.verdict == "fail"
        assert "autodiff or the reference is to blame" in result.note


def test_a_nan_of_autodiff_behind_a_where_is_named():
    def root(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0 * x)

    rule = rule_of(root, lambda x, dy: jnp.where(x > 0, dy / (2 * jnp.sqrt(jnp.abs(x) + 1e-30)), 0))
    (result,) = judged(rule, jnp.array([-0.5, 0.25, 2.0]))
    assert result.verdict == "fail"
    assert "automatic nan" in result.note
    assert "a NaN behind a where" in result.note


# Kinks


def test_a_declared_kink_is_skipped_with_its_reason():
    (result,) = judged(rules.relu, jnp.zeros(3), kinks=True)
    assert (result.verdict, result.note) == ("skip", "differences across a kink are no derivative")


@pytest.mark.parametrize("x", [[0.0, 1.0, -1.0], [1e-7, 0.5, -2.0], [0.0, 0.0, 0.0]])
def test_the_sample_is_moved_off_an_undeclared_kink(x):
    (result,) = judged(rules.relu, jnp.array(x, jnp.float32))
    assert result.verdict == "pass"
    assert x[0] > 0 or "moved, as the function has a kink" in result.note
    wrong = rule_of(rules.relu.reference, lambda x, dy: jnp.where(x <= 0, 0, 1.01 * dy))
    assert verdicts(wrong, jnp.array(x, jnp.float32)) == ["fail"]


def test_where_no_move_helps_nothing_is_said():
    def at_one(x):
        return jnp.where(x == 1, x, jnp.nan)

    (result,) = judged(rule_of(at_one, lambda x, dy: dy), jnp.ones(3))
    assert result.verdict == "inconclusive"
    assert result.note == "the function is not finite near the sample"


def test_a_jump_is_not_a_slope():
    rule = rule_of(lambda x: x * jnp.floor(x + 0.5), lambda x, dy: dy * jnp.floor(x + 0.5))
    assert verdicts(rule, jnp.array([0.5, 1.5, 2.25])) == ["pass"]  # at 0.5 it jumps


# What cannot be judged


def test_what_says_nothing_is_not_a_pass():
    assert verdicts(rules.relu, -jnp.ones(3)) == ["inconclusive"]  # the derivative is zero
    assert verdicts(rules.relu, jnp.zeros((0, 3))) == ["inconclusive"]
    assert verdicts(rules.relu, jnp.array([1.0, jnp.inf])) == ["skip"]
    # But a derivative that ought to be zero is wrong where it is not.
    wrong = rule_of(rules.relu.reference, lambda x, dy: 0.1 * dy)
    assert verdicts(wrong, -jnp.ones(3)) == ["fail"]


def test_a_function_that_computes_in_float32_is_inconclusive():
    rule = rule_of(
        lambda x: jnp.sin(x.astype("float32")).astype(x.dtype), lambda x, dy: dy * jnp.cos(x)
    )
    (result,) = judged(rule, draw(5))
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e8])
def test_the_step_follows_the_size_of_the_leaf(scale):
    rule = rule_of(lambda x: jnp.sin(x / scale), lambda x, dy: dy * jnp.cos(x / scale) / scale)
    assert verdicts(rule, draw(5, scale=scale)) == ["pass"]
    # A leaf that does not move would pass a derivative of zero.
    dead = rule_of(lambda x: jnp.sin(x / scale), lambda x, dy: 0 * dy)
    assert verdicts(dead, draw(5, scale=scale)) == ["fail"]


def test_elements_of_many_sizes():
    x = jnp.array([-80.0, -3.0, 2.0, 40.0, 1e20])
    assert verdicts(rules.silu, x) == ["pass"]


def test_the_sample_is_moved_off_a_singularity():
    rule = rule_of(jnp.log, lambda x, dy: dy / x)
    (result,) = judged(rule, jnp.array([0.0, 1.0, 2.0]))
    assert result.verdict == "pass"
    assert "moved, as the function is not finite near the sample" in result.note
