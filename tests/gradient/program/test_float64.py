"""A program of any precision, raised, is its float64 twin; what cannot be raised says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.program.float64 import (
    NoTruth,
    evaluate_raised,
    evaluate_shaken,
    perturbed,
    raise_function,
    raised,
)
from funcnn.gradient.program.without_rules import trace

X = jnp.array([0.5, -1.25, 3.0])


def raise_and_run(f, *args):
    """Value and gradient of the raised program, traced in its own precision."""
    program = trace(f, args, {})
    with jax.enable_x64(True):
        run = raise_function(program)
        leaves = [raised(x) for x in program.leaves]
        value, dx = jax.value_and_grad(lambda x: run([x, *leaves[1:]])[0].sum())(leaves[0])
        assert value.dtype == dx.dtype == np.float64
        return np.asarray(value), np.asarray(dx)


def casts(low):
    def f(x):
        y = x.astype(low) * 3
        return (jnp.sin(y) / 7).astype(jnp.float32)

    return f


def twin_of_casts(x):
    return jnp.sin(x * 3) / 7


def scan_with_a_low_carry(low):
    def f(x):
        def body(c, _):
            return (c * 1.5 + low(x)).astype(c.dtype), jnp.tanh(c).astype(jnp.float32)

        c, ys = jax.lax.scan(body, low(x), None, 3)
        return c.astype(jnp.float32) + ys.sum(0)

    return f


def loops_and_branches(low):
    def f(x):
        y = jax.lax.fori_loop(0, 3, lambda _, c: (c * 1.125).astype(c.dtype), low(x))
        y = jax.lax.cond(x[0] > 0, jnp.exp, jnp.cos, y)
        y = jax.lax.switch(1, [jnp.cos, lambda y: y / 3], y)
        return jax.checkpoint(lambda y: jnp.sin(y))(y)

    return f


def constants_and_iota(low):
    third = np.array([1 / 3, 0.1, 0.7], np.float32)

    def f(x):
        # A float32 constant of the program is a number in float64 too, its own.
        return low(x) * low(jnp.asarray(third)) + jnp.arange(3, dtype=low(x).dtype) / 3

    return f


def lowered(x):
    return x.astype(jnp.bfloat16)


def unchanged(x):
    return x


def agree(found, f, args):
    with jax.enable_x64(True):
        args = [raised(x) for x in args]
        value, dx = jax.value_and_grad(lambda x: f(x, *args[1:]).sum())(args[0])
    np.testing.assert_allclose(found[0], value, rtol=1e-12)
    np.testing.assert_allclose(found[1], dx, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("low", ["bfloat16", "float16"])
def test_casts(low):
    agree(raise_and_run(casts(low), X), twin_of_casts, [X])
    # In its own precision it is far away, or the line above would prove nothing.
    assert abs(float(casts(low)(X).sum()) - float(twin_of_casts(X).sum())) > 1e-5


def scan_in_float64(x):
    c, ys = x, 0 * x
    for _ in range(3):
        c, ys = c * 1.5 + x, ys + jnp.tanh(c)
    return c + ys


def constants_in_float64(x):
    third = np.array([1 / 3, 0.1, 0.7], np.float32).astype(np.float64)
    return x * third + jnp.arange(3.0, dtype=x.dtype) / 3


@pytest.mark.parametrize(
    ("make", "twin"),
    [
        (scan_with_a_low_carry, scan_in_float64),
        (loops_and_branches, loops_and_branches(unchanged)),
        (constants_and_iota, constants_in_float64),
    ],
)
def test_scan_carries_loops_branches_and_constants(make, twin):
    agree(raise_and_run(make(lowered), X), twin, [X])


def test_a_number_in_the_program_is_the_one_that_it_computes_with():
    # 1.1 in bfloat16 is 1.1015625, and so it is in the truth of a bfloat16 program.
    value, _ = raise_and_run(lambda x: lowered(x) * 1.1, jnp.ones(()))
    assert value == 1.1015625


def test_reduce_precision_is_the_identity():
    third = X / 3
    found = raise_and_run(lambda x: jax.lax.reduce_precision(x, 5, 3) ** 2, third)
    agree(found, lambda x: x**2, [third])


def test_products_that_name_their_accumulator():
    w = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)

    def f(x, w):
        low = jnp.matmul(lowered(x), lowered(w), preferred_element_type=jnp.float32)
        return low.astype(jnp.bfloat16)

    agree(raise_and_run(f, X, w), lambda x, w: x @ w, [X, w])


def test_random_bits_are_those_of_the_program(key):
    # The mask of a float32 program, not that which float64 would draw.
    def dropped(x, k):
        return jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x, 0)

    x = jnp.ones(64)
    _, dx = raise_and_run(dropped, x, key)
    np.testing.assert_array_equal(dx, dropped(x, key))
    assert 10 < dx.sum() < 54

    def noise(x, k):
        return x * jax.random.uniform(k, x.shape)

    np.testing.assert_array_equal(raise_and_run(noise, x, key)[1], noise(x, key))


def test_bits_of_a_number_are_read_in_its_own_dtype():
    def sign(x):
        return x * (jax.lax.bitcast_convert_type(x, jnp.uint32) >> 31).astype(x.dtype)

    value, _ = raise_and_run(sign, X)
    assert value == -1.25


@jax.custom_vjp
def kept(x):
    return jnp.sin(x)


kept.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (dy,))


def through_the_host(x):
    y = jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    return x * y


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda x: jnp.cos(kept(x)),
            r"^custom_vjp_call: a hand-written rule .* not be taken out\b",
        ),
        (jax.jit(lambda x: 2 * kept(x)), r"^custom_vjp_call: a hand-written rule"),
        (through_the_host, r"^pure_callback: code outside of JAX"),
    ],
)
def test_no_truth_is_one_line_that_names_the_primitive(f, message):
    with pytest.raises(NoTruth, match=message) as caught:
        raise_and_run(f, X)
    assert "\n" not in str(caught.value)


def test_nested_jaxprs_keep_integers_and_bools():
    closed = jax.make_jaxpr(
        lambda x: jax.lax.scan(lambda c, n: (c + 1, x * n.astype(x.dtype)), 0, jnp.arange(3))
    )(X)
    with jax.enable_x64(True):
        count, ys = evaluate_raised(closed, [raised(X)])
        assert count.dtype == np.int32
        assert ys.dtype == np.float64
    np.testing.assert_array_equal(ys, np.outer(np.arange(3), np.asarray(X)))


def test_raised_is_exact_and_leaves_the_rest(key):
    with jax.enable_x64(True):
        third = np.float32(1) / np.float32(3)
        assert float(raised(third)) == float(third)
        assert raised(jnp.int32(3)).dtype == np.int32
        assert raised(key) is key


def test_perturbed_moves_each_float_by_about_one_unit_and_nothing_else(key):
    x, n = np.linspace(1.0, 2.0, 100, dtype=np.float32), np.arange(3)
    moved, same, k = perturbed([x, n, key], 0.25, seed=0)
    ratio = moved / x
    by = np.abs(ratio - 1)
    assert np.all((by > 0.2187) & (by <= 0.25)), by
    assert len(np.unique(by)) == 100  # no two of them cancel
    assert 20 < np.sum(ratio > 1) < 80
    assert same is n
    assert k is key
    np.testing.assert_array_equal(perturbed([x], 0.25, seed=0)[0], moved)
    assert not np.array_equal(perturbed([x], 0.25, seed=1)[0], moved)


def test_an_equation_that_takes_and_gives_nothing_adds_up_nothing():
    def f(x):
        jax.jit(lambda: ())()
        return 2.0 * x

    x = jnp.ones(3)
    closed = jax.make_jaxpr(f)(x)
    assert any(not (e.invars or e.outvars) for e in closed.jaxpr.eqns)
    with jax.enable_x64(True):
        y = np.asarray(*evaluate_shaken(closed, [np.ones(3)], 2.0**-20, 0))
    assert 0 < np.abs(y - 2.0).max() < 1e-5
