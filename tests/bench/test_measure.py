"""Arms in turn: who is called when, what is refused, and how sure a ratio is."""

import math

import numpy as np
import pytest
import scipy.stats

from funcnn.bench.measure import Arm, interval, machine, measure
from funcnn.gradient.cost import timing


class Clock:
    """Time that passes only where an arm says so."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)

    def arm(self, name, seconds, values=(1.0,), **more):
        def call():
            self.calls.append(name)
            self.now += seconds

        return Arm(name, call, lambda: list(values), **more)


def test_times_are_of_one_step_and_ratios_of_the_first_arm(monkeypatch):
    clock = Clock(monkeypatch)
    arms = [clock.arm("ours", 0.010, steps=5), clock.arm("theirs", 0.008, flops=7.0)]
    ours, theirs = measure("work", arms, rounds=4)
    assert (ours.median, ours.ratio, ours.rounds) == (pytest.approx(2.0), 1.0, 4)
    assert theirs.median == pytest.approx(8.0)
    assert theirs.ratio == pytest.approx(4.0)
    assert (theirs.ratio_low, theirs.ratio_high) == (pytest.approx(4.0), pytest.approx(4.0))
    assert (theirs.flops, math.isnan(ours.flops)) == (7.0, True)


def test_every_round_calls_each_arm_in_an_order_of_its_own(monkeypatch):
    clock = Clock(monkeypatch)
    measure("work", [clock.arm(name, 0.01) for name in "abc"], rounds=20)
    calls = "".join(clock.calls[6:])  # behind two calls to warm up each
    assert calls[::2] == calls[1::2]  # once after the pause, and once for the clock
    rounds = [calls[i : i + 6 : 2] for i in range(0, 120, 6)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    # No arm always follows the same one, whose threads may not be at rest yet.
    assert len(set(rounds)) == 6


def test_a_short_call_is_repeated(monkeypatch):
    clock = Clock(monkeypatch)
    (row,) = measure("work", [clock.arm("short", 0.0005)], rounds=2)
    assert len(clock.calls) == 2 + 2 * (1 + 4)
    assert row.median == pytest.approx(0.5)


@pytest.mark.parametrize("values", [[1.0, 2.1], [np.nan, 2.0], [-1.0, 2.0]])
def test_an_arm_that_computes_something_else_is_refused_and_not_timed(values, monkeypatch):
    clock = Clock(monkeypatch)
    arms = [clock.arm("ours", 0.01, (1.0, 2.0)), clock.arm("other", 0.01, values)]
    rows = measure("work", [*arms, clock.arm("near", 0.01, (1.0, 2.0001))], rounds=2)
    assert rows[1].note.startswith("refused: computes ")
    assert math.isnan(rows[1].median)
    assert "other" not in clock.calls
    assert rows[2].note == ""


def test_what_is_absent_stands_in_the_table_with_its_reason(monkeypatch):
    clock = Clock(monkeypatch)
    rows = measure("work", [clock.arm("ours", 0.01)], 1, {"PyTorch": "not installed"})
    assert (rows[1].arm, rows[1].note, rows[1].rounds) == ("PyTorch", "not installed", 0)


@pytest.mark.parametrize("n", [1, 5, 15, 31, 101])
def test_the_interval_covers_the_median_in_95_of_100_cases(n):
    low, high = interval(list(range(n)))
    assert low + high == n - 1  # ranks from both ends
    covered = scipy.stats.binom.cdf(high, n, 0.5) - scipy.stats.binom.cdf(low, n, 0.5)
    assert n < 6 or 0.95 <= covered <= 0.985
    assert interval(list(range(n))[::-1]) == (low, high)


def test_a_result_says_on_what_machine_it_was_measured():
    assert {"device", "processor", "cores", "python", "jax", "jaxlib"} <= set(machine())
