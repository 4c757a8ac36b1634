"""What stands between a lecture that is wrong and a class: Verification must notice."""

import numpy as np
import pytest
from verified import LIMIT, Verification


def reported(found, truth, **options):
    verification = Verification("Test")
    verification.equal("F1", "something", found, truth, "NumPy", **options)
    verification.report()


def test_equal_values_are_reported(capsys):
    reported(np.arange(3.0), np.arange(3.0))
    out = capsys.readouterr().out
    assert out.startswith("Test: 1 verified, the largest error is 0.0e+00\n")
    assert "F1   something" in out
    assert "WRONG" not in out


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        ([1.0, 2.0], [1.0, 2.1]),
        ([1.0, 2.0], [-1.0, -2.0]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([np.nan, np.nan], [np.nan, np.nan]),
        ([1.0, np.inf], [1.0, 2.0]),
        ([1e-3, 0.0], [0.0, 0.0]),  # a truth of nothing but zeros is no excuse
    ],
    ids=["value", "sign", "nan", "truth nan", "both nan", "inf", "zeros"],
)
def test_a_wrong_value_stops_the_script(found, truth, capsys):
    with np.errstate(invalid="ignore"), pytest.raises(AssertionError, match="Test: something"):
        reported(found, truth)
    assert "WRONG, the limit is 1e-12" in capsys.readouterr().out


def test_one_wrong_element_among_many_is_noticed():
    truth = np.ones((50, 50))
    found = truth.copy()
    found[31, 17] += 2 * LIMIT
    with pytest.raises(AssertionError):
        reported(found, truth)


def test_the_limit_is_relative_to_the_largest_element():
    reported([1e6 + 1e-7], [1e6])
    with pytest.raises(AssertionError):
        reported([1e6 + 1e-5], [1e6])
    reported([1.0 + 1e-9], [1.0], limit=1e-8)
    with pytest.raises(AssertionError):
        reported([1.0 + 1e-7], [1.0], limit=1e-8)


# (3, 1) minus (3,) would broadcast to (3, 3), and a scalar meets everything.
@pytest.mark.parametrize(("found", "truth"), [((3, 1), (3,)), ((3,), ()), ((2, 3), (3, 2))])
def test_a_wrong_shape_is_refused(found, truth):
    with pytest.raises(ValueError, match=r"F1, something: shape \(.*\), expected \("):
        reported(np.ones(found), np.ones(truth))


def test_comparing_nothing_is_refused():
    with pytest.raises(ValueError, match="F1, something: compared nothing"):
        reported(np.zeros((0, 3)), np.zeros((0, 3)))


def test_a_report_without_anything_verified_is_a_failure():
    with pytest.raises(AssertionError, match="Test: nothing was verified"):
        Verification("Test").report()
    measured = Verification("Test")
    measured.measured("F67", "speed", "2.0 times")
    with pytest.raises(AssertionError, match="nothing was verified"):
        measured.report()


def test_a_false_statement_stops_the_script(capsys):
    verification = Verification("Test")
    verification.holds("F1", "is true", np.array(True))
    verification.holds("F1", "is false", 2 > 3)
    with pytest.raises(AssertionError, match=r"Test: is false$"):
        verification.report()
    assert capsys.readouterr().out.startswith("Test: 2 verified\n")


def test_a_right_line_does_not_cover_a_wrong_one():
    verification = Verification("Test")
    verification.equal("F1", "wrong", [1.0], [2.0], "NumPy")
    verification.equal("F1", "right", [1.0], [1.0], "NumPy")
    with pytest.raises(AssertionError, match=r"Test: wrong$"):
        verification.report()
