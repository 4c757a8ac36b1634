"""Models of Flax NNX and Linen, Equinox, Haiku: their rules taken out, and a wrong one found."""

import equinox
import flax.linen
import flax.nnx
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcnn as fnn

WIDTH, DEPTH, DEEP = 6, 4, 2  # the third of four activations is the one to go wrong
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(5, WIDTH)).astype("float32")
Y = RANDOM.normal(size=(5, WIDTH)).astype("float32")


def activation(factor=1.0):
    @jax.custom_vjp
    def soft_sign(x):
        return x / (1 + jnp.abs(x))

    def backward(x, dy):
        return (jnp.asarray(factor, dy.dtype) * dy / (1 + jnp.abs(x)) ** 2,)

    soft_sign.defvjp(lambda x: (x / (1 + jnp.abs(x)), x), backward)
    return soft_sign


def activations(factor):
    return [activation(factor if i == DEEP else 1.0) for i in range(DEPTH)]


def squared(y):
    return jnp.mean((y - Y) ** 2)


def nnx(functions):
    class Network(flax.nnx.Module):
        def __init__(self, rngs):
            layers = [flax.nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in functions]
            self.layers = flax.nnx.List(layers)

        def __call__(self, x):
            for layer, f in zip(self.layers, functions, strict=True):
                x = f(layer(x))
            return x

    graph, params = flax.nnx.split(Network(flax.nnx.Rngs(0)), flax.nnx.Param)
    return lambda params: squared(flax.nnx.merge(graph, params)(X)), params


def linen(functions):
    class Network(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            for f in functions:
                x = f(flax.linen.Dense(WIDTH)(x))
            return x

    params = Network().init(jax.random.key(0), X)
    return lambda params: squared(Network().apply(params, X)), params


def eqx(functions):
    keys = jax.random.split(jax.random.key(0), DEPTH)
    layers = [equinox.nn.Linear(WIDTH, WIDTH, key=key) for key in keys]
    params, rest = equinox.partition(layers, equinox.is_inexact_array)

    def loss(params):
        x = X
        for layer, f in zip(equinox.combine(params, rest), functions, strict=True):
            x = f(jax.vmap(layer)(x))
        return squared(x)

    return loss, params


def hk(functions):
    def network(x):
        for f in functions:
            x = f(haiku.Linear(WIDTH)(x))
        return x

    model = haiku.without_apply_rng(haiku.transform(network))
    params = model.init(jax.random.key(0), X)
    return lambda params: squared(model.apply(params, X)), params


LIBRARIES = {"Flax NNX": nnx, "Flax Linen": linen, "Equinox": eqx, "Haiku": hk}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_training_step_without_rules_is_the_same_to_rounding(library):
    loss, params = LIBRARIES[library](activations(1.0))
    optimizer = optax.sgd(0.1)

    def step(loss):
        gradient = jax.grad(loss)(params)
        updates, _ = optimizer.update(gradient, optimizer.init(params))
        return jax.tree.leaves((gradient, optax.apply_updates(params, updates)))

    plain, without = jax.jit(lambda: step(loss))(), jax.jit(lambda: step(fnn.without_rules(loss)))()
    assert len(plain) == len(without) == 4 * DEPTH
    for a, b in zip(plain, without, strict=True):
        assert np.any(a)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * float(np.max(np.abs(a))))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_wrong_rule_three_layers_deep_is_found_and_located(library):
    report = fnn.compare(*LIBRARIES[library](activations(1.0)), pairs=0, cost=False)
    assert report.ok, str(report)
    assert len(report.leaves) == 2 * DEPTH

    report = fnn.compare(*LIBRARIES[library](activations(1.001)), pairs=0, cost=False)
    assert not report.ok
    named = [site for site in report.sites if site.name == "soft_sign"]
    assert report.culprits == (named[DEEP],)
    assert [r.verdict == "WRONG" for r in report.site_rows] == [i == DEEP for i in range(DEPTH)]
    # Every layer up to the wrong one is off, none behind it.
    wrong = [row.leaf for row in report.leaves if row.verdict == "WRONG"]
    assert len(wrong) == 2 * (DEEP + 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_census_counts_the_activations(library):
    loss, params = LIBRARIES[library](activations(1.001))
    report = fnn.census(loss, params)
    (row,) = [row for row in report.rules if row.name == "soft_sign"]
    assert (row.sites, row.verdict, report.ok) == (DEPTH, "WRONG", False)
