"""Testing the hand-derived gradients of your own project with pytest.

pytest examples/own_rules
"""

import jax
import jax.numpy as jnp

import funcnn as fnn
from funcnn.testing import assert_gradients, rule_tests


@fnn.rule
def scaled_tanh(x, a):
    """y = a tanh(x); x (..., D), a (D)."""
    return jnp.expand_dims(a, range(x.ndim - 1)) * jnp.tanh(x)


def forward(x, a):
    t = jnp.tanh(x)
    return jnp.expand_dims(a, range(x.ndim - 1)) * t, (t, a)


def backward(res, dy):
    t, a = res
    da = jnp.sum(t * dy, range(dy.ndim - 1))  # (D,)
    return jnp.expand_dims(a, range(dy.ndim - 1)) * (1 - t * t) * dy, da


scaled_tanh.defvjp(forward, backward)


@scaled_tanh.defcases
def cases(key):
    kx, ka = jax.random.split(key)
    a = jax.random.normal(ka, (3,))
    yield fnn.Case("rows", (jax.random.normal(kx, (5, 3)), a))
    yield fnn.Case("two leading axes", (jax.random.normal(kx, (2, 7, 3)), a))
    yield fnn.Case("no rows", (jnp.zeros((0, 3)), a))


# One test for each case, and one that every argument was really compared.
test_rules = rule_tests([scaled_tanh])


# A custom_vjp of any program, on arguments of your own. It clips the gradient on purpose.
@jax.custom_vjp
def clip_gradient(x):
    return x


clip_gradient.defvjp(lambda x: (x, None), lambda _, dy: (jnp.clip(dy, -1, 1),))


def test_clip():
    assert_gradients(clip_gradient, jnp.linspace(-2, 2, 5), intent="surrogate")
