"""Rules as they stand in foreign programs: every feature of custom_vjp, every kind of container.

As in test_without_rules.py each rule is grossly wrong; the stripped gradient must be the twin's.
"""

import functools

import jax
import jax.experimental.pallas as pl
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from funcnn.core.registry import Rule
from funcnn.core.removal import Removal
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.without_rules import take_out, without_rules

X = jnp.array([0.5, -1.25, 2.0, 1.0])


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (100 * dy,))


@jax.custom_jvp
def tanh(x):
    return jnp.tanh(x)


@tanh.defjvp
def tanh_jvp(primals, tangents):
    return tanh(primals[0]), 100 * tangents[0]


own = Rule(lambda x: x * x, "own")
# The forward pass has no derivative, so that the reference is seen to run in its place.
own.defvjp(lambda x: (jax.lax.stop_gradient(x * x), x), lambda x, dy: (100 * dy,))


def gradient(f, x=X):
    return jax.grad(lambda x: f(x).sum())(x)


def assert_stripped(f, plain, x=X):
    stripped = without_rules(f)
    np.testing.assert_allclose(stripped(x), plain(x), rtol=1e-5)
    np.testing.assert_allclose(gradient(stripped, x), gradient(plain, x), rtol=1e-4)
    assert not sites(take_out(f, (x,), {}, Removal())[0].jaxpr)
    assert not np.allclose(gradient(f, x), gradient(plain, x), rtol=0.1)  # it is really wrong


# What custom_vjp and custom_jvp can do


def test_nondiff_argnums():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
    def power(g, x, n):
        return g(x) * n

    power.defvjp(lambda g, x, n: (power(g, x, n), x), lambda g, n, x, dy: (100 * dy,))
    assert_stripped(lambda x: power(jnp.cos, x, 3.0), lambda x: 3 * jnp.cos(x))

    @functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
    def scaled(x, n):
        return jnp.sin(x) * n

    scaled.defjvp(lambda n, p, t: (scaled(p[0], n), 100 * t[0]))
    assert_stripped(lambda x: scaled(x, 3.0), lambda x: 3 * jnp.sin(x))


def test_symbolic_zeros():
    @jax.custom_vjp
    def product(x, y):
        return jnp.sin(x) * y

    def forward(x, y):
        assert not y.perturbed
        return product(x.value, y.value), None

    product.defvjp(forward, lambda _, dy: (100 * dy, 0 * dy), symbolic_zeros=True)
    assert_stripped(lambda x: product(x, 2 * jnp.ones(4)), lambda x: 2 * jnp.sin(x))


def test_trees_integers_and_none_as_arguments():
    @jax.custom_vjp
    def f(params, n):
        return jnp.sin(params["w"]) * n.astype(jnp.float32)

    f.defvjp(lambda p, n: (f(p, n), p), lambda p, dy: ({"w": 100 * dy, "b": None}, None))
    assert_stripped(
        lambda x: f({"w": x, "b": None}, jnp.arange(4)),
        lambda x: jnp.sin(x) * jnp.arange(4).astype(x.dtype),
    )


def test_closure_convert_and_constants():
    constant = np.arange(1.0, 5.0, dtype=np.float32)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(g, x, *hoisted):
        return g(x, *hoisted) * constant

    def backward(g, res, dy):
        return (100 * dy, *(0 * h for h in res))

    apply.defvjp(lambda g, x, *h: (apply(g, x, *h), h), backward)

    def f(x, y):
        g, hoisted = jax.closure_convert(lambda z: jnp.sin(z) * y, x)
        return apply(g, x, *hoisted)

    assert_stripped(lambda x: f(x, 2 * x), lambda x: jnp.sin(x) * 2 * x * constant)


def test_custom_gradient():
    rule = jax.custom_gradient(lambda x: (jnp.sin(x), lambda dy: 100 * dy))
    assert_stripped(rule, jnp.sin)


# Rules inside rules


def jvp_in_vjp():
    @jax.custom_vjp
    def outer(x):
        return tanh(jnp.sin(x))

    outer.defvjp(lambda x: (outer(x), None), lambda _, dy: (100 * dy,))
    return outer, lambda x: jnp.tanh(jnp.sin(x))


