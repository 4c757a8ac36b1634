"""Which rules a gradient depends on: those that run, and that the leaf reaches."""

import jax
import numpy as np
import pytest

from funcnn.gradient.program.influence import (
    rules_never_run,
    rules_not_differentiated,
    rules_without_influence,
)
from funcnn.gradient.program.without_rules import trace

X, W = np.array([0.5, -1.0, 2.0], np.float32), np.array(1.5, np.float32)


def never_run(f, *args):
    return [site.name for site in rules_never_run(trace(f, args, {}))]


def not_reached_by(leaf, f):
    return [site.name for site in rules_not_differentiated(trace(f, (W, X), {}), {leaf})]


def test_a_rule_that_runs_anywhere_has_run():
    def f(x):
        y = jax.nn.relu(x)
        return jax.lax.cond(x[0] > 0, jax.nn.relu, lambda x: x, y)

    def g(x):
        return jax.nn.silu(x) + jax.lax.cond(x[0] > 0, jax.nn.relu, lambda x: x, x)

    assert never_run(f, -X) == []
    assert never_run(g, -X) == ["relu"]
    assert never_run(g, X) == []


def of_a_factory(factor):
    made = jax.custom_vjp(lambda x: jax.numpy.sin(x))
    made.defvjp(lambda x: (jax.numpy.sin(x), x), lambda x, dy: (factor * dy * jax.numpy.cos(x),))
    return made


@pytest.mark.parametrize("call", [lambda f: f, jax.jit, jax.checkpoint, jax.vmap])
def test_two_rules_of_one_factory_are_two_rules(call):
    one, two = of_a_factory(1.0), call(of_a_factory(7.0))

    def beside(x):
        return one(x) + jax.lax.cond(x[0] > 9, two, lambda x: x, x)

    assert never_run(beside, X) == ["<lambda>"]
    assert never_run(lambda x: two(x) + beside(x), X) == []
    constant = jax.numpy.ones(3)
    assert not_reached_by(1, lambda w, x: one(x) * two(constant)) == ["<lambda>"]
    assert not_reached_by(1, lambda w, x: one(x) * two(constant) * two(x)) == []


def scanned(w, x):
    """w reaches the rule in the second step, over the other carry."""

    def step(carry, x):
        return (carry[1], carry[1] * w), jax.nn.relu(carry[0])

    return jax.lax.scan(step, (x[0], x[1]), x)[1]


def looped(w, x):
    def step(state):
        i, _, b = state
        return i + 1, jax.nn.relu(b), b * w

    return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, x[0], x[1]))[1]


@pytest.mark.parametrize("f", [scanned, looped, jax.jit(scanned)])
def test_a_leaf_that_reaches_a_rule_in_a_later_step(f):
    assert not_reached_by(0, f) == []


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x: w + jax.nn.relu(x),
        lambda w, x: w + jax.jit(jax.nn.relu)(x),
        lambda w, x: jax.nn.relu(jax.lax.stop_gradient(w) * x),
        lambda w, x: w * jax.lax.cond(w > 0, jax.nn.relu, lambda x: x, x),
        lambda w, x: jax.lax.scan(lambda c, x: (c * w, jax.nn.relu(x)), w, x),
        lambda w, x: x[jax.numpy.int32(w)] * jax.nn.relu(x),
    ],
)
def test_a_leaf_that_stands_beside_a_rule(f):
    assert not_reached_by(0, f) == ["relu"]
    assert not_reached_by(1, f) == []


@pytest.mark.parametrize(
    "flat",
    [jax.lax.stop_gradient, jax.numpy.floor, jax.numpy.ceil, jax.numpy.round, jax.numpy.sign],
)
def test_a_rule_that_is_only_rounded_has_no_influence(flat):
    def without(f):
        return [site.name for site in rules_without_influence(trace(f, (X,), {}))]

    assert without(lambda x: x + flat(jax.nn.relu(x))) == ["relu"]
    assert without(jax.jit(lambda x: x + flat(2 * jax.nn.relu(x)))) == ["relu"]
    assert without(lambda x: flat(x) + jax.nn.relu(x)) == []
