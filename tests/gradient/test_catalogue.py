"""`check` notices every wrong rule of the catalogue, names the mistake, and takes no right one."""

import re

import jax
import pytest
from catalogue_operations import OPERATIONS
from catalogue_right import RIGHT
from catalogue_wrong import WRONG

from funcnn.gradient.check import check

FAST = [name for name, wrong in WRONG.items() if wrong.fast]
FULL = [name for name, wrong in WRONG.items() if not wrong.fast]
RARELY = {"attention", "batch_norm", "conv", "cross_entropy"}  # the most expensive to compile


def marked(name):
    marks = [pytest.mark.slow] if WRONG[name].operation in RARELY else []
    return pytest.param(name, marks=marks)


# What is wrong with these shows in another setting alone.
IN_OTHER_SETTINGS = frozenset({"context", "edge", "residuals", "residuals in a loop"})


def report_on(entry, level, **options):
    if getattr(entry, "needs", 1) > jax.device_count():
        pytest.skip(f"needs {entry.needs} devices, found {jax.device_count()}")
    target, args = entry.make()
    return check(target, *args, level=level, **options)


def assert_caught(wrong, report):
    assert not report.ok
    assert {f.check for f in report.failures} & wrong.checks, str(report)
    if wrong.says is not None:
        # A broken contract says in its note what is wrong; any other mistake must be diagnosed.
        broken = "contract" in wrong.checks
        found = [f.note if broken else f.diagnosis for f in report.failures]
        assert any(re.search(wrong.says, text) for text in found), found


@pytest.mark.parametrize("name", [marked(name) for name in FAST])
def test_the_level_fast_notices_and_names_the_mistake(name):
    wrong = WRONG[name]
    assert_caught(wrong, report_on(wrong, "fast"))


@pytest.mark.parametrize("name", FULL)
def test_the_level_full_notices_the_rest(name):
    wrong = WRONG[name]
    strict = wrong.checks <= IN_OTHER_SETTINGS
    assert_caught(wrong, report_on(wrong, "full", strict=strict))


# What the level fast notices is among the checks of full: by hand, so that CI keeps its time.
@pytest.mark.battery
@pytest.mark.parametrize("name", FAST)
def test_the_level_full_notices_all(name):
    wrong = WRONG[name]
    assert_caught(wrong, report_on(wrong, "full"))


# Each of these must be true for the lists above to prove what they are meant to prove.


def test_the_catalogue_is_as_large_as_it_claims():
    named = [w for w in WRONG.values() if w.says is not None and "contract" not in w.checks]
    assert len(WRONG) >= 100
    assert len(FAST) >= 95
    assert len(named) >= 70
    assert len({wrong.operation for wrong in WRONG.values()}) >= 20
    assert len(RIGHT) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operations_are_right_where_no_mistake_is_planted(name):
    report = check(OPERATIONS[name].rule())
    assert report.ok, str(report)


SAMPLE = ("affine: a tree with None", "straight-through: round")


def assert_right(right, report):
    assert report.ok, str(report)
    assert not any(f.diagnosis for f in report.results)


@pytest.mark.parametrize("name", SAMPLE)
def test_no_false_alarm(name):
    assert_right(RIGHT[name], report_on(RIGHT[name], "full", **RIGHT[name].options))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RIGHT if name not in SAMPLE])
def test_no_false_alarm_in_the_rest(name):
    assert_right(RIGHT[name], report_on(RIGHT[name], "full", **RIGHT[name].options))
