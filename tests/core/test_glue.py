"""The backward pass of each operation that may stand between the parts, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.core.glue import Sweep, check_glue

A = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32)
B = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)) + 3.0, jnp.float32)

FUNCTIONS = {
    "sums": lambda a, b: a + b - (-a) + 2.0 - b,
    "a number": lambda a, b: 3.0 * a + b / 2.0 + 1.0 / b,
    "products": lambda a, b: a * b / (a + 2 * b),
    "exp": lambda a, b: jnp.exp(0.5 * a) * b,
    "a scalar": lambda a, b: jnp.sum(a) * b + jnp.mean(b),
    "rows": lambda a, b: a - a.mean(axis=0, keepdims=True) + b.sum(axis=1)[:, None],
    "broadcast": lambda a, b: jnp.broadcast_to(a[:, :1], (4, 2, 3)) * b[None],
    "concatenate": lambda a, b: jnp.concatenate([a, b, a], axis=1)[:, 1:7],
    "slices": lambda a, b: a[:, ::2] * b[:, 1:],
    "one column": lambda a, b: a[:, 0] * b[..., -1],
    "split": lambda a, b: jnp.split(a, 3, axis=1)[1] * jnp.split(b, 3, axis=1)[2],
    "stack": lambda a, b: jnp.stack([a, b, a * b], axis=1),
    "shapes": lambda a, b: a.reshape(-1) * b.T.reshape(6) + jnp.squeeze(a[None]).reshape(6),
    "transpose": lambda a, b: jnp.stack([a, b]).transpose(2, 0, 1) * 2,
    "flip": lambda a, b: jnp.flip(a, 1) * b,
    "where": lambda a, b: jnp.where(a > 0, a * b, 2 * b),
    "dtypes": lambda a, b: (a.astype("float16") * 2).astype("float32") * b,
    "stop": lambda a, b: jax.lax.stop_gradient(a) * b + a * (b > 3.0).astype(a.dtype),
    "a call": lambda a, b: jax.jit(lambda a, b, noise: a * b * noise + a)(a, b, noise()) * b,
    "the same twice": lambda a, b: (a, b, a),
}


def noise():
    return jax.random.normal(jax.random.key(0), A.shape)


def taken_back(f, args, dy):
    moving = [jnp.issubdtype(a.dtype, jnp.inexact) for a in args]
    program = jax.make_jaxpr(f)(*args)
    check_glue("f", program, moving, lambda eqn: "")
    sweep = Sweep(program, args, moving)
    for atom, leaf in zip(program.jaxpr.outvars, jax.tree.leaves(dy), strict=True):
        sweep.give(atom, leaf)
    sweep.back(program.jaxpr.eqns)
    return [sweep.cotangent(v) for v in program.jaxpr.invars]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_way_back_is_that_of_jax(name):
    with jax.numpy_rank_promotion("allow"):
        y, pull = jax.vjp(FUNCTIONS[name], A, B)
        dy = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), y)
        for found, expected in zip(taken_back(FUNCTIONS[name], (A, B), dy), pull(dy), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_integers_have_no_cotangent():
    dx, dn = taken_back(lambda x, n: x * n.astype(x.dtype), (A, jnp.ones((2, 3), int)), B)
    np.testing.assert_array_equal(dx, B)
    assert dn is None


@pytest.mark.parametrize(
    ("f", "operation"),
    [
        (lambda a: jnp.sin(a), "sin"),
        (lambda a: jnp.max(a), "reduce_max"),
        (lambda a: jax.jit(lambda a: 2 * jnp.cos(a))(a), "cos"),
        (lambda a: jax.nn.relu(a), "relu"),
        (lambda a: a @ a.T, "dot_general"),
        (lambda a: jax.lax.scan(lambda c, x: (c + x, c), a[0], a)[0], "scan"),
    ],
)
def test_what_has_no_backward_pass_is_refused_by_name(f, operation):
    with pytest.raises(TypeError, match=f"net: {operation} at here has no hand-derived"):
        check_glue("net", jax.make_jaxpr(f)(A), [True], lambda eqn: "here")
    check_glue("net", jax.make_jaxpr(f)(A), [False], lambda eqn: "here")  # nothing goes through it
