"""At kinks and ties: between the one-sided derivatives, by the convention of the reference."""

import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.kink import kink

RANDOM = np.random.default_rng(0)


def rule_of(reference, backward):
    rule = Rule(reference, "planted")
    rule.defvjp(lambda x: (reference(x), x), lambda x, dy: (backward(x, dy),))
    return rule


def judged(rule, *args, kinks=True, **static):
    case = Case("kink", args, static, kinks=kinks)
    return [(r.verdict, r.note) for r in kink(Situation.of_rule(rule, case))]


def relu(x):
    return jnp.where(x <= 0, 0, x)


def absolute(x):
    return jnp.where(x >= 0, x, -x)


X = jnp.array([-1.0, -0.0, 0.0, 2.0])


def test_right_rules_pass_and_the_kinks_are_counted():
    assert judged(rules.relu, X) == [("pass", "4 of 4 coordinates, 2 at a kink")]
    assert judged(rule_of(absolute, lambda x, dy: jnp.where(x >= 0, dy, -dy)), X)[0][0] == "pass"
    assert judged(rules.elu, X, alpha=0.3)[0][0] == "pass"


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_step_follows_the_coordinate(scale):
    x = scale * jnp.array([-2.0, 0.0, 1.0, 1e-6])
    assert judged(rules.relu, x) == [("pass", "4 of 4 coordinates, 1 at a kink")]
    wrong = rule_of(relu, lambda x, dy: jnp.where(x <= 1e-3 * scale, 0, dy))
    ((verdict, note),) = judged(wrong, x)
    assert verdict == "fail"
    assert "not between the one-sided derivatives: 1 coordinates, first 3" in note


SIDES = {
    "relu takes 1": (relu, lambda x, dy: jnp.where(x >= 0, dy, 0)),
    "relu takes a half": (relu, lambda x, dy: dy * jnp.where(x == 0, 0.5, (x > 0).astype(x.dtype))),
    "abs takes 0": (absolute, lambda x, dy: dy * jnp.sign(x)),
    "abs takes -1": (absolute, lambda x, dy: jnp.where(x > 0, dy, -dy)),
}


@pytest.mark.parametrize("mistake", SIDES)
def test_another_side_than_the_reference_fails(mistake):
    ((verdict, note),) = judged(rule_of(*SIDES[mistake]), X)
    assert verdict == "fail"
    assert note.startswith("not the convention of the reference: 2 coordinates, first 1")


def test_outside_of_both_sides_is_worse_than_another_convention():
    wrong = rule_of(relu, lambda x, dy: jnp.where(x == 0, 2 * dy, jnp.where(x > 0, dy, 0)))
    ((verdict, note),) = judged(wrong, X)
    assert verdict == "fail"
    assert note.startswith("not between the one-sided derivatives: 2 coordinates, first 1")


@pytest.mark.parametrize("nothing", [float("nan"), float("inf")])
def test_a_cotangent_that_is_not_finite_fails(nothing):
    wrong = rule_of(relu, lambda x, dy: jnp.where(x == 0, nothing, jnp.where(x > 0, dy, 0)))
    assert judged(wrong, X)[0][0] == "fail"


def test_a_reference_outside_of_its_own_sides_is_to_blame():
    def hooked(x):  # where x is 0 the branch with slope 3 is alive, and its value is right
        return jnp.where(x == 0, 3 * x, relu(x))

    rule = rule_of(hooked, lambda x, dy: jnp.where(x > 0, dy, 0))
    ((verdict, note),) = judged(rule, X)
    assert verdict == "fail"
    assert note.startswith("the reference's own derivative")


# Ties


def first_of_row(x):
    """The largest of each row; its gradient goes to the first of those that are tied."""
    return jnp.take_along_axis(x, jnp.argmax(x, -1, keepdims=True), -1)[..., 0]


def split(x, dy):
    tied = (x == jnp.max(x, -1, keepdims=True)).astype(x.dtype)
    return dy[..., None] * tied / jnp.sum(tied, -1, keepdims=True)


def to_the_first(x, dy):
    places = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    return jnp.where(places == jnp.argmax(x, -1, keepdims=True), dy[..., None], 0)


TIES = jnp.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 1.0, 3.0]])


def test_ties_go_where_the_reference_sends_them():
    ((verdict, note),) = judged(rule_of(first_of_row, to_the_first), TIES)
    assert (verdict, note) == ("pass", "9 of 9 coordinates, 5 at a kink")
    ((verdict, note),) = judged(rule_of(first_of_row, split), TIES)
    assert verdict == "fail"
    assert note.startswith("not the convention of the reference: 5 coordinates, first 0")


def test_leaves_that_tie_with_each_other_are_moved_one_by_one():
    def larger(a, b):
        return jnp.maximum(a, b)

    rule = Rule(larger, "larger")
    rule.defvjp(
        lambda a, b: (larger(a, b), (a, b)),
        lambda res, dy: tuple(
            dy * jnp.where(x == y, 0.5, (x > y).astype(dy.dtype)) for x, y in (res, res[::-1])
        ),
    )
    assert judged(rule, X, X) == [("pass", "4 of 4 coordinates, 4 at a kink")] * 2


def test_ties_in_a_window_may_not_be_split():
    right = rules.max_pool
    x = jnp.asarray(np.maximum(np.round(RANDOM.normal(size=(1, 5, 6, 2))), 0), jnp.float32)
    assert judged(right, x, window=2)[0][0] == "pass"

    def tied_everywhere(res, dy, **static):
        (dx,) = right.backward(res, dy, **static)
        return (0.5 * dx + 0.5 * jnp.roll(dx, 1, 2),)

    assert judged(right.replace(backward=tied_everywhere), x, window=2)[0][0] == "fail"


def test_of_many_coordinates_those_at_kinks_are_judged():
    x = np.asarray(RANDOM.normal(size=(40, 5)), np.float32)
    x[17, 3] = 0
    wrong = rule_of(relu, lambda x, dy: jnp.where(x >= 0, dy, 0))
    ((verdict, note),) = judged(wrong, jnp.asarray(x))
    assert verdict == "fail"
    assert "1 coordinates, first 88" in note
    assert judged(rules.relu, x) == [("pass", "64 of 200 coordinates, 1 at a kink")]


# What is not judged


def test_without_declared_kinks_there_is_nothing_to_say():
    assert judged(rules.relu, X, kinks=False) == []


def test_infinite_values_are_left_out_and_counted():
    x = jnp.array([[0.5, -jnp.inf, 1.5], [-jnp.inf, -jnp.inf, 3.0]])
    for rule in (rules.softmax, rules.log_softmax):
        assert judged(rule, x) == [("pass", "3 of 6 coordinates, 0 at a kink")]
    assert judged(rules.relu, jnp.full(2, -jnp.inf)) == [("skip", "no finite elements")]
    assert judged(rules.relu, jnp.zeros((0, 3))) == [("skip", "no outputs")]
    scaled = rules.softmax.replace(
        backward=lambda y, dy, axis: (1.001 * rules.softmax.backward(y, dy, axis=axis)[0],)
    )
    assert judged(scaled, x)[0][0] == "fail"


def test_an_infinite_slope_is_inconclusive():
    def root(x):
        return jnp.sqrt(jnp.abs(x))

    rule = rule_of(root, lambda x, dy: dy * jnp.sign(x) / (2 * root(x)))
    assert judged(rule, jnp.zeros(2))[0][0] == "inconclusive"
