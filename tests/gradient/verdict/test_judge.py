"""Verdicts: a right gradient passes, each planted mistake fails, and silence is inconclusive."""

import numpy as np
import pytest

from funcnn.gradient.verdict.judge import (
    describe_error,
    judge_algebra,
    judge_rounding,
    relative_error,
)

TRUTH = np.random.default_rng(0).normal(size=(5, 3))
ULP = float(np.finfo(np.float32).eps)


def one_entry_off(x):
    x = x.copy()
    x[2, 1] *= 1.05
    return x


MISTAKES = {
    "a factor of 1.001": lambda t: 1.001 * t,
    "one entry 5 % off": one_entry_off,
    "an offset of 1e-4": lambda t: t + 1e-4,
    "another sign": lambda t: -t,
    "clipped": lambda t: np.clip(t, -0.5, 0.5),
    "zeros": np.zeros_like,
    "transposed in part": lambda t: np.concatenate([t[:3].T, t[3:]]),
    "not a number": lambda t: np.where(t == t.max(), np.nan, t),
    "infinite": lambda t: np.where(t == t.max(), np.inf, t),
}


# Algebra, in float64


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_algebra_rejects_every_mistake_at_every_scale(mistake, size):
    wrong = MISTAKES[mistake](TRUTH)
    if mistake == "an offset of 1e-4" and size != 1.0:
        wrong = TRUTH * (1 + 1e-4)
    assert judge_algebra(size * wrong, size * TRUTH, [])[0] == "fail"


def test_algebra_accepts_rounding():
    for scale in (1.0, 1e-30, 1e30):
        close = scale * TRUTH * (1 + 4e-16)
        assert judge_algebra(close, scale * TRUTH, [])[0] == "pass"


def test_one_small_element_cannot_hide_behind_a_large_one():
    truth = np.array([1e6, 1e-3])
    assert judge_algebra(truth, truth, [])[0] == "pass"
    # 1e-3 of the small element is 1e-12 of the norm; the rms alone would let it through.
    many = np.concatenate([np.full(3, 1.0), [1e-2]])
    wrong = many.copy()
    wrong[3] *= 1.000001
    assert relative_error(wrong, many) < 1e-7
    assert judge_algebra(wrong, many, [])[0] == "fail"


def test_the_tolerance_does_not_grow_with_the_size():
    truth = np.ones(100_000)
    wrong = truth.copy()
    wrong[7] += 1e-8
    assert relative_error(wrong, truth) < 1e-10
    assert judge_algebra(wrong, truth, [])[0] == "fail"


def test_algebra_without_a_truth_that_proves_something():
    zero = np.zeros(3)
    assert judge_algebra(zero, zero, []) == (
        "inconclusive",
        "the true gradient is zero everywhere",
    )
    verdict, why = judge_algebra(np.array([0.0, 1e-300, 0.0]), zero, [])
    assert (verdict, why) == ("fail", "1 elements differ from zero, and truth is zero")
    assert judge_algebra(np.zeros((0, 3)), np.zeros((0, 3)), []) == ("inconclusive", "no elements")
    infinite = np.array([np.inf, 1.0])
    assert judge_algebra(infinite, infinite, [])[0] == "inconclusive"
    assert judge_algebra(np.array([1.0, 1.0]), infinite, [])[0] == "fail"
    assert judge_algebra(np.array([1.0, np.nan]), np.array([1.0, 1.0]), [])[0] == "fail"


def test_algebra_where_the_truth_itself_is_uncertain():
    verdict, why = judge_algebra(TRUTH, TRUTH, [TRUTH * (1 + 1e-5)])
    assert verdict == "inconclusive"
    assert why.startswith("the truth itself is uncertain by 1.0e-05")
    # Below that the noise widens what is allowed, and no more.
    moved = [TRUTH * (1 + 1e-10)]
    assert judge_algebra(TRUTH * (1 + 5e-8), TRUTH, moved)[0] == "pass"
    assert judge_algebra(TRUTH * (1 + 5e-6), TRUTH, moved)[0] == "fail"
    # At a jump of the truth the other side is noise to a gradient that stands there alone.
    truth, other = np.array([1.0, 1.0]), np.array([1.0, 2.0])
    assert judge_algebra(truth, truth, [other])[0] == "pass"
    assert judge_algebra(other, truth, [other])[0] == "inconclusive"


