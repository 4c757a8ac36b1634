"""Programs exported for any batch: what is chosen by its size must be right for every size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn import rules

PARAMETERS = {"w", "b", "u", "scale", "bias", "mean", "variance", "table", "key"}


def open_batch():
    (n,) = jax.export.symbolic_shape("n")
    return n


def of_any_batch(name, a, n):
    """The shape of an argument, its batch left open."""
    if a is None:
        return None
    a = jnp.asarray(a)
    fixed = name in PARAMETERS or a.ndim == 0
    return jax.ShapeDtypeStruct(a.shape if fixed else (n, *a.shape[1:]), a.dtype)


def value_and_gradients(f, args):
    """y and the cotangents of all floating arguments, for dy = y."""
    given = [i for i, a in enumerate(args) if a is not None]
    floats = [i for i in given if jnp.issubdtype(args[i].dtype, jnp.floating)]

    def g(*given_args):
        full = list(args)
        for i, a in zip(given, given_args, strict=True):
            full[i] = a

        def of_floats(*values):
            for i, v in zip(floats, values, strict=True):
                full[i] = v
            return f(*full)

        y, pull = jax.vjp(of_floats, *(full[i] for i in floats))
        return y, pull(y)

    return g, given


def with_a_batch(rule):
    """The cases of a rule whose arrays have one first axis in common, of one row or more."""
    for case in rule.cases():
        rows = {np.shape(a)[0] for a in batched(rule, case.args) if np.ndim(a)}
        if len(rows) == 1 and 0 not in rows and not case.name.startswith(("vector", "tail")):
            yield case


def batched(rule, args):
    named = zip(rule.parameters, args, strict=False)
    return [a for name, a in named if a is not None and name not in PARAMETERS]


CHOOSES_BY_SHAPE = {"conv", "conv_transposed", "max_pool", "linear_cross_entropy"}


@pytest.mark.parametrize("name", [n for n in fnn.registered_rules() if hasattr(rules, n)])
def test_every_rule_is_traced_with_an_open_batch(name):
    rule, n = fnn.registered_rules()[name], open_batch()
    cases = list(with_a_batch(rule))
    for case in cases if name in CHOOSES_BY_SHAPE else cases[:1]:
        shapes = [of_any_batch(p, a, n) for p, a in zip(rule.parameters, case.args, strict=False)]
        g, given = value_and_gradients(lambda *a, s=case.static: rule(*a, **s), shapes)
        y, cotangents = jax.eval_shape(g, *(shapes[i] for i in given))
        assert any(n in a.shape for a in jax.tree.leaves((y, cotangents)))
    assert cases


def draw(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


# One for each form that a CPU takes.
PROGRAMS = {
    "Winograd": (rules.conv, {}, (draw(3, 48, 48, 32), draw(3, 3, 32, 32))),
    "products": (rules.conv, {"stride": 2}, (draw(3, 6, 6, 4), draw(3, 3, 4, 3))),
    "groups": (rules.conv, {"groups": 2, "stride": 2}, (draw(3, 6, 6, 4), draw(3, 3, 2, 4))),
    "depthwise": (rules.conv, {"groups": 16}, (draw(3, 6, 6, 16), draw(3, 3, 1, 16))),
    "volume": (rules.conv, {}, (draw(3, 4, 4, 4, 2), draw(3, 3, 3, 2, 3))),
    "transposed": (rules.conv_transposed, {"stride": 2}, (draw(3, 4, 4, 2), draw(3, 3, 2, 3))),
    "overlapping": (rules.max_pool, {"window": 3, "stride": 2}, (draw(3, 7, 7, 2),)),
    "embedding": (rules.embedding, {}, (draw(5, 2), jnp.array([4, 0, 4]))),
    "chunks": (
        rules.linear_cross_entropy,
        {"chunk": 2, "ignored": 4},
        (draw(3, 4), draw(4, 5), jnp.array([0, 4, 2])),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "Winograd")) for n in PROGRAMS]
)
def test_the_exported_program_gives_what_the_plain_one_gives(name):
    rule, static, args = PROGRAMS[name]
    n = open_batch()
    shapes = [of_any_batch(p, a, n) for p, a in zip(rule.parameters, args, strict=False)]
    g, _ = value_and_gradients(lambda *a: rule(*a, **static), shapes)
    exported = jax.export.export(jax.jit(g))(*shapes)
    for rows in (3, 1) if name in {"groups", "overlapping", "chunks"} else (3,):
        some = [
            a if p in PARAMETERS else a[:rows] for p, a in zip(rule.parameters, args, strict=False)
        ]
        for found, expected in zip(
            jax.tree.leaves(exported.call(*some)), jax.tree.leaves(jax.jit(g)(*some)), strict=True
        ):
            scale = float(jnp.max(jnp.abs(expected))) or 1.0
            np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_a_network_is_traced_for_any_batch(key):
    net = fnn.models.lenet(channels=[4], hidden=8, batch_norm=True)
    shape = jax.ShapeDtypeStruct((open_batch(), 8, 8, 3), "float32")
    params = net.init(key, jnp.ones((1, 8, 8, 3)))
    y, statistics = jax.eval_shape(lambda x: net.value_and_statistics(params, x, key), shape)
    folded = fnn.fold_statistics(params, jax.tree.map(lambda a: jnp.ones(a.shape), statistics))
    assert jax.eval_shape(lambda x: net(folded, x), shape).shape == y.shape
    assert y.shape[0] == shape.shape[0]