def vjp_in_jvp():
    @jax.custom_jvp
    def outer(x):
        return sine(jnp.tanh(x))

    outer.defjvp(lambda p, t: (outer(p[0]), 100 * t[0]))
    return outer, lambda x: jnp.sin(jnp.tanh(x))


def own_in_foreign():
    @jax.custom_vjp
    def outer(x):
        return own(jax.jit(sine)(x))

    outer.defvjp(lambda x: (outer(x), None), lambda _, dy: (100 * dy,))
    return outer, lambda x: jnp.sin(x) ** 2


def foreign_in_own():
    outer = Rule(lambda x: sine(own(x)), "outer")
    outer.defvjp(lambda x: (sine(own(x)), None), lambda _, dy: (100 * dy,))
    return outer, lambda x: jnp.sin(x * x)


@pytest.mark.parametrize("make", [jvp_in_vjp, vjp_in_jvp, own_in_foreign, foreign_in_own])
def test_rules_inside_rules(make):
    outer, plain = make()
    assert_stripped(outer, plain)
    scanned = lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 2)[0]  # noqa: E731
    assert_stripped(scanned(outer), scanned(plain))


def test_the_outer_rule_alone_can_be_taken_out_or_kept():
    outer, _ = jvp_in_vjp()
    without_outer = without_rules(outer, only=["outer"])
    np.testing.assert_allclose(gradient(without_outer), 100 * jnp.cos(X), rtol=1e-5)
    without_inner = without_rules(outer, exclude=["outer"])
    np.testing.assert_allclose(gradient(without_inner), 100.0, rtol=1e-5)


# Containers with derivatives of their own


def linear_solve(f):
    return lambda x: jax.lax.custom_linear_solve(
        lambda v: 2 * v, f(x), lambda _, b: b / 2, symmetric=True
    )


def linear_solve_with_rules_inside(f):
    # f(1) is a number here, so that the operator stays linear.
    return lambda x: jax.lax.custom_linear_solve(
        lambda v: v * f(x), jnp.cos(x), lambda _, b: b / f(x), symmetric=True
    )


@pytest.mark.parametrize("container", [linear_solve, linear_solve_with_rules_inside])
def test_custom_linear_solve(container):
    assert_stripped(container(sine), container(jnp.sin))


def test_custom_root():
    def newton(f, x):
        return jax.lax.fori_loop(0, 20, lambda _, x: x - f(x) / (3 * x * x), x)

    def cube_root(tangent_factor):
        def tangent_solve(g, y):
            return tangent_factor * y / g(jnp.ones_like(y))

        return lambda a: jax.lax.custom_root(
            lambda x: x**3 - a, jnp.ones_like(a), newton, tangent_solve
        )

    wrong, x = cube_root(100.0), jnp.array([0.5, 8.0])
    found = jax.make_jaxpr(wrong)(x)
    assert [site.name for site in sites(found)] == ["custom_root"]
    assert_stripped(wrong, jnp.cbrt, x)
    kept = jax.grad(lambda x: without_rules(wrong, exclude=["custom_root"])(x).sum())(x)
    np.testing.assert_allclose(kept, 100 * jax.grad(lambda x: jnp.cbrt(x).sum())(x), rtol=1e-4)


def test_the_batching_rule_of_a_custom_vmap():
    @jax.custom_batching.custom_vmap
    def f(x):
        return tanh(own(x))

    @f.def_vmap
    def _(_size, in_batched, x):
        return tanh(own(x)), in_batched[0]

    plain = lambda x: jnp.tanh(x * x)  # noqa: E731
    assert_stripped(jax.vmap(f), plain)  # vmap inside
    stripped = jax.vmap(without_rules(f))  # vmap outside: JAX traces the batching rule now
    np.testing.assert_allclose(stripped(X), plain(X), rtol=1e-5)
    np.testing.assert_allclose(gradient(stripped), gradient(plain), rtol=1e-5)
    assert not sites(jax.make_jaxpr(stripped)(X))
    assert sites(jax.make_jaxpr(jax.vmap(f))(X))
    # The batching rule heeds the names, too.
    some = jax.vmap(without_rules(f, exclude=["own"]))
    assert [s.name for s in sites(jax.make_jaxpr(some)(X))] == ["own"]


