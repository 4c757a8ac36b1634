"""The short hunt of the level release: a line like those of other checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_somewhere import SOMEWHERE

import funcnn as fnn
from funcnn.core.registry import Case
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.check import LEVELS, check
from funcnn.gradient.checks.registered import traits
from funcnn.gradient.hunt import check as module
from funcnn.gradient.hunt.check import hunt

ONE = SOMEWHERE["abs: a slope of 3 at zero"]


@pytest.fixture(autouse=True)
def as_people_run_jax():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def result_of(f, *args, **case):
    (result,) = hunt(Situation.of_function(f, Case("arguments", args, **case), "f"))
    return result


def test_it_runs_at_level_release_alone():
    assert hunt in LEVELS["release"]
    assert hunt not in LEVELS["full"]
    assert not traits(hunt).stops


def test_a_rule_that_is_wrong_elsewhere_fails_with_the_place():
    result = result_of(ONE.f, *ONE.args)
    assert (result.check, result.leaf, result.verdict) == ("hunt", "argument_0", "fail")
    assert "0.0" in result.note.partition(":")[0]
    assert result.note.startswith("at (jnp.array([")
    assert "truth" in result.note


def test_a_right_one_passes_and_says_how_much_was_tried(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 3.0)
    result = result_of(ONE.right, *ONE.args)
    assert (result.verdict, result.leaf) == ("pass", "")
    assert "trials compared, at" in result.note


def test_a_rule_is_hunted_from_the_cases_that_stand_for_it(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 2.0)
    verdicts = {}
    for case in fnn.rules.tanh.cases():
        (result,) = hunt(Situation.of_rule(fnn.rules.tanh, case))
        verdicts[case.name] = result.verdict
    assert verdicts.pop("normal") == verdicts.pop("cube") == "pass"
    assert set(verdicts.values()) == {"skip"}


def test_a_reference_is_the_truth_that_it_is_held_against(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 3.0)
    through = jax.custom_vjp(lambda x: jnp.round(x))
    through.defvjp(lambda x: (jnp.round(x), None), lambda _, dy: (jnp.where(dy > 50, 0, dy),))
    x = np.array([0.3, 1.7], np.float32)
    more = {"reference": lambda x: x, "intent": "surrogate"}
    assert result_of(through, x, **more).verdict == "fail"


def test_where_nothing_is_compared_it_is_not_settled(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 2.0)
    nowhere = jax.custom_vjp(lambda x: x * jnp.nan)
    nowhere.defvjp(lambda x: (x * jnp.nan, None), lambda _, dy: (dy,))
    result = result_of(nowhere, np.ones(2, np.float32))
    assert (result.verdict, result.note) == ("inconclusive", "the value is not defined")
    result = result_of(jnp.sin, np.ones(2, np.float32))
    assert (result.verdict, result.note) == ("skip", "it calls no hand-written rule")


@pytest.mark.battery
def test_the_level_release_rejects_what_the_level_full_passes():
    one = SOMEWHERE["square: beyond 50"]
    assert check(one.f, *one.args, level="full").ok
    report = check(one.f, *one.args, level="release")
    assert {failure.check for failure in report.failures} == {"hunt"}
    assert check(one.right, *one.args, level="release").ok
