"""Without its rules a program computes the same, and its gradient is that of its plain twin.

Every planted rule has a backward pass that is grossly wrong, so that a rule left in force shows.
"""

import equinox
import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.core.registry import Rule
from funcnn.core.removal import Removal
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.without_rules import differentiable, take_out, trace, without_rules

X = jnp.array([0.5, -1.25, 2.0])


def square(x):
    return x * x


# The forward pass has no derivative, so that the reference is seen to run in its place.
own = Rule(square, "own")
own.defvjp(lambda x: (jax.lax.stop_gradient(x * x), x), lambda x, dy: (100 * dy,))


@jax.custom_vjp
def foreign(x):
    return jnp.sin(x)


foreign.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (100 * dy,))


@jax.custom_jvp
def forward_rule(x):
    return jnp.tanh(x)


@forward_rule.defjvp
def forward_rule_jvp(primals, tangents):
    return forward_rule(primals[0]), 100 * tangents[0]


@jax.custom_vjp
def nested(x):
    return foreign(own(x)) * forward_rule(x)


nested.defvjp(lambda x: (nested(x), x), lambda x, dy: (100 * dy,))

RULES = {"own": own, "foreign": foreign, "forward_rule": forward_rule, "nested": nested}
PLAIN = {"own": square, "foreign": jnp.sin, "forward_rule": jnp.tanh}
PLAIN["nested"] = lambda x: jnp.sin(x * x) * jnp.tanh(x)

# Each makes of an elementwise f a program with f inside one of JAX's transforms.
PROGRAMS = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "nested jit": lambda f: jax.jit(lambda x: 2 * jax.jit(f)(x)),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), f(c)), x, None, 2)[1].sum(0),
    "fori_loop": lambda f: lambda x: jax.lax.fori_loop(0, 2, lambda _, c: f(c), x),
    "cond": lambda f: lambda x: jax.lax.cond(x[0] > 0, f, lambda x: -f(x), x),
    "switch": lambda f: lambda x: jax.lax.switch(1, [jnp.cos, f, jnp.exp], x),
    "remat": lambda f: jax.checkpoint(lambda x: f(f(x))),
    "vmap": lambda f: jax.vmap(f),
    "map": lambda f: lambda x: jax.lax.map(f, x),
    "scan of remat of cond": lambda f: (
        lambda x: jax.lax.scan(
            lambda c, _: (jax.checkpoint(lambda c: jax.lax.cond(c[0] > 0, f, f, c))(c), None),
            x,
            None,
            2,
        )[0]
    ),
}


def gradient(f):
    return jax.grad(lambda x: f(x).sum())


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("rule", RULES)
def test_value_and_gradient_are_those_of_the_plain_twin(rule, program):
    f, plain = PROGRAMS[program](RULES[rule]), PROGRAMS[program](PLAIN[rule])
    stripped = without_rules(f)
    np.testing.assert_allclose(stripped(X), plain(X), rtol=1e-6)
    np.testing.assert_allclose(gradient(stripped)(X), gradient(plain)(X), rtol=1e-5)
    assert not sites(jax.make_jaxpr(stripped)(X))
    # The planted rules are really wrong, or the lines above would prove nothing.
    assert not np.allclose(gradient(f)(X), gradient(plain)(X), rtol=0.1)


@pytest.mark.parametrize("rule", RULES)
def test_while_loops_forward(rule):
    def halve(f):
        return lambda x: jax.lax.while_loop(
            lambda c: (c[0] < 3) & (jnp.sum(f(c[1])) < 1e3), lambda c: (c[0] + 1, f(c[1])), (0, x)
        )[1]

    stripped = without_rules(halve(RULES[rule]))
    np.testing.assert_allclose(stripped(X / 8), halve(PLAIN[rule])(X / 8), rtol=1e-5)
    assert not sites(jax.make_jaxpr(stripped)(X / 8))
    assert sites(jax.make_jaxpr(halve(RULES[rule]))(X / 8))


def test_it_composes_with_transforms_outside():
    f = lambda x: nested(x).sum()  # noqa: E731
    expected = jax.vmap(jax.grad(lambda x: PLAIN["nested"](x).sum()))(X[:, None])
    for outer in (
        jax.vmap(jax.grad(without_rules(f))),
        jax.jit(jax.vmap(jax.grad(jax.jit(without_rules(f))))),
        jax.vmap(jax.jit(jax.grad(without_rules(jax.jit(f))))),
    ):
        np.testing.assert_allclose(outer(X[:, None]), expected, rtol=1e-5)
    _, tangent = jax.jvp(without_rules(f), (X,), (jnp.ones(3),))
    np.testing.assert_allclose(tangent, expected.sum(), rtol=1e-5)


