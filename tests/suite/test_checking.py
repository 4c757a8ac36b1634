"""How the checks of a suite use their time."""

import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from funcnn.suite import checking, stopping
from funcnn.suite.recording import Recorder
from funcnn.suite.table import Found


def test_what_was_not_checked_at_all_of_its_numbers_is_not_called_right(monkeypatch):
    recorder = Recorder(lambda name: True)
    recorder.start()
    jax.nn.relu(jnp.arange(3.0))
    jax.nn.relu(1e3 * jnp.arange(3.0))
    recorder.stop()
    called = list(recorder.called.values())
    whole = checking.Checking(checking.Limits()).rows(called, lambda file: False)
    assert [row.verdict for row in whole] == ["right"]
    ticks = iter([0.0, 0.0])  # the beginning, and the first check; then no time is left
    clock = SimpleNamespace(perf_counter=time.perf_counter, monotonic=lambda: next(ticks, 1e9))
    monkeypatch.setattr(checking, "time", clock)
    (row,) = checking.Checking(checking.Limits()).rows(called, lambda file: False)
    assert (row.verdict, row.note) == ("not settled", checking.LATE)
    assert "1 not settled" in Found((row,)).conclusion()


def answered(seconds, of):
    """Asleep, this process uses no processor, as one that waits for others that have them."""
    try:
        return stopping.answer(lambda: [time.sleep(0.01) for _ in range(round(100 * of))], seconds)
    except stopping.NoAnswer as error:
        return str(error)


def test_time_that_other_processes_had_is_not_counted_but_three_times_is_enough():
    assert answered(0.15, of=0.3) == [None] * 30
    start = time.monotonic()
    assert answered(0.02, of=5) == "no answer in 0.02 s, nor in 0.06 s with 0 s of a processor"
    assert time.monotonic() - start < 3


class Deaf:
    """What is raised in it is lost."""

    def __del__(self):
        time.sleep(0.2)


def test_what_is_lost_in_the_collector_is_said_again(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def endless():
        Deaf()
        while True:
            pass

    with pytest.raises(stopping.NoAnswer) as caught:
        stopping.answer(endless, 0.05)
    assert not caught.value.left_behind
    assert not told
