"""The operands at each site: of the step that really runs first, and of what really runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.program.operands import capture, listed
from funcnn.gradient.program.without_rules import trace

XS = np.arange(6, dtype=np.float32).reshape(3, 2)


def visits(f, *args):
    return capture(trace(f, args, {}))


@pytest.mark.parametrize(("reverse", "row"), [(False, [0.0, 1.0]), (True, [4.0, 5.0])])
def test_a_scan_is_looked_at_in_the_step_that_runs_first(reverse, row):
    def f(xs):
        def step(carry, x):
            return carry + 1.0, jax.nn.relu(x + carry)

        return jax.lax.scan(step, jnp.zeros(()), xs, reverse=reverse)[1]

    (visit,) = visits(f, XS)
    assert visit.operands[0][0].tolist() == row
    assert (visit.note, visit.calls) == ("2 of its 3 calls", 3)


def test_a_loop_that_never_starts_is_not_reached():
    def f(n, x):
        return jax.lax.while_loop(
            lambda s: s[0] > 0, lambda s: (s[0] - 1, jax.nn.relu(s[1])), (n, x)
        )

    for n, reached in ((0, False), (2, True)):
        (visit,) = visits(f, np.int32(n) * np.ones((), np.int32), XS[0])
        assert bool(visit.operands) == reached
        assert visit.note.endswith("not reached") != reached


def test_loops_inside_loops_multiply_their_calls():
    def inner(carry, x):
        return carry, jax.nn.relu(x)

    def f(xs):
        return jax.lax.scan(lambda c, row: (c, jax.lax.scan(inner, c, row)[1]), 0.0, xs)[1]

    program = trace(f, (XS,), {})
    assert [visit.calls for visit in capture(program)] == [6]
    assert [visit.calls for visit in listed(program.jaxpr)] == [6]
