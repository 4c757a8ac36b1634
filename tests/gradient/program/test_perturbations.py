"""Taps leave a program as it is, also in the direction of its loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.program.perturbations import reach, tapped
from funcnn.gradient.program.rewriting import sites


@pytest.mark.parametrize("reverse", [False, True])
def test_taps_of_zero_change_nothing_in_either_direction(reverse):
    def f(xs):
        def step(carry, x):
            return carry + x, jax.nn.relu(carry * x)

        return jax.lax.scan(step, 1.0, xs, reverse=reverse)

    xs = np.array([1.0, -2.0, 3.0], np.float32)
    program = jax.make_jaxpr(f)(xs)
    taps = reach(program, sites(program))
    outs, seen = tapped(program, taps)([xs], {0: taps[0].zeros})
    assert all(map(jnp.array_equal, outs, f(xs)))
    before = [2.0, 4.0, 1.0] if reverse else [1.0, 2.0, 0.0]  # the carry at each step
    np.testing.assert_array_equal(seen[0][0], before * xs)
