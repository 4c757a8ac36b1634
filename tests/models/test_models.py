"""The models are compositions: their layers, the shape of what they return, their options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn import models

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)


def test_mlp(key):
    model = fnn.mlp(hidden=[6, 5], activation="tanh", classes=3, dropout=0.5)
    assert list(model.parts) == [
        *("flatten_0", "dense_0", "tanh_0", "dropout_0", "dense_1", "tanh_1", "dropout_1"),
        "dense_2",
    ]
    params = model.init(key, IMAGES)
    assert {name: p["w"].shape for name, p in params.items()} == {
        "dense_0": (64, 6),
        "dense_1": (6, 5),
        "dense_2": (5, 3),
    }
    logits = model(params, IMAGES)
    assert logits.shape == (2, 3)
    np.testing.assert_array_equal(logits, model(params, IMAGES))
    assert not np.array_equal(logits, model(params, IMAGES, key=key))
    # The formula itself, from the arrays alone.
    h = IMAGES.reshape(2, -1)
    for name in ("dense_0", "dense_1"):
        h = jnp.tanh(h @ params[name]["w"] + params[name]["b"][None])
    expected = h @ params["dense_2"]["w"] + params["dense_2"]["b"][None]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_mlp_without_hidden_layers_is_a_linear_classifier():
    assert list(fnn.mlp(hidden=[]).parts) == ["flatten_0", "dense_0"]


def test_lenet(key):
    model = fnn.lenet(channels=[2, 3], hidden=5, classes=7)
    assert list(model.parts) == [
        *("conv_0", "relu_0", "max_pool_0", "conv_1", "relu_1", "max_pool_1"),
        *("flatten_0", "dropout_0", "dense_0", "relu_2", "dropout_1", "dense_1"),
    ]
    params = jax.eval_shape(model.init, key, IMAGES)
    shapes = {name: p["w"].shape for name, p in params.items()}
    assert shapes == {
        "conv_0": (3, 3, 1, 2),
        "conv_1": (3, 3, 2, 3),
        "dense_0": (2 * 2 * 3, 5),
        "dense_1": (5, 7),
    }
    assert jax.eval_shape(model, params, IMAGES).shape == (2, 7)


def test_dropout_of_rate_zero_leaves_no_layer():
    for model in (fnn.lenet(dropout=0.0), fnn.mlp(dropout=0.0)):
        assert not [name for name in model.parts if name.startswith("dropout")]


@pytest.mark.parametrize("make", [lambda: fnn.mlp(hidden=[4]), lambda: fnn.lenet([2], 4)])
def test_backprop_goes_through_every_model(make, key):
    model = make()
    params = model.init(key, IMAGES)
    dparams, dx, deltas = fnn.backprop(model, params, IMAGES, jnp.ones((2, 10)), key=key)
    assert jax.tree.structure(dparams) == jax.tree.structure(params)
    assert dx.shape == IMAGES.shape
    assert list(deltas) == list(reversed(model.parts))


@pytest.mark.parametrize("name", ["gelu", "flatten", "dense", "global_max_pool", "swish"])
def test_an_activation_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=f"a layer without options is wanted.*found '{name}'"):
        fnn.mlp(activation=name)


def test_models_are_public():
    assert {"lenet", "mlp"} <= set(models.__all__)
    assert all(getattr(fnn, name) is getattr(models, name) for name in models.__all__)
