"""Paired times: both arms run in turn, the first run of each does not count."""

import dataclasses
import itertools

import pytest

from funcnn.gradient.cost import timing
from funcnn.gradient.cost.timing import Timing, time_in_turn


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when an arm runs."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def arm(clock, name, seconds, log):
    costs = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    def run(x):
        log.append(name)
        clock[0] += next(costs)
        return x

    return run


def test_the_medians_leave_out_the_warm_up(clock):
    log = []
    manual = arm(clock, "manual", [100.0, 1.0, 2.0, 1.0], log)
    automatic = arm(clock, "automatic", [100.0, 4.0, 4.0, 8.0], log)
    found = Timing.of(**time_in_turn({"manual": manual, "automatic": automatic}, "x", rounds=3))
    assert log == ["manual", "automatic"] * 4
    assert dataclasses.astuple(found) == (1.0, 4.0, 4.0, 2.0, 8.0, 3)


def test_three_arms_take_turns(clock):
    log = []
    costs = {"a": [9.0, 1.0, 2.0], "b": [9.0, 3.0], "c": [9.0, 5.0]}
    arms = {name: arm(clock, name, seconds, log) for name, seconds in costs.items()}
    assert time_in_turn(arms, "x", rounds=2) == {"a": [1.0, 2.0], "b": [3.0, 3.0], "c": [5.0, 5.0]}
    assert log == ["a", "b", "c"] * 3


def test_it_waits_for_the_result(clock, monkeypatch):
    waited = []
    monkeypatch.setattr(timing.jax, "block_until_ready", lambda y: waited.append(y) or y)
    log = []
    arms = {name: arm(clock, name, [1.0], log) for name in "ab"}
    time_in_turn(arms, "y", rounds=2)
    assert waited == ["y"] * 6  # two calls to warm up, and two rounds


def test_the_text_names_arms_ratio_spread_and_device():
    text = str(Timing(0.002, 0.004, 2.0, 1.5, 2.5, 7))
    assert text.startswith(
        "gradient: manual 2 ms, automatic 4 ms, automatic / manual 2.00 (1.50 to"
    )
    assert "to 2.50, 7 pairs, cpu" in text
