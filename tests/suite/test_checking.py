"""How the checks of a suite use their time."""

import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from funcnn.suite import checking
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
