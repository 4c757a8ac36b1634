"""The layers: init gives what apply takes, options reach the rule, and mistakes are named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn import layers
from funcnn.core.layer import Layer, output_shape

IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)
LINE = IMAGE[:, 0]
ROWS = IMAGE[0, 0]


def with_statistics(layer):
    """The layer with params that it can be evaluated with."""

    def init(key, x):
        zeros = jnp.zeros(x.shape[-1])
        return {**layer.init(key, x), "mean": zeros, "variance": zeros + 1}

    return dataclasses.replace(layer, init=init)


# name -> (layer, input, shape of the output)
SHAPES = {
    "dense": (lambda: fnn.dense(4), ROWS, (6, 4)),
    "dense without bias": (lambda: fnn.dense(4, bias=False), ROWS, (6, 4)),
    "conv": (lambda: fnn.conv(4, (3, 3)), IMAGE, (2, 5, 6, 4)),
    "conv with options": (
        lambda: fnn.conv(4, [3, 2], stride=[2, 1], padding=[[1, 0], [0, 2]], dilation=[1, 2]),
        IMAGE,
        (2, 2, 6, 4),
    ),
    "conv valid": (lambda: fnn.conv(4, (2, 3), padding="VALID", bias=False), IMAGE, (2, 4, 4, 4)),
    "conv of a line": (lambda: fnn.conv(4, (3,), stride=2), LINE, (2, 3, 4)),
    "conv with groups": (lambda: fnn.conv(6, (3, 2), groups=3), IMAGE, (2, 5, 6, 6)),
    "conv_transposed": (
        lambda: fnn.conv_transposed(4, [3, 2], stride=[2, 1], padding="VALID"),
        IMAGE,
        (2, 11, 7, 4),
    ),
    "max_pool": (lambda: fnn.max_pool((2, 2)), IMAGE, (2, 2, 3, 3)),
    "max_pool with options": (
        lambda: fnn.max_pool([3, 3], stride=[1, 2], padding="SAME"),
        IMAGE,
        (2, 5, 3, 3),
    ),
    "average_pool": (lambda: fnn.average_pool((2, 3), stride=1), IMAGE, (2, 4, 4, 3)),
    "global_max_pool": (lambda: fnn.global_max_pool, IMAGE, (2, 3)),
    "global_average_pool": (lambda: fnn.global_average_pool, IMAGE, (2, 3)),
    "flatten": (lambda: fnn.flatten, IMAGE, (2, 90)),
    "rnn": (lambda: fnn.rnn(4), LINE, (2, 6, 4)),
    "lstm": (lambda: fnn.lstm(4), LINE, (2, 6, 4)),
    "gru": (lambda: fnn.gru(4), LINE, (2, 6, 4)),
    "bidirectional": (lambda: fnn.bidirectional(fnn.gru(4)), LINE, (2, 6, 8)),
    "stack_recurrent": (lambda: fnn.stack_recurrent(fnn.gru(5), fnn.rnn(4)), LINE, (2, 6, 4)),
    "places": (lambda: fnn.places(), LINE, LINE.shape),
    "places with more rows": (lambda: fnn.places(9), LINE, LINE.shape),
    "sinusoids": (lambda: fnn.sinusoids(), LINE, LINE.shape),
    "class_token": (lambda: fnn.class_token(), LINE, (2, 7, 3)),
    "dropout": (lambda: fnn.dropout(0.5), IMAGE, IMAGE.shape),
    "layer_norm": (lambda: fnn.layer_norm(), IMAGE, IMAGE.shape),
    "rms_norm": (lambda: fnn.rms_norm(), IMAGE, IMAGE.shape),
    "group_norm": (lambda: fnn.group_norm(3), IMAGE, IMAGE.shape),
    "instance_norm": (lambda: fnn.instance_norm(), IMAGE, IMAGE.shape),
    "batch_norm": (lambda: with_statistics(fnn.batch_norm()), IMAGE, IMAGE.shape),
}
ELEMENTWISE = {
    "sigmoid": (lambda: fnn.sigmoid, jax.nn.sigmoid),
    "tanh": (lambda: fnn.tanh, jnp.tanh),
    "relu": (lambda: fnn.relu, jax.nn.relu),
    "softplus": (lambda: fnn.softplus, jax.nn.softplus),
    "silu": (lambda: fnn.silu, jax.nn.silu),
    "leaky_relu": (lambda: fnn.leaky_relu(0.3), lambda x: jax.nn.leaky_relu(x, 0.3)),
    "elu": (lambda: fnn.elu(2.0), lambda x: jax.nn.elu(x, 2.0)),
    "gelu": (lambda: fnn.gelu(), jax.nn.gelu),
    "gelu erf": (
        lambda: fnn.gelu(approximate=False),
        lambda x: jax.nn.gelu(x, approximate=False),
    ),
    "softmax": (lambda: fnn.softmax(axis=0), lambda x: jax.nn.softmax(x, axis=0)),
    "log_softmax": (lambda: fnn.log_softmax(), jax.nn.log_softmax),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_of_init_is_that_of_apply(name, key):
    make, x, expected = SHAPES[name]
    layer = make()
    params = layer.init(key, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert output_shape(layer, params, x).shape == expected
    y = layer(params, x)
    assert (y.shape, y.dtype) == (expected, x.dtype)
    assert layer.forward is not None
    kept, _ = layer.forward(params, x, None)
    np.testing.assert_allclose(kept, y, rtol=1e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_compute_what_their_names_say(name):
    make, expected = ELEMENTWISE[name]
    np.testing.assert_allclose(make()({}, ROWS), expected(ROWS), rtol=1e-5, atol=1e-6)


def test_every_layer_is_tested_here_and_is_public():
    tested = {name.split()[0] for name in (*SHAPES, *ELEMENTWISE)}
    tested |= {"embedding"}  # takes integers: see test_embedding_layer.py
    # Of text, in parts of tuples: see test_transformer_layers.py.
    tested |= {"attend", "self_attention", "tokens", "transformer_block"}
    assert tested == set(layers.__all__)
    assert all(getattr(fnn, name) is getattr(layers, name) for name in layers.__all__)


def test_constants_are_layers_and_constructors_make_them():
    for name in layers.__all__:
        found = getattr(layers, name)
        assert isinstance(found, Layer) != getattr(found, "makes_layer", False), name


def test_dense_and_conv_are_linear_in_the_way_they_say(key):
    layer = fnn.dense(4)
    params = {"w": layer.init(key, ROWS)["w"], "b": jnp.arange(4.0)}
    np.testing.assert_allclose(
        layer(params, ROWS), ROWS @ params["w"] + params["b"][None], rtol=1e-5, atol=1e-6
    )
    point = fnn.conv(4, (1, 1))
    found = point({"w": params["w"][None, None], "b": params["b"]}, IMAGE)
    np.testing.assert_allclose(found[0, 0], layer(params, ROWS), rtol=1e-5, atol=1e-6)


def test_weights_follow_the_initializer_and_the_dtype_of_x(key):
    params = fnn.dense(4, initializer=jax.nn.initializers.constant(2.0)).init(key, ROWS)
    np.testing.assert_array_equal(params["w"], 2.0)
    np.testing.assert_array_equal(params["b"], 0.0)
    low = fnn.conv(2, (3, 3)).init(key, IMAGE.astype("bfloat16"))
    assert {p.dtype for p in low.values()} == {np.dtype("bfloat16")}
    integers = fnn.dense(2).init(key, jax.ShapeDtypeStruct((3, 4), "uint8"))
    assert integers["w"].dtype == np.float32
    wide = fnn.dense(400).init(key, jax.ShapeDtypeStruct((1, 100), "float32"))["w"]
    assert float(wide.std()) == pytest.approx((2 / 100) ** 0.5, rel=0.05)  # He et al.


def test_without_bias_there_is_none(key):
    assert set(fnn.dense(2, bias=False).init(key, ROWS)) == {"w"}
    assert set(fnn.conv(2, (3, 3), bias=False).init(key, IMAGE)) == {"w"}


@pytest.mark.parametrize("features", [0, -1, 2.0, True, "3", None])
def test_features_and_window_are_positive_integers(features):
    with pytest.raises(ValueError, match="dense: features is a positive integer, found"):
        fnn.dense(features)
    with pytest.raises(ValueError, match="conv: features is a positive integer, found"):
        fnn.conv(features, (3, 3))
    with pytest.raises(ValueError, match="conv: window is a positive integer, found"):
        fnn.conv(2, (3, features))
    with pytest.raises(ValueError, match="conv: groups is a positive integer, found"):
        fnn.conv(2, (3, 3), groups=features)
    with pytest.raises(ValueError, match="conv_transposed: window is a positive integer, found"):
        fnn.conv_transposed(2, (3, features))


def test_conv_on_an_input_of_another_rank_is_named(key):
    with pytest.raises(ValueError, match=r"conv: a window of 2 axes takes x \(N, 2 spatial"):
        fnn.conv(2, (3, 3)).init(key, LINE)
    with pytest.raises(
        ValueError, match=r"conv: groups=2 must divide the 3 input and the 4 output"
    ):
        fnn.conv(4, (3, 3), groups=2).init(key, IMAGE)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_dropout_refuses_a_rate_outside(rate):
    with pytest.raises(ValueError, match="dropout: rate is at least 0 and below 1, found"):
        fnn.dropout(rate)


def test_dropout_keeps_the_mean_and_drops_the_rate(key):
    y = np.asarray(fnn.dropout(0.25)({}, jnp.ones((100, 100)), key=key))
    assert set(np.unique(y).round(5)) == {0.0, np.float32(4 / 3).round(5)}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(fnn.dropout(0.0)({}, ROWS, key=key), ROWS)


def test_flatten_gives_the_shape_back():
    assert fnn.flatten.forward is not None
    y, res = fnn.flatten.forward({}, IMAGE, None)
    _, dx = fnn.flatten.backward({}, res, y)
    np.testing.assert_array_equal(dx, IMAGE)
    assert jax.tree.leaves(res) == []