# Caches


@pytest.mark.parametrize("first", ["with", "without"])
def test_a_compiled_function_is_traced_again(first):
    program = jax.jit(lambda x: own(x).sum())
    found = {}
    for turn in (first, "with", "without", first):
        f = program if turn == "with" else without_rules(program)
        found[turn] = float(jax.grad(f)(X)[0])
    assert found == {"with": 100.0, "without": 1.0}


def test_compiled_pieces_inside_are_traced_again():
    piece = jax.jit(own)
    program = lambda x: jax.lax.scan(lambda c, _: (piece(c), None), x, None, 1)[0].sum()  # noqa: E731
    for f, expected in ((program, 100.0), (without_rules(program), 1.0), (program, 100.0)):
        assert float(jax.grad(f)(X)[0]) == expected


# Closures, trees, static arguments


def test_constants_and_tracers_that_are_closed_over():
    constant = jnp.array([1.0, 2.0, 3.0])

    def of(y):
        @jax.custom_vjp
        def scaled(x):
            return x * y * constant

        scaled.defvjp(lambda x: (scaled(x), None), lambda _, dy: (100 * dy,))
        return lambda x: scaled(x).sum()

    def total(y):
        return without_rules(of(y))(X)

    np.testing.assert_array_equal(jax.grad(without_rules(of(2.0)))(X), 2 * constant)
    assert jax.grad(total)(2.0) == X @ constant
    assert jax.jit(jax.grad(total))(2.0) == X @ constant


def test_trees_go_in_and_out():
    def f(params, *, scale):
        return {"y": own(params["a"][0]) * scale, "n": params["n"], "none": None}

    params = {"a": [X, X], "n": jnp.array([1, 2])}
    y = without_rules(f)(params, scale=2.0)
    assert set(y) == {"y", "n", "none"}
    assert y["none"] is None
    np.testing.assert_array_equal(y["y"], 2 * X * X)
    np.testing.assert_array_equal(y["n"], params["n"])
    d = jax.grad(lambda a: without_rules(f)({"a": a, "n": params["n"]}, scale=2.0)["y"].sum())
    np.testing.assert_array_equal(d([X, X])[0], 4 * X)
    np.testing.assert_array_equal(d([X, X])[1], 0 * X)


def test_python_arguments_stay_python():
    def f(x, n, mode, g, *, double=False):
        assert isinstance(n, int)
        assert (mode, g, double) == ("fast", jnp.cos, True)
        for _ in range(n):
            x = own(x)
        return g(x)

    np.testing.assert_allclose(
        without_rules(f)(X, 2, "fast", jnp.cos, double=True), jnp.cos(X**4), rtol=1e-5
    )


def test_keys_and_integers_pass(key):
    def f(x, k, n):
        return (own(x) * jax.random.normal(k, x.shape) * n.astype(x.dtype)).sum()

    expected = 2 * X * jax.random.normal(key, X.shape) * 3
    found = jax.grad(without_rules(f))(X, key, jnp.int32(3))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_stripped_function_keeps_its_name():
    assert without_rules(square).__name__ == "square"


# Which rules


def three(x):
    return own(x).sum() + foreign(x).sum() + forward_rule(x).sum()


AUTOMATIC = {"own": 2 * X, "foreign": jnp.cos(X), "forward_rule": 1 - jnp.tanh(X) ** 2}


def expected_gradient(removed):
    return sum(AUTOMATIC[n] if n in removed else 100.0 + 0 * X for n in AUTOMATIC)


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        ({}, {"own", "foreign", "forward_rule"}),
        ({"only": ["own"]}, {"own"}),
        ({"only": ["foreign", "forward_rule"]}, {"foreign", "forward_rule"}),
        ({"exclude": ["own"]}, {"foreign", "forward_rule"}),
        ({"exclude": ["foreign"]}, {"own", "forward_rule"}),
        ({"only": ["own", "foreign"], "exclude": ["own"]}, {"foreign"}),
        ({"only": []}, set()),
    ],
    ids=lambda value: str(sorted(value)),  # a set has no order, and the workers must agree
)
def test_only_and_exclude_name_own_and_foreign_rules(options, removed):
    found = jax.grad(without_rules(three, **options))(X)
    np.testing.assert_allclose(found, expected_gradient(removed), rtol=1e-5)


