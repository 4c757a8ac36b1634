"""A reverse mode made of forward mode, and loops that run on after they have ended."""

import jax
import jax.numpy as jnp
import pytest

from funcnn.gradient.program.forward_mode import by_forward_mode, iterated_further


def settle(tolerance, factor, x):
    """A loop whose condition and whose body each read a number of their own."""
    return jax.lax.while_loop(lambda x: x > tolerance, lambda x: factor * x, x)


def test_a_loop_runs_on_with_the_numbers_of_its_body():
    (eqn,) = jax.make_jaxpr(settle)(0.1, 0.5, 1.0).eqns
    (x,) = iterated_further(eqn)(0.1, 0.5, 1.0)
    assert float(x) == 0.5 ** (4 + 32)


@pytest.mark.parametrize("of", [lambda x: x, lambda x: x.astype(int)], ids=["floats", "an integer"])
def test_the_cotangents_are_those_of_reverse_mode(of):
    def f(w, x):
        return [jnp.sum(w * x, 0), jnp.sin(x), of(x)]

    def loss(f, w, x):
        y, z, other = f(w, x)
        return jnp.sum(y) * jnp.sum(z**2) + jnp.sum(other.astype(x.dtype))

    w, x = jnp.arange(6.0).reshape(3, 2), jnp.array([[0.5, 1.5]] * 3)
    found, expected = (jax.grad(loss, argnums=(1, 2))(g, w, x) for g in (by_forward_mode(f), f))
    assert all(map(jnp.allclose, found, expected))
