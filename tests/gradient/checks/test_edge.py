"""Edge values: finite wherever the truth is, right where it can be known, and no false alarm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.edge_values import extreme_values, smaller_sizes
from funcnn.gradient.case.representatives import stands_for_its_rule
from funcnn.gradient.checks.edge import edge

RANDOM = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return jnp.asarray(scale * RANDOM.normal(size=shape), jnp.float32)


def rule_of(reference, backward, forward=None):
    """A rule whose residuals are its arguments, unless `forward` says otherwise."""
    rule = Rule(reference, "planted")
    rule.defvjp(forward or (lambda *args: (reference(*args), args)), backward)
    return rule


def results(rule, *args, dtypes=(), sizes=False, **keywords):
    case = Case("one", args, dtypes=dtypes, **keywords)
    if not sizes:  # they are tried on the first case alone, and compiled for each
        rule = rule.replace()
        rule.defcases(lambda key: iter([Case("first", args), case]))
    return [r for r in edge(Situation.of_rule(rule, case)) if sizes or r.leaf]


def failures(rule, *args, **keywords):
    return [r.note for r in results(rule, *args, **keywords) if r.verdict == "fail"]


def verdicts(rule, *args, **keywords):
    return {r.verdict for r in results(rule, *args, **keywords)}


# The variations


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_every_variation_keeps_the_shape(shape):
    found = dict(extreme_values(np.ones(shape), "float32"))
    assert {value.shape for value in found.values()} == {shape}
    assert len(found) == 13
    assert 0 < abs(found["subnormal"].flat[0]) < np.finfo(np.float32).smallest_normal
    assert np.isnan(found["a NaN"]).sum() == 1
    assert found["one-hot"].sum() == 1


def test_axes_of_one_size_shrink_together_and_indices_stay_inside():
    case = Case("one", (draw(4, 3), jnp.array([2, 0, 1, 2])))
    situation = Situation.of_rule(rules.softmax_cross_entropy, case)
    cut = {name: s.args for name, s in smaller_sizes(situation)}
    assert [a.shape for a in cut["size 4 to 1"][:2]] == [(1, 3), (1,)]
    logits, labels, _ = cut["size 3 to 1"]
    assert logits.shape == (4, 1)
    assert labels.tolist() == [0, 0, 0, 0]
    assert labels.dtype == np.int32
    # A number as large as the axis is no index of it.
    case = Case("one", (draw(4, 3), jnp.array([3, 0, 1, 2])))
    cut = dict(smaller_sizes(Situation.of_rule(rules.softmax_cross_entropy, case)))
    assert cut["size 3 to 1"].args[1].tolist() == [3, 0, 1, 2]
    assert cut["size 4 to 1"].args[1].tolist() == [0]
    case = Case("one", (draw(2, 3), jnp.array([2, 0])))
    names = dict(smaller_sizes(Situation.of_rule(rules.softmax_cross_entropy, case)))
    assert list(names) == ["size 2 to 1", "size 2 to 0", "size 3 to 1", "size 3 to 0"]


# Rules that hold


@pytest.mark.parametrize("name", ["relu", "softmax", "logistic"])
def test_right_rules_hold_at_every_edge(name):
    rule = rules.registered_rules()[name]
    first = rule.cases()[0]
    found = results(rule, *first.args, static=first.static, dtypes=("float32",), sizes=True)
    assert {r.verdict for r in found} == {"pass"}, [str(r) for r in found]
    assert found[-1].leaf == ""  # the sizes


def test_a_nan_of_autodiff_alone_is_a_win():
    found = results(rules.silu, draw(5))
    assert found[0].verdict == "pass"
    reference = rule_of(jax.nn.silu, lambda res, dy: (rules.silu.backward(res[0], dy)[0],))
    (note, *_) = [r.note for r in results(reference, draw(5)) if r.leaf == "x"]
    assert "a -inf: finite where autodiff is not, 1 of x" in note


# Planted mistakes


def test_an_exponential_that_overflows_is_caught():
    def naive(res, dy):
        (x,) = res
        e = jnp.exp(-x)
        return (dy * e / (1 + e) ** 2,)

    found = failures(rule_of(rules.sigmoid.reference, naive), draw(5), dtypes=("float32",))
    assert any(note.startswith("+-10000: cotangent of x is not finite") for note in found)
    # exp(100) overflows in float32 alone.
    assert any(note.startswith("+-100 float32: cotangent of x is not finite") for note in found)


def test_zero_times_infinity_is_caught():
    def backward(res, dy):
        (x,) = res
        return (dy * (x > 0).astype(dy.dtype) * jnp.exp(x) * jnp.exp(-x),)

    found = failures(rule_of(rules.relu.reference, backward), draw(5))
    assert any("+-10000: cotangent of x is not finite" in note for note in found)


EPS = 1e-5


def normalized(x):
    mean = jnp.mean(x, -1, keepdims=True)
    centred = x - jnp.broadcast_to(mean, x.shape)
    variance = jnp.mean(centred**2, -1, keepdims=True)
    return centred / jnp.broadcast_to(jnp.sqrt(variance + EPS), x.shape)


def normalized_backward(eps):
    def backward(res, dy):
        (x,) = res
        centred = x - jnp.broadcast_to(jnp.mean(x, -1, keepdims=True), x.shape)
        root = jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + eps)
        y = centred / jnp.broadcast_to(root, x.shape)
        along = y * jnp.mean(dy * y, -1, keepdims=True)
        inner = dy - jnp.broadcast_to(jnp.mean(dy, -1, keepdims=True), x.shape) - along
        return (inner / jnp.broadcast_to(root, x.shape),)

    return backward


def test_eps_forgotten_shows_where_all_elements_are_equal():
    assert failures(rule_of(normalized, normalized_backward(EPS)), draw(3, 5)) == []
    found = failures(rule_of(normalized, normalized_backward(0.0)), draw(3, 5))
    assert any(note.startswith("all equal: cotangent of x is not finite") for note in found)


def test_a_small_mistake_at_one_edge_is_caught():
    def clipped(res, dy):
        (x,) = res
        return (dy * (1 - jnp.tanh(jnp.clip(x, -3.0, 3.0)) ** 2),)

    found = failures(rule_of(rules.tanh.reference, clipped), 0.1 * draw(5))
    assert {note.split(":")[0] for note in found} >= {"+-30", "+-100", "all -100"}
    assert not any(note.startswith("zeros") for note in found)


def test_digits_lost_in_low_precision_are_caught():
    def mean_square(x):
        return jnp.mean((x - jnp.broadcast_to(jnp.mean(x, -1, keepdims=True), x.shape)) ** 2, -1)

    def poor(res, dy):  # x - mean as a difference of large sums
        (x,) = res
        n = x.shape[-1]
        total = jnp.broadcast_to(jnp.sum(x, -1, keepdims=True), x.shape)
        big = jax.lax.optimization_barrier(x * n + total * 1e3)
        return ((big - total * 1e3 - total) * 2 / n**2 * dy[..., None],)

    found = failures(rule_of(mean_square, poor), draw(3, 5), dtypes=("float32",))
    assert found
    assert all("float32" in note for note in found)
    assert any("ulps, autodiff" in note for note in found)


def test_a_size_that_the_rule_does_not_take_is_caught():
    def total(x):
        return jnp.sum(x, 0, keepdims=True)

    def right(res, dy):
        (x,) = res
        return (jnp.broadcast_to(dy, x.shape),)

    assert failures(rule_of(total, right), draw(3, 2), sizes=True) == []

    def unequal(res, dy):
        (x,) = res
        return (jnp.concatenate([dy, *[dy] * (x.shape[0] - 1)]),)  # one row at least

    (note,) = failures(rule_of(total, unequal), draw(3, 2), sizes=True)
    assert note.startswith("size 3 to 0: the rule raises where its reference does not:")

    def parameter(x, w):
        return x * w

    def over_rows(res, dy):
        x, w = res
        return dy * w, jnp.mean(dy * x) * x.size

    (note,) = failures(
        rule_of(parameter, over_rows), draw(3), jnp.array(0.5, jnp.float32), sizes=True
    )
    assert (
        note
        == "size 3 to 0: cotangent of w is not finite where autodiff is: nan at [], where it is 0"
    )


# No false alarms


def test_another_side_of_an_undeclared_kink_is_inconclusive():
    other_side = rule_of(rules.relu.reference, lambda res, dy: (jnp.where(res[0] >= 0, dy, 0),))
    found = results(other_side, draw(5))
    assert {r.verdict for r in found} == {"pass", "inconclusive"}
    assert any("stand on a kink or tie" in r.note for r in found)

    beyond = rule_of(
        rules.relu.reference,
        lambda res, dy: (jnp.where(res[0] == 0, 2 * dy, dy * (res[0] > 0).astype(dy.dtype)),),
    )
    assert any(note.startswith("zeros") for note in failures(beyond, draw(5)))


def test_ties_split_otherwise_than_by_the_reference_are_inconclusive():
    def largest(x):
        return jnp.max(x, -1)  # splits ties evenly

    def to_the_first(res, dy):
        (x,) = res
        places = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
        return (jnp.where(places == jnp.argmax(x, -1, keepdims=True), dy[..., None], 0),)

    found = results(rule_of(largest, to_the_first), draw(3, 4))
    assert {r.verdict for r in found} == {"pass", "inconclusive"}, [str(r) for r in found]


def test_a_reference_that_cancels_is_no_truth():
    def variance(x):  # E x^2 - (E x)^2: no digits left at a large offset
        return jnp.mean(x * x * x, -1) - jnp.mean(x, -1) * jnp.mean(x * x, -1)

    def backward(res, dy):
        (x,) = res
        n = x.shape[-1]
        mean = jnp.broadcast_to(jnp.mean(x, -1, keepdims=True), x.shape)
        square = jnp.broadcast_to(jnp.mean(x * x, -1, keepdims=True), x.shape)
        centred = x - mean
        spread = jnp.broadcast_to(jnp.mean(centred * centred, -1, keepdims=True), x.shape)
        del square
        # 3 x^2 - 2 x m - s, with s = spread + m^2, in differences from the mean
        return (dy[..., None] / n * (3 * centred**2 + 4 * centred * mean - spread),)

    assert failures(rule_of(variance, backward), draw(3, 5)) == []


def test_where_the_value_is_nan_the_cotangent_may_go_anywhere():
    x = draw(1, 6, 4, 2)
    assert failures(rules.max_pool, x, static={"window": 2}) == []


def test_a_nan_that_spreads_is_caught():
    def backward(res, dy):
        (x,) = res
        return (dy * 2 * x + 0 * jnp.sum(x),)

    found = failures(rule_of(lambda x: x * x, backward), draw(5))
    assert any(note.startswith("a NaN: cotangent of x is not finite") for note in found)


def test_a_nan_that_spreads_in_float32_by_autodiff_too_is_left_out():
    """In a convolution it meets the zeros of the border in float32, and in float64 it does not."""
    case = {case.name: case for case in rules.conv.cases(jax.random.key(0))}["depthwise"]
    given = {"static": case.static, "dtypes": ("float32",)}
    assert failures(rules.conv, *case.args, **given) == []

    def everywhere(res, dy, **static):
        dx, dw, db = rules.conv.backward(res, dy, **static)
        return dx + 0 * jnp.sum(res[1]), dw, db

    wrong = rule_of(rules.conv.reference, everywhere, rules.conv.forward)
    found = failures(wrong, *case.args, **given)
    assert any(note.startswith("a NaN: cotangent of x is not finite") for note in found)


def test_what_overflows_for_both_is_no_mistake():
    rule = rule_of(lambda x: jnp.exp(x), lambda res, dy: (dy * jnp.exp(res[0]),))
    assert verdicts(rule, draw(5), dtypes=("float32",)) == {"pass"}


# What is skipped, and why


def test_empty_arrays_and_references_of_a_case_are_skipped():
    assert verdicts(rules.relu, jnp.zeros((0, 3))) == {"skip"}
    found = results(rules.tanh, draw(3), reference=jnp.tanh, sizes=True)
    assert [r.verdict for r in found] == ["skip"]
    assert "holds at its arguments alone" in found[0].note


def test_sizes_are_tried_on_the_first_case():
    first, second = rules.tanh.cases()[:2]
    assert stands_for_its_rule(Situation.of_rule(rules.tanh, first))
    assert not stands_for_its_rule(Situation.of_rule(rules.tanh, second))
    assert stands_for_its_rule(Situation.of_rule(rules.tanh, Case("mine", first.args)))
    assert stands_for_its_rule(Situation.of_function(jnp.sin, Case("arguments", first.args), "sin"))
    (*_, last) = edge(Situation.of_rule(rules.tanh, second))
    assert (last.verdict, last.note) == ("skip", "sizes 0 and 1 are tried on the first case")


def test_sizes_that_the_function_refuses_are_counted():
    def square(x):
        if x.shape[0] < 3:
            raise ValueError("too small")
        return x * x

    found = results(rule_of(square, lambda res, dy: (2 * res[0] * dy,)), draw(3), sizes=True)
    assert found[-1].verdict == "skip"
    assert found[-1].note == ("0 variations compared; 2 skipped: sizes that the function refuses")