def test_inner_calls_do_not_leak_into_the_outer_program():
    def mixed(x):
        return without_rules(lambda x: own(x).sum(), exclude=["own"])(x) + own(x).sum()

    assert float(jax.grad(mixed)(X)[0]) == 200.0
    assert float(jax.grad(lambda x: without_rules(own)(x).sum() + own(x).sum())(X)[0]) == 101.0


# What cannot be taken out


@jax.custom_vjp
def until_large(x):
    return jax.lax.while_loop(lambda c: c[0] < 10.0, lambda c: 2 * c, x)


until_large.defvjp(lambda x: (until_large(x), None), lambda _, dy: (7 * dy,))


def test_a_rule_without_reverse_mode_is_kept_and_named():
    def f(x):
        return (until_large(x) + foreign(x)).sum()

    program, kept = take_out(f, (X,), {}, Removal())
    assert [site.name for site in kept] == ["until_large"]
    assert [site.name for site in sites(program.jaxpr)] == ["until_large"]
    found = jax.grad(without_rules(f))(X)
    np.testing.assert_allclose(found, 7 + jnp.cos(X), rtol=1e-6)


def test_a_rule_around_a_kept_rule_is_still_taken_out():
    @jax.custom_vjp
    def outside(x):
        return 2 * until_large(x)

    outside.defvjp(lambda x: (outside(x), None), lambda _, dy: (100 * dy,))
    program, kept = take_out(lambda x: outside(x).sum(), (X,), {}, Removal())
    assert [site.name for site in kept] == ["until_large"]
    assert len(sites(program.jaxpr)) == 1
    np.testing.assert_array_equal(jax.grad(without_rules(lambda x: outside(x).sum()))(X), 14.0)


def test_a_rule_that_is_to_stay_stays_among_those_that_are_taken_out():
    def f(x):
        return foreign(jax.nn.relu(x))

    kept = jax.grad(differentiable(f, keep=lambda site: site.name == "relu"))
    assert float(kept(0.0)) == 0.0  # relu's own subgradient
    assert float(jax.grad(differentiable(f))(0.0)) == 0.5  # that of the maximum inside


def test_trace_keeps_the_arrays_apart_from_the_rest():
    program = trace(lambda x, n, name: {"y": x * n}, (np.ones(3, np.float32), 2, "a"), {})
    assert len(program.leaves) == 1
    np.testing.assert_array_equal(program.run()["y"], 2.0)
    np.testing.assert_array_equal(program.run([3 * np.ones(3, np.float32)])["y"], 6.0)


# Foreign libraries


def linen_loss():
    model = flax.linen.Sequential([flax.linen.Dense(4), flax.linen.relu, flax.linen.Dense(1)])
    x = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
    params = model.init(jax.random.key(0), x)

    def loss(params):
        y: jax.Array = model.apply(params, x)  # pyright: ignore[reportAssignmentType]
        return jax.nn.silu(y).sum() + foreign(y).sum()

    return loss, params


def nnx_loss():
    class Net(flax.nnx.Module):
        def __init__(self, rngs):
            self.inner = flax.nnx.Linear(3, 4, rngs=rngs)
            self.outer = flax.nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.outer(jax.nn.relu(self.inner(x)))

    graph, params = flax.nnx.split(Net(flax.nnx.Rngs(0)))
    x = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)

    def loss(params):
        return foreign(flax.nnx.merge(graph, params)(x)).sum()

    return loss, params


def equinox_loss():
    model = equinox.nn.MLP(3, 1, 4, 1, activation=jax.nn.relu, key=jax.random.key(0))
    params, rest = equinox.partition(model, equinox.is_inexact_array)
    x = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)

    def loss(params):
        return foreign(jax.vmap(equinox.combine(params, rest))(x)).sum()

    return loss, params


@pytest.mark.parametrize("make", [linen_loss, nnx_loss, equinox_loss])
def test_programs_of_other_libraries(make):
    loss, params = make()
    plain = loss.__globals__ | {"foreign": jnp.sin}
    twin = type(loss)(loss.__code__, plain, "twin", None, loss.__closure__)
    assert {site.name for site in sites(jax.make_jaxpr(loss)(params))} >= {"relu", "foreign"}
    stripped = jax.make_jaxpr(without_rules(loss))(params)
    assert "custom_vjp" not in str(stripped)
    assert "custom_jvp" not in str(stripped)
    found, expected = jax.grad(without_rules(loss))(params), jax.grad(twin)(params)
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-6), found, expected
    )
    wrong = jax.grad(loss)(params)
    assert not np.allclose(jax.tree.leaves(wrong)[0], jax.tree.leaves(expected)[0], rtol=0.1)
