"""A chain that starts with integers: init, apply, backprop, summary and training."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import funcnn as fnn
from funcnn.core.layer import output_shape

X = jnp.array([[0, 3, 8], [8, 8, 1]])


def model():
    return fnn.chain(fnn.embedding(9, 4), fnn.dense(5), fnn.tanh, fnn.flatten, fnn.dense(2))


def test_shapes_of_init_and_apply(key):
    layer = fnn.embedding(9, 4)
    for x in (X, X[0], X[0, 0], jax.ShapeDtypeStruct((2, 5), "int32"), X.astype("uint8")):
        params = layer.init(key, x)
        assert params["table"].shape == (9, 4)
        y = output_shape(layer, params, x)
        assert (y.shape, y.dtype) == ((*x.shape, 4), np.float32)


def test_the_value_is_that_of_flax(key):
    layer = fnn.embedding(9, 4)
    params = layer.init(key, X)
    truth = linen.Embed(9, 4).apply({"params": {"embedding": params["table"]}}, X)
    np.testing.assert_array_equal(layer(params, X), truth)
    assert layer.forward is not None
    np.testing.assert_array_equal(layer.forward(params, X, None)[0], truth)


def test_rows_have_a_length_of_about_one(key):
    table = fnn.embedding(200, 400).init(key, X)["table"]
    assert float(table.std()) == pytest.approx(1 / 20, rel=0.05)
    constant = fnn.embedding(3, 2, initializer=jax.nn.initializers.constant(2.0)).init(key, X)
    np.testing.assert_array_equal(constant["table"], np.full((3, 2), 2.0))


def test_backprop_reaches_the_table_and_returns_no_dx(key):
    with jax.enable_x64(True):
        net = model()
        params = net.init(key, X)
        dy = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2)))
        dparams, dx, deltas = fnn.backprop(net, params, X, dy)
        assert dx is None
        truth = jax.vjp(lambda p: fnn.without_rules(net.apply)(p, X, None), params)[1](dy)[0]
        jax.tree.map(lambda f, t: np.testing.assert_allclose(f, t, rtol=1e-12), dparams, truth)
        assert next(reversed(deltas)) == "embedding_0"
        assert deltas["embedding_0"].shape == (2, 3, 4)
        unused = [2, 4, 5, 6, 7]
        np.testing.assert_array_equal(dparams["embedding_0"]["table"][jnp.array(unused)], 0)


def test_backprop_of_the_layer_alone(key):
    layer = fnn.embedding(9, 4)
    params = layer.init(key, X)
    dparams, dx, deltas = fnn.backprop(layer, params, X, jnp.ones((2, 3, 4)))
    assert dx is None
    assert list(deltas) == ["embedding"]
    np.testing.assert_array_equal(dparams["table"][8], np.full(4, 3.0))


def test_summary_shows_the_table(key):
    net = model()
    text = fnn.summary(net, net.init(key, X), X)
    assert "float32[2, 3, 4]" in text
    assert "36" in text


def test_a_bag_of_words_is_learned(key):
    net = model()
    params = net.init(key, X)
    labels = jnp.array([0, 1])
    optimizer = optax.sgd(0.5)

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.mean(fnn.rules.softmax_cross_entropy(net(params, X), labels))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(40):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", None])
def test_sizes_are_positive_integers(size):
    with pytest.raises(ValueError, match="embedding: vocabulary is a positive integer, found"):
        fnn.embedding(size, 3)
    with pytest.raises(ValueError, match="embedding: width is a positive integer, found"):
        fnn.embedding(3, size)


def test_an_input_that_is_no_integer_is_named(key):
    layer = fnn.embedding(9, 4)
    with pytest.raises(TypeError, match=r"embedding: x must be integers, found float32\[2\]"):
        layer.init(key, jnp.ones(2))
    with pytest.raises(TypeError, match="embedding: indices must be integers"):
        layer(layer.init(key, X), jnp.ones(2))
    with pytest.raises(TypeError, match="embedding makes a layer from its options"):
        fnn.embedding(X, 4)  # pyright: ignore[reportArgumentType]


def test_branches_over_integers_have_no_cotangent_of_x():
    model = fnn.parallel(fnn.embedding(5, 3), fnn.embedding(5, 2), combine="concatenate")
    x = jnp.array([[0, 4], [1, 1]])
    params = model.init(jax.random.key(0), x)
    dy = jnp.ones((2, 2, 5))
    dparams, dx, _ = fnn.backprop(model, params, x, dy)
    assert dx is None
    expected = jax.grad(lambda p: jnp.sum(fnn.without_rules(model)(p, x) * dy))(params)
    chex.assert_trees_all_close(dparams, expected)
