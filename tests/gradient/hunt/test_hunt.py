"""`hunt` finds rules that are wrong where nobody looks, and makes their examples small."""

import importlib
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_right import RIGHT
from catalogue_somewhere import SOMEWHERE

import funcnn as fnn
from funcnn.gradient.check import check
from funcnn.gradient.hunt.hunt import hunt
from funcnn.gradient.hunt.judging import Trial, score
from funcnn.gradient.hunt.place import Hunted

SAMPLE = (
    "abs: a slope of 3 at zero",
    "max: whole for each of a tie",
    "take: repeated rows not added",
    "square: a cotangent beyond 1e8 is clipped",
    "mean: an odd number",
)
REST = [name for name in SOMEWHERE if name not in SAMPLE]
SMALL = 12  # numbers that the example of each holds, at most


@pytest.fixture(autouse=True)
def as_people_run_jax():
    """The catalogue mixes dtypes and ranks as JAX allows by default."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def assert_found(one):
    report = hunt(one.f, *one.args, budget=60.0)
    assert report.found is not None, str(report)
    assert report.found.elements <= SMALL, report.found.program
    assert not report.ok
    return report


@pytest.mark.parametrize("name", SAMPLE)
def test_some_that_are_wrong_somewhere(name):
    assert_found(SOMEWHERE[name])


@pytest.mark.battery
@pytest.mark.parametrize("name", REST)
def test_the_rest_of_them(name):
    assert_found(SOMEWHERE[name])


@pytest.mark.parametrize("name", SAMPLE)
def test_check_passes_them_at_ordinary_numbers(name):
    one = SOMEWHERE[name]
    report = check(one.f, *one.args)
    assert report.ok, str(report)


@pytest.mark.battery
@pytest.mark.parametrize("name", REST)
def test_check_passes_the_rest_of_them_too(name):
    one = SOMEWHERE[name]
    report = check(one.f, *one.args)
    assert report.ok, str(report)


@pytest.mark.battery
@pytest.mark.parametrize("name", SOMEWHERE)
def test_nothing_is_found_in_the_right_ones(name):
    one = SOMEWHERE[name]
    report = hunt(one.right, *one.args, budget=5.0)
    assert report.ok, str(report)


def test_the_catalogue_is_as_large_as_it_claims():
    assert len(SOMEWHERE) >= 30
    kinds = {one.kind for one in SOMEWHERE.values()}
    assert kinds == {"range", "zero", "tie", "index", "mask", "size", "cotangent"}


def ruled(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda *args: (f(*args), args), backward)
    return made


def cube(x):
    return x**3


right_cube = ruled(cube, lambda args, dy: (3 * args[0] ** 2 * dy,))
wrong_cube = ruled(cube, lambda args, dy: (jnp.where(args[0] > 40, 2, 3) * args[0] ** 2 * dy,))
X = np.array([0.5, -1.0, 2.0], np.float32)


def test_the_same_seed_repeats_it():
    reports = [hunt(wrong_cube, X, budget=30.0, seed=seed) for seed in (3, 3, 4)]
    programs = [report.found and report.found.program for report in reports]
    assert programs[0]
    assert programs[0] == programs[1]
    assert reports[0].trials == reports[1].trials != reports[2].trials


MINE = """
import jax, jax.numpy as jnp
mine = jax.custom_vjp(lambda x: x**3)
mine.defvjp(lambda x: (x**3, x), lambda x, dy: (jnp.where(x > 40, 2, 3) * x**2 * dy,))
mine.__module__ = __name__
"""


def test_the_program_that_it_hands_back_repeats_it(tmp_path, monkeypatch):
    (tmp_path / "mine_of_hunt.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    found = hunt(importlib.import_module("mine_of_hunt").mine, X, budget=30.0).found
    assert found is not None
    assert len(found.program.splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-c", found.program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    by_hand, truth = (float(re.findall(r"[-\d.e+]+", s)[0]) for s in done.stdout.splitlines())
    assert by_hand == pytest.approx(truth * 2 / 3)


def test_a_right_rule_is_ok_and_the_report_says_what_was_tried():
    report = hunt(right_cube, X, budget=4.0)
    assert report.ok
    assert report.compared > 10
    text = str(report)
    assert "NOTHING FOUND cube" in text
    assert "NOT TRIED" in text
    assert f"{report.compared:,} of {report.trials:,} trials compared" in text


def test_nothing_compared_is_not_ok():
    report = hunt(jnp.sin, X, budget=1.0)
    assert not report.ok
    assert "NOTHING COMPARED" in str(report)
    assert "no hand-written rule" in str(report)
    nowhere = ruled(lambda x: x * jnp.nan, lambda args, dy: (dy,))
    report = hunt(nowhere, X, budget=3.0)
    assert not report.ok
    assert "the value is not defined" in str(report)
    with pytest.raises(fnn.GradientError):
        report.raise_if_failed()


def test_where_the_value_is_not_defined_nothing_is_said():
    """sqrt below zero is NaN, whatever the rule says there."""
    root = ruled(
        jnp.sqrt, lambda args, dy: (jnp.where(args[0] < 0, 7.0, dy / (2 * jnp.sqrt(args[0]))),)
    )
    report = hunt(root, np.array([0.5, 2.0], np.float32), budget=4.0)
    assert report.ok, str(report)
    assert report.not_compared["the value is not defined"] > 3


def test_any_slope_between_the_sides_of_a_kink_is_right():
    for slope in (-1.0, 0.0, 0.3, 1.0):
        f = ruled(
            abs, lambda args, dy, s=slope: (dy * jnp.where(args[0] == 0, s, jnp.sign(args[0])),)
        )
        report = hunt(f, X, budget=3.0)
        assert report.ok, str(report)


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf"), "10", True, None])
def test_a_budget_that_is_none(budget):
    with pytest.raises(ValueError, match="hunt: budget is a number of seconds above 0, found"):
        hunt(right_cube, X, budget=budget)


def test_what_it_cannot_take():
    with pytest.raises(TypeError, match="hunt: give a Rule, or a function and its arguments"):
        hunt(cube)
    with pytest.raises(ValueError, match="hunt: seed is a whole number"):
        hunt(cube, X, seed=-1)


def test_a_rule_that_raises_wherever_it_is_called_is_found_and_small():
    def raises(x):
        raise ValueError("not here")

    f = ruled(raises, lambda args, dy: (dy,))
    found = hunt(f, np.array([0.5, -1.0, 2.0], np.float32), reference=jnp.sin).found
    assert found is not None
    assert "not here" in found.note
    assert found.arguments[0].tolist() == [1.0]


def test_integers_alone_are_no_arguments_of_a_gradient():
    double = ruled(lambda i: 2.0 * i, lambda args, dy: (np.zeros((3,), jax.dtypes.float0),))
    report = hunt(double, np.arange(3))
    assert report.why == "no argument is of floating point"


def test_a_loop_on_the_way_back_that_does_not_end_is_found(monkeypatch):
    monkeypatch.setattr("funcnn.gradient.program.compiling.SECONDS", 0.5)

    def backward(args, dy):
        start = dy * jnp.cos(args[0])
        far = jnp.any(abs(args[0]) > 40)
        return (jax.lax.while_loop(lambda s: far & jnp.all(s > -jnp.inf), lambda s: s + 1, start),)

    report = hunt(ruled(jnp.sin, backward), X, budget=60.0)
    assert report.found is not None, str(report)
    note = "a loop had not ended after 0.5 s on the way back; without the rule it ends"
    assert report.found.note == note
    assert np.max(np.abs(report.found.arguments[0])) > 40


def test_sizes_that_take_too_much_memory_are_left_out():
    some = np.linspace(0.1, 1.0, 30, dtype=np.float32)
    few, all_of_them = (hunt(right_cube, some, budget=4.0, megabytes=m) for m in (0.003, 1e-6))
    assert few.ok
    assert few.large > 0  # that of the array given
    assert " beyond the memory allowed" in str(few)
    assert not all_of_them.ok
    assert all_of_them.sizes == 0
    with pytest.raises(ValueError, match="hunt: megabytes is a number above 0, found int 0"):
        hunt(right_cube, X, megabytes=0)


def test_a_value_by_hand_that_is_nan_at_infinity_is_no_matter_of_the_gradient():
    """Zeros of padding times an infinite weight, which XLA's convolution leaves out."""
    rule, _ = RIGHT["conv: one pixel"].make()
    place = Hunted.of_rule(rule, rule.cases()[0]).at({})
    w = np.zeros(place.low.x[1].shape, np.float32)
    w[0] = -np.inf
    trial = Trial((np.zeros_like(place.low.x[0]), w), (np.zeros(place.outputs[0].shape),))
    assert score(place, trial).why == "the value by hand is NaN at an infinite argument"


def test_a_function_without_reverse_mode_has_no_truth_to_hunt_with():
    def through_the_host(x):
        return jax.pure_callback(np.sin, jax.typeof(x), x)

    report = hunt(ruled(through_the_host, lambda args, dy: (dy * jnp.cos(args[0]),)), X, budget=2.0)
    assert not report.ok
    assert "NOT COMPARED through_the_host: " in str(report)
    assert "no truth: " in str(report)
