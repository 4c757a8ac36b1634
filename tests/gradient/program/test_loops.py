"""Loops that are stopped: nothing of a call is left for the next, and the numbers are the same."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.program.loops import Ending, EndlessLoop

SHORT = 0.2  # seconds


def count(step):
    """To 300 in steps, which is long enough for a look at the clock; for ever in steps of 0."""
    return jax.lax.while_loop(lambda x: x < 300.0, lambda x: x + step, 0.0)


def ended(run, *args):
    """What a function returns, "stopped" where it was."""
    try:
        return np.asarray(run(*args)).tolist()
    except EndlessLoop:
        return "stopped"


def test_each_call_has_its_own_time():
    run = Ending(count, SHORT, {})
    assert ended(run, 1.0) == 300
    time.sleep(1.5 * SHORT)
    assert ended(run, 1.0) == 300


def test_a_function_that_was_stopped_runs_again():
    run = Ending(count, SHORT, {})
    with pytest.raises(EndlessLoop, match=r"had not ended after 0\.2 s"):
        run(0.0)
    assert ended(run, 1.0) == 300


def test_under_vmap_each_row_ends_by_itself():
    def double(x):
        return jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, x)

    run = Ending(jax.vmap(double), SHORT, {})
    assert ended(run, jnp.array([1.0, 3.0, 8.0, 9.0])) == [16.0, 12.0, 16.0, 9.0]


def test_a_loop_is_traced_again_in_another_default_precision():
    def thirds(n):
        start = jnp.int32(0), jnp.ones(())
        return jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] / 3), start)[1]

    run = Ending(thirds, SHORT, {})
    assert run(np.int32(2)).dtype == np.float32
    with jax.enable_x64(True):
        y = run(np.int32(2))
        assert y.dtype == np.float64
        assert abs(float(y) - 1 / 9) < 1e-15
