"""A report is only ok when every leaf was compared and nothing failed."""

import pytest

from funcnn.gradient.verdict.reports import CheckReports
from funcnn.gradient.verdict.results import CheckReport, GradientError, Result


def result(verdict, leaf="x", check="truth", note=""):
    return Result("tanh", check, "normal", leaf, verdict, note)


def report(*results, leaves=("x",), rules=1):
    return CheckReport("tanh", results, leaves, rules)


def test_ok_needs_a_truth_for_every_leaf():
    assert report(result("pass")).ok
    assert not report().ok
    assert not report(leaves=()).ok
    assert not report(result("pass", check="contract"), leaves=()).ok
    # A surrogate without a function to follow has a value, and no truth.
    assert report(result("pass", check="primal"), leaves=()).ok
    # JAX's own derivative was held against the truth.
    assert report(result("pass"), rules=0).ok
    assert CheckReport("sin", (result("pass"),), ("x",), 0, run=0).ok
    assert not CheckReport("sin", (result("pass"),), ("x",), 1, run=0).ok
    assert not report(result("pass"), leaves=("x", "w")).ok
    assert not report(result("inconclusive")).ok
    assert not report(result("skip")).ok
    # Another check than that against the truth covers nothing.
    assert not report(result("pass", check="zero"), result("pass", check="dot", leaf="")).ok


def test_one_failure_anywhere_is_enough():
    for check in ("truth", "zero", "contract"):
        failing = report(result("pass"), result("fail", check=check))
        assert not failing.ok
        assert [r.check for r in failing.failures] == [check]


def test_one_conclusive_case_covers_a_leaf():
    assert report(result("inconclusive"), result("pass")).ok


def test_the_text_counts_everything_and_shows_failures_first():
    results = [result("pass")] * 2 + [
        result("fail", note="manual = 2 x truth"),
        result("inconclusive", leaf="w", note="zero"),
        result("skip", check="dot", leaf=""),
    ]
    assert str(report(*results, leaves=("x", "w"))).splitlines() == [
        "FAIL tanh truth: leaf x case normal: manual = 2 x truth",
        "NOT COMPARED tanh: leaf w: zero",
        "1 inconclusive, 1 skipped: report.skipped() lists them, with the reasons",
        (
            "FAILED tanh: 2 comparisons passed, 1 failed, 1 inconclusive, 1 skipped; "
            "1 hand-written rule; not done: dot"
        ),
    ]


def test_a_report_about_nothing_says_so():
    text = str(report(leaves=(), rules=0))
    assert "NOT COMPARED tanh: no case with a floating-point argument" in text
    assert text.splitlines()[-1].startswith("INCONCLUSIVE tanh: 0 comparisons passed")


def test_skipped_lists_the_reasons():
    found = report(result("pass"), result("skip", note="a"), result("inconclusive", note="b"))
    assert [r.note for r in found.skipped()] == ["a", "b"]
    # The text says how to see them, where there are any; the command has options for that.
    assert "report.skipped()" in str(found)
    assert "skipped()" not in found.text()
    assert "1 inconclusive, 1 skipped: --json lists them" in found.text("--json")
    assert str(report(result("pass"))).count("\n") == 0


def test_what_was_not_done_is_named_with_its_reason():
    skipped = [result("skip", check=check, note="no Rule") for check in ("mutation", "cost")]
    other = result("inconclusive", check="dot", leaf="", note=60 * "long ")
    last = str(report(result("pass"), *skipped, other)).splitlines()[-1]
    assert "; not done: mutation, cost (no Rule), dot (long long" in last
    assert last.endswith("long ...)")
    assert len(last) < 300


def test_a_reason_ends_where_one_of_its_sentences_does():
    reason = "raises without the rule, too: callbacks have no JVP. " + 20 * "Another word "
    assert str(report(result("pass"), result("skip", check="dot", note=reason))).endswith(
        "not done: dot (raises without the rule, too: callbacks have no JVP. ...)"
    )


def test_raise_if_failed():
    report(result("pass")).raise_if_failed()
    failing = report(result("fail", note="sign"))
    with pytest.raises(GradientError, match="FAIL tanh truth: leaf x case normal: sign"):
        failing.raise_if_failed()
    assert issubclass(GradientError, AssertionError)


def test_a_note_is_no_failure_and_is_counted():
    noted = report(result("pass"), result("note", check="context", leaf="", note="x64"))
    assert noted.ok
    assert str(noted).splitlines() == [
        "NOTE tanh context: case normal: x64",
        (
            "OK tanh: 1 comparison passed, 0 failed, 0 inconclusive, 0 skipped, 1 note; "
            "1 hand-written rule"
        ),
    ]


def test_one_is_singular():
    one = CheckReports((report(result("pass")),))
    assert "1 of 1 is right; 1 comparison passed" in one.conclusion()
    two = CheckReports((report(result("pass"), result("pass")),))
    assert "2 comparisons passed" in two.conclusion()


def zero(**options):
    both_zero = Result("tanh", "truth", "normal", "w", "pass", "zero", zero=True)
    return CheckReport("tanh", (result("pass"), both_zero), ("x", "w"), 1, **options)


def test_a_zero_is_right_and_shows_nothing_of_a_rule():
    assert zero().ok
    # A rule's own cases must show each argument a gradient that is not zero.
    assert zero(own=True).uncovered == ("w",)
    alone = CheckReport("tanh", zero().results[1:], ("w",), 1)
    assert not alone.ok
    assert "every true gradient is zero" in str(alone)


def test_a_rule_that_was_never_run_is_not_ok():
    others = (("tanh", "these arguments never run it"),)
    unreached = CheckReport("f", (result("pass"),), ("x",), 1, rules_not_compared=others, run=0)
    assert not unreached.ok
    # Where others run the gradient is right here, and the report says which does not.
    assert CheckReport("f", (result("pass"),), ("x",), 2, rules_not_compared=others).ok
    assert "NOT COMPARED f: rule tanh: these arguments never run it" in str(unreached)
