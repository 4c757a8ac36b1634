"""The summary of a model: one line for each layer, and nothing is computed."""

import jax
import jax.numpy as jnp

import funcnn as fnn
from funcnn.core.summary import summary

X = jnp.ones((2, 4))


def rows(text):
    """Layer -> the other columns, of a summary."""
    lines = [line.split("  ") for line in text.splitlines()[2:]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {name: tuple(rest) for name, *rest in cells}


def test_each_layer_has_its_shape_and_its_parameters_in_order(key):
    model = fnn.chain(
        wide=fnn.dense(8),
        act=fnn.relu,
        block=fnn.residual(fnn.chain(fnn.dense(8), fnn.tanh)),
        loop=fnn.repeat(fnn.dense(8), 3),
        both=fnn.parallel(fnn.dense(1), fnn.relu),
    )
    found = rows(summary(model, model.init(key, X), X))
    assert found == {
        "wide": ("float32[2, 8]", "40"),
        "act": ("float32[2, 8]", "0"),
        "block": ("float32[2, 8]", "72"),
        "block/body": ("float32[2, 8]", "72"),
        "block/body/dense_0": ("float32[2, 8]", "72"),
        "block/body/tanh_0": ("float32[2, 8]", "0"),
        "loop": ("float32[2, 8]", "216"),
        "loop/dense": ("float32[3, 2, 8]", "216"),
        "both": ("float32[2, 1], float32[2, 8]", "9"),
        "both/dense_0": ("float32[2, 1]", "9"),
        "both/relu_0": ("float32[2, 8]", "0"),
        "total": ("float32[2, 1], float32[2, 8]", "337"),
    }
    assert list(found)[:4] == ["wide", "act", "block", "block/body"]


def test_shapes_are_enough(key):
    x = jax.ShapeDtypeStruct((10**6, 10**4), jnp.bfloat16)
    model = fnn.chain(fnn.dense(10**5), fnn.relu)
    params = jax.eval_shape(model.init, key, x)
    found = rows(summary(model, params, x))
    assert found["dense_0"] == ("bfloat16[1000000, 100000]", "1,000,100,000")


def test_a_layer_alone_is_its_total(key):
    assert rows(summary(fnn.relu, {}, X)) == {"total": ("float32[2, 4]", "0")}
