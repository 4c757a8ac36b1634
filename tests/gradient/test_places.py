"""A wrong rule is found in every place of the catalogue, and its right twin passes there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_places import PLACES, SHARDED, X, hyperbolic, on_the_host
from catalogue_wrong import custom

from funcnn.gradient.check import check

FIRST = (
    *("over_a_while_loop", "over_a_pure_callback", "holomorphic_in_the_convention_of_pytorch"),
    "psum_inside_shard_map",
)
RIGHT_AND_WRONG = [pytest.param(right, id="right" if right else "wrong") for right in (True, False)]


def judge(name, right):
    if name in SHARDED and jax.device_count() < 2:
        pytest.skip("needs 2 devices, found 1")
    f, args = PLACES[name](right)
    report = check(f, *args)
    if right:
        assert report.ok, str(report)
    else:
        assert "truth" in {r.check for r in report.failures}, str(report)
    return report


@pytest.mark.parametrize("right", RIGHT_AND_WRONG)
@pytest.mark.parametrize("name", FIRST)
def test_a_rule_is_judged_in_each_of_four_places(name, right):
    judge(name, right)


@pytest.mark.slow
@pytest.mark.parametrize("right", RIGHT_AND_WRONG)
@pytest.mark.parametrize("name", [name for name in PLACES if name not in FIRST])
def test_a_rule_is_judged_in_the_other_places(name, right):
    judge(name, right)


def test_the_places_are_many():
    assert len(PLACES) >= 25
    assert set(FIRST) <= set(PLACES)
    assert len(SHARDED) >= 16


def test_these_tests_would_notice_a_rule_that_is_its_own_truth(monkeypatch):
    """What has no reverse mode is the place where a tool may take the rule itself for the truth."""
    monkeypatch.setattr("funcnn.gradient.case.bound_case.differentiable", lambda f, **_: f)
    monkeypatch.setattr("funcnn.gradient.case.bound_case.inlined", lambda f: f)
    f, args = PLACES["over_a_while_loop"](False)
    assert "truth" not in {r.check for r in check(f, *args).failures}


# Where there is no truth, that is said; and a large mistake is found all the same


@pytest.mark.parametrize("right", RIGHT_AND_WRONG)
def test_a_callback_that_computes_in_float32(right):
    """float64 cannot reach it: differences in float32 exclude no small mistake."""
    report = check(hyperbolic(right, on_the_host(np.tanh, np.float32)), X)
    assert not report.ok
    (truth,) = (r for r in report.results if r.check == "truth")
    assert truth.verdict == ("inconclusive" if right else "fail"), str(report)
    says = "differences in float32 say nothing against it" if right else "differences in float32 ("
    assert says in truth.note


@pytest.mark.parametrize("intent", ["derivative", "surrogate"])
def test_a_surrogate_that_computes_in_float32_is_not_held_against_a_derivative(intent):
    narrow = custom(
        lambda x: jnp.sin(x.astype(jnp.float32)),
        lambda x: (jnp.sin(x.astype(jnp.float32)), x),
        lambda x, dy: ((-dy * jnp.cos(x)).astype(x.dtype),),
    )
    for rule in (hyperbolic(False, on_the_host(np.tanh, np.float32)), narrow):
        assert bool(check(rule, X, intent=intent).failures) is (intent == "derivative")
        # Unless it says what it follows instead.
        assert check(rule, X, intent=intent, reference=jnp.exp).failures


def test_a_function_that_computes_in_float32_is_held_against_what_it_follows():
    rounded = custom(
        lambda x: jnp.round(x.astype(jnp.float32)),
        lambda x: (jnp.round(x.astype(jnp.float32)), None),
        lambda _, dy: (dy,),
    )
    assert check(rounded, X, intent="surrogate", reference=lambda x: 1 * x).ok
    assert check(rounded, X, intent="surrogate", reference=lambda x: 2 * x).failures


@pytest.mark.parametrize("right", RIGHT_AND_WRONG)
def test_a_kink_in_a_callback_is_no_contradiction(right):
    """At 0 differences say 0, and any slope from -1 to 1 is right; beside it they are sure."""
    size = on_the_host(np.abs, np.float32)

    def backward(x, dy):
        return (dy * jnp.where(x >= 0, 1.0, -1.0 if right else 1.0).astype(dy.dtype),)

    rule = custom(size, lambda x: (size(x), x), backward)
    x = np.array([0.0, 2.0], np.float32) if right else np.array([-2.0, 3.0], np.float32)
    assert bool(check(rule, x).failures) is not right