# shard_map


def sharded(f, check_vma):
    mesh = jax.make_mesh((len(jax.devices()[:2]),), ("d",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("d")
    return jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma)


def with_collectives(f):
    return lambda x: f(x) * jax.lax.psum(x.sum(), "d") + jax.lax.all_gather(x, "d").sum()


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(
    ("rule", "plain"),
    [(sine, jnp.sin), (tanh, jnp.tanh), (own, jnp.square)],
    ids=["vjp", "jvp", "own"],
)
def test_shard_map(rule, plain, check_vma):
    assert_stripped(sharded(rule, check_vma), sharded(plain, check_vma))


@pytest.mark.slow
@pytest.mark.parametrize("check_vma", [True, False])
def test_a_rule_around_collectives(check_vma):
    plain = with_collectives(jnp.sin)
    rule = jax.custom_vjp(with_collectives(sine))
    rule.defvjp(lambda x: (plain(x), None), lambda _, dy: (100 * dy,))
    program, kept = take_out(sharded(rule, check_vma), (X,), {}, Removal())
    assert kept == []
    assert not sites(program.jaxpr)
    assert_stripped(sharded(rule, check_vma), sharded(plain, check_vma))


# What is kept


def test_a_kernel_is_opaque_and_its_rule_kept():
    def kernel(x_ref, y_ref):
        y_ref[...] = jnp.sin(x_ref[...])

    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)

    @jax.custom_vjp
    def in_a_kernel(x):
        return pl.pallas_call(kernel, out_shape=shape, interpret=True)(x)

    in_a_kernel.defvjp(lambda x: (in_a_kernel(x), x), lambda x, dy: (7 * dy,))
    f = lambda x: in_a_kernel(x) + sine(x)  # noqa: E731
    _, kept = take_out(f, (X,), {}, Removal())
    assert [site.name for site in kept] == ["in_a_kernel"]
    np.testing.assert_allclose(gradient(without_rules(f)), 7 + jnp.cos(X), rtol=1e-5)


def test_a_rule_without_reverse_mode_inside_shard_map_is_kept():
    @jax.custom_vjp
    def until_large(x):
        return jax.lax.while_loop(lambda c: jax.lax.pmax(c.max(), "d") < 9, lambda c: 2 * c, x)

    until_large.defvjp(lambda x: (until_large(x), None), lambda _, dy: (7 * dy,))
    f = sharded(lambda x: until_large(x) + sine(x), False)
    _, kept = take_out(f, (X,), {}, Removal())
    assert [site.name for site in kept] == ["until_large"]
    np.testing.assert_allclose(gradient(without_rules(f)), 7 + jnp.cos(X), rtol=1e-5)


# JAX's new engine, off by default: other equations for the same rules


ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not hasattr(jax.config, name), reason=f"this version of JAX has no {name}"
        ),
    )
    for name in ("jax_custom_vjp3", "jax_custom_jvp3", "jax_remat3")
]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_new_engine(engine):
    # JAX 0.10 itself cannot differentiate these rules under checkpoint and vmap.
    refused = engine == "jax_custom_vjp3" and jax.__version_info__ < (0, 11)

    def program(f, g):
        def body(c):
            return f(g(f(c)))

        body = body if refused else jax.checkpoint(body)
        return lambda x: jax.vmap(
            lambda x: jax.lax.scan(lambda c, _: (body(c), None), x, None, 2)[0]
        )(x)

    jax.config.update(engine, True)
    try:
        f = jax.custom_vjp(lambda x: jnp.sin(x))
        f.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (100 * dy,))
        g = jax.custom_jvp(lambda x: jnp.tanh(x))
        g.defjvp(lambda p, t: (jnp.tanh(p[0]), 100 * t[0]))
        assert len(sites(jax.make_jaxpr(program(f, g))(X))) == 3
        assert_stripped(program(f, g), program(jnp.sin, jnp.tanh))
    finally:
        jax.config.update(engine, False)
