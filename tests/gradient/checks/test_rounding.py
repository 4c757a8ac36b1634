"""Rounding: what float64 cannot see, for the leaf and for its elements, compiled and eager."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.rounding import rounding

RANDOM = np.random.default_rng(0)


def draw(*shape, scale=1.0, dtype=jnp.float32):
    return jnp.asarray(scale * RANDOM.normal(size=shape), dtype)


def rule_of(reference, backward):
    rule = Rule(reference, "planted")
    rule.defvjp(lambda *args: (reference(*args), args), backward)
    return rule


def results(rule, *args, eager=False, **keywords):
    case = Case("one", args, **{"dtypes": ("float32",), **keywords})
    if not eager:  # only the first case of a rule runs so
        rule = rule.replace()
        rule.defcases(lambda key: iter([Case("first", args), case]))
    return list(rounding(Situation.of_rule(rule, case)))


def verdicts(*args, **keywords):
    return [(r.dtype, r.leaf, r.verdict) for r in results(*args, **keywords)]


def square(x):
    return x * x


def noisy_square(size):
    """Right in float64; in float32 the offset eats digits."""

    def backward(res, dy):
        (x,) = res
        offset = jnp.asarray(size, x.dtype)
        return (dy * (jax.lax.optimization_barrier(2 * x + offset) - offset),)

    return rule_of(square, backward)


def test_a_right_rule_passes_in_every_dtype():
    found = verdicts(rules.linear, draw(4, 3), draw(3, 2), draw(2), dtypes=("float32", "bfloat16"))
    assert found == [(d, n, "pass") for d in ("float32", "bfloat16") for n in "xwb"]


def test_digits_lost_everywhere_fail_by_the_norm():
    (result,) = results(noisy_square(1e3), draw(7))
    assert result.verdict == "fail"
    assert "worst at" in result.note


def test_digits_lost_in_a_few_elements_fail_by_the_elements():
    # The large elements hide in the norm that the small ones have no digits.
    x = jnp.asarray([1e6, -1e6, 0.5, 0.25, -0.125, 1e-3], jnp.float32)
    (result,) = results(noisy_square(1e3), x)
    assert result.verdict == "fail"
    assert "elements off by more than" in result.note
    assert verdicts(rule_of(square, lambda res, dy: (2 * dy * res[0],)), x)[0][2] == "pass"


def test_elements_that_cancel_are_held_to_their_own_noise():
    # The gradient of w sums large numbers to a small one: no order of the sum has its digits.
    x = np.asarray(RANDOM.normal(size=(64, 3)), np.float32) * 1e3
    w = draw(1, 3)

    def sums(x, w):
        return x * jnp.broadcast_to(w, x.shape)

    def backward(res, dy):
        x, w = res
        halves = jnp.sum((dy * x)[::2], 0) + jnp.sum((dy * x)[1::2], 0)
        return dy * jnp.broadcast_to(w, x.shape), halves[None]

    assert {v for *_, v in verdicts(rule_of(sums, backward), jnp.asarray(x), w)} == {"pass"}


def test_eager_and_compiled_are_both_judged():
    found = verdicts(rules.tanh, draw(5), dtypes=("float32", "bfloat16"), eager=True)
    assert found == [
        ("float32", "x", "pass"),
        ("float32 eager", "x", "pass"),
        ("bfloat16", "x", "pass"),
    ]


def test_what_is_wrong_when_it_runs_eagerly_alone_is_caught():
    def backward(res, dy):
        (x,) = res
        # A concrete array is there only where nothing is compiled.
        return (dy * 2 * x * (1.0 if isinstance(dy, Tracer) else 1.01),)

    found = verdicts(rule_of(square, backward), draw(5), eager=True)
    assert found == [("float32", "x", "pass"), ("float32 eager", "x", "fail")]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_arguments_of_several_dtypes_are_judged_as_they_are(factor, verdict):
    def scale(x, w):
        return x * w.astype(x.dtype)

    def backward(res, dy):
        x, w = res
        # Where the dtypes are the same, as in float64, nothing is wrong.
        wrong = factor if x.dtype != w.dtype else 1.0
        return dy * w.astype(x.dtype), (dy * x * wrong).astype(w.dtype)

    args = draw(5), draw(5, dtype=jnp.bfloat16)
    found = verdicts(rule_of(scale, backward), *args, dtypes=("float32",))
    assert found == [
        ("float32", "x", "pass"),
        ("float32", "w", "pass"),
        ("mixed", "x", "pass"),
        ("mixed", "w", verdict),
    ]


def test_nothing_to_compare_is_inconclusive():
    assert verdicts(rules.relu, -jnp.ones(3)) == [("float32", "x", "inconclusive")]
    assert verdicts(rules.relu, jnp.zeros((0, 2))) == [("float32", "x", "inconclusive")]
    assert verdicts(rules.relu, draw(3), dtypes=()) == []


def test_a_rule_better_than_autodiff_passes_and_says_so():
    (result,) = results(rules.tanh, jnp.array([4.0, 5.0, 6.0]))
    assert result.verdict == "pass"
    assert result.note.endswith("MANUAL")