def test_what_cancels_to_noise_beside_a_large_gradient_proves_nothing():
    noise = 1e-17 * TRUTH
    assert judge_algebra(-noise, noise, [], size=1.0)[0] == "inconclusive"
    assert judge_algebra(-noise, noise, [])[0] == "fail"
    assert judge_algebra(TRUTH, noise, [], size=1.0)[0] == "fail"


# Rounding, in the precision of the gradient


def rounding(manual, automatic, truth=TRUTH, moved=None):
    low = np.float32(manual), np.float32(automatic)
    return judge_rounding("w", low[0], low[1], truth, [truth] if moved is None else moved)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_rounding_rejects_every_mistake(mistake):
    row = rounding(MISTAKES[mistake](TRUTH), TRUTH)
    assert row.verdict == "WRONG"
    assert "worst at [" in row.note
    assert (row.leaf, row.shape, row.dtype) == ("w", (5, 3), "float32")


def test_rounding_verdicts():
    off = lambda ulps: TRUTH * (1 + ulps * ULP)  # noqa: E731
    exact = np.float32(TRUTH).astype(np.float64)
    assert rounding(exact, exact).verdict == "TIE"
    assert rounding(TRUTH, off(100)).verdict == "MANUAL"
    row = rounding(off(100), off(30), moved=[off(60)])
    assert row.verdict == "AUTO"
    assert row.manual == pytest.approx(100, rel=0.02)
    assert row.automatic == pytest.approx(30, rel=0.05)
    assert row.floor == pytest.approx(60, rel=1e-3)
    # The floor is that of the draw which moves the truth most.
    assert rounding(off(100), off(30), moved=[off(1), off(60)]).verdict == "AUTO"
    assert rounding(off(100), off(30)).verdict == "WRONG"
    assert rounding(off(100), off(90)).verdict == "TIE"
    # No lead is claimed below the noise floor.
    assert rounding(TRUTH, off(100), moved=[off(200)]).verdict == "TIE"


def test_a_poor_autodiff_is_no_excuse():
    nan = np.full_like(TRUTH, np.nan)
    assert rounding(TRUTH, nan).verdict == "MANUAL"
    assert rounding(1.001 * TRUTH, nan).verdict == "WRONG"
    assert rounding(nan, nan).verdict == "WRONG"


def test_rounding_without_a_truth_that_proves_something():
    zero = np.zeros((5, 3))
    assert rounding(zero, zero, zero).verdict == "INCONCLUSIVE"
    assert rounding(1e-7 + zero, 1e-7 + zero, zero).verdict == "INCONCLUSIVE"
    assert rounding(1e-7 + zero, zero, zero).verdict == "WRONG"
    assert rounding(TRUTH, TRUTH, np.full_like(TRUTH, np.nan)).verdict == "INCONCLUSIVE"


# Words


def test_an_error_is_described_by_its_factor_and_its_worst_element():
    note = describe_error(-3 * TRUTH, TRUTH, TRUTH)
    assert note.startswith("manual = -3 x truth; worst at [")
    worst = np.unravel_index(np.argmax(np.abs(TRUTH)), TRUTH.shape)
    assert f"[{worst[0]}, {worst[1]}]" in note
    assert f"automatic {TRUTH[worst]:.6g}, truth {TRUTH[worst]:.6g}" in note


def test_no_factor_is_claimed_where_there_is_none():
    note = describe_error(one_entry_off(TRUTH), None, TRUTH)
    assert note.startswith("worst at [2, 1]: manual ")
    assert "automatic" not in note
    assert "worst at [1]: manual nan" in describe_error(
        np.array([1.0, np.nan]), None, np.array([1.0, 1.0])
    )


def test_relative_error():
    assert relative_error(np.array([3.0, 5.0]), np.array([3.0, 4.0])) == pytest.approx(0.2)
    assert relative_error(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_error(np.ones(2), np.zeros(2)) == np.inf
    assert relative_error(np.array([np.nan, 1.0]), np.ones(2)) == np.inf


def test_a_program_that_is_off_in_its_precision_is_no_wrong_rule():
    """Random bits are others in float64: both gradients are one, and the truth another."""
    both = np.float32(-0.3) * TRUTH.astype(np.float32)
    assert rounding(both, both).verdict == "TIE"
    assert rounding(1.001 * both, both).verdict == "WRONG"
    other = both.copy()
    other.flat[-1] *= 7
    assert rounding(other, both).verdict == "WRONG"
