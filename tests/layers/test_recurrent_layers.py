"""The recurrent layers: their parameters, carries, directions and hand-derived passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.layer import Layer
from funcnn.layers.recurrent import Recurrent

N, T, D, H = 3, 5, 2, 4
MAKE = {"rnn": fnn.rnn, "lstm": fnn.lstm, "gru": fnn.gru}
LENGTHS = (5, 2, 0)


def draw(seed, *shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


X = draw(0, N, T, D)


def carry_of(name, width=H, seed=1):
    h, c = draw(seed, N, width), draw(seed + 1, N, width)
    return (h, c) if name == "lstm" else h


def like(seed, tree):
    leaves, structure = jax.tree.flatten(tree)
    drawn = [draw(seed + i, *a.shape, dtype=a.dtype) for i, a in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def assert_equal(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **tolerance)


# Parameters


@pytest.mark.parametrize("name", MAKE)
def test_parameters(name, key):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    params = MAKE[name](H).init(key, jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert params["w"].shape == (D, gates * H)
    assert params["u"].shape == (H, gates * H)
    blocks = jnp.split(params["u"], gates, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-5)
    assert len({float(b[0, 0]) for b in blocks}) == gates
    expected = {"rnn": [0], "lstm": [0, 1, 0, 0], "gru": [0, 0, 0, 0]}[name]  # forget bias 1
    np.testing.assert_array_equal(params["b"], np.repeat(expected, H))


def test_initializers_and_dtypes(key):
    ones, twos = (jax.nn.initializers.constant(v) for v in (1.0, 2.0))
    layer = fnn.gru(H, initializer=ones, recurrent_initializer=twos)
    params = layer.init(key, (None, X.astype("bfloat16")))
    assert {p.dtype for p in params.values()} == {np.dtype("bfloat16")}
    assert np.all(params["w"] == 1)
    assert np.all(params["u"] == 2)
    orthogonal = fnn.lstm(H).init(key, X.astype("bfloat16"))["u"]
    assert orthogonal.dtype == np.dtype("bfloat16")


# Forms


@pytest.mark.parametrize("name", MAKE)
def test_the_forms_of_the_input(name, key):
    layer = MAKE[name](H)
    params = layer.init(key, X)
    y = layer(params, X)
    zeros = jax.tree.map(jnp.zeros_like, carry_of(name))
    assert_equal(layer(params, (zeros, X))[1], y)
    assert_equal(layer(params, (None, X))[1], y)
    carry = carry_of(name)
    last, y = layer(params, (carry, X))
    carries = carry if name == "lstm" else (carry,)
    expected = getattr(fnn.rules, name)(X, *carries, params["w"], params["u"], params["b"])
    assert_equal((y, *(last if name == "lstm" else (last,))), expected)
    middle, first = layer(params, (carry, X[:, :2]))  # in two pieces
    end, second = layer(params, (middle, X[:, 2:]))
    assert_equal(end, last, rtol=1e-5, atol=1e-6)
    assert_equal(jnp.concatenate([first, second], 1), y, rtol=1e-5, atol=1e-6)
    lengths = jnp.array(LENGTHS)
    last, y = layer(params, (carry, X, lengths))
    assert_equal(y[1, :2], layer(params, (carry, X))[1][1, :2], rtol=1e-5, atol=1e-6)
    assert not np.any(y[1, 2:])


def test_the_other_direction_is_the_layer_on_the_reversed_input(key):
    layer, other = fnn.lstm(H), fnn.lstm(H, reverse=True)
    params = layer.init(key, X)
    expected = layer(params, X[:, ::-1])[:, ::-1]
    assert isinstance(layer, Recurrent)
    assert isinstance(other, Recurrent)
    for twin in (other, layer.mirrored()):
        assert_equal(twin(params, X), expected, rtol=1e-5, atol=1e-6)
    assert_equal(other.mirrored()(params, X), layer(params, X))


def test_bidirectional_is_both_side_by_side(key):
    model = fnn.bidirectional(fnn.gru(H))
    params = model.init(key, X)
    assert list(params) == ["forward", "backward"]
    assert not np.array_equal(params["forward"]["w"], params["backward"]["w"])
    layer = fnn.gru(H)
    there = layer(params["forward"], X)
    back = layer(params["backward"], X[:, ::-1])[:, ::-1]
    assert_equal(model(params, X), jnp.concatenate([there, back], -1), rtol=1e-5, atol=1e-6)
    carries = carry_of("gru"), carry_of("gru", seed=5)
    lengths = jnp.array(LENGTHS)
    (h, g), y = model(params, (carries, X, lengths))
    row, length = 1, LENGTHS[1]
    cut = X[row : row + 1, :length]
    last, there = layer(params["forward"], (carries[0][row : row + 1], cut))
    assert_equal(y[row : row + 1, :length, :H], there, rtol=1e-5, atol=1e-6)
    assert_equal(h[row : row + 1], last, rtol=1e-5, atol=1e-6)
    last, back = layer(params["backward"], (carries[1][row : row + 1], cut[:, ::-1]))
    assert_equal(y[row : row + 1, :length, H:], back[:, ::-1], rtol=1e-5, atol=1e-6)
    assert_equal(g[row : row + 1], last, rtol=1e-5, atol=1e-6)


# The recursion

MODELS = {
    "two": lambda: fnn.chain(fnn.lstm(H), fnn.gru(3)),
    "bidirectional": lambda: fnn.chain(fnn.bidirectional(fnn.lstm(H)), fnn.dense(2)),
    "repeat": lambda: fnn.chain(fnn.dense(H), fnn.repeat(fnn.rnn(H), 2)),
    "residual": lambda: fnn.chain(fnn.residual(fnn.rnn(D, "relu", reverse=True)), fnn.flatten),
}


@pytest.mark.parametrize("name", MODELS)
def test_backprop_is_the_automatic_gradient(name, key):
    with jax.enable_x64(True):
        model = MODELS[name]()
        x = draw(0, N, T, D, dtype="float64")
        params = model.init(key, x)
        dy = like(7, model(params, x))
        dparams, dx, deltas = jax.jit(lambda p, x: fnn.backprop(model, p, x, dy))(params, x)
        plain = fnn.without_rules(lambda p, x: model(p, x))
        expected = jax.jit(lambda p, x: jax.vjp(plain, p, x)[1](dy))(params, x)
        assert_equal((dparams, dx), expected, rtol=1e-9, atol=1e-12)
        assert set(deltas) >= set(model.parts)


def test_in_both_directions_each_carry_gets_its_own_cotangent():
    layer, zero = fnn.bidirectional(fnn.rnn(H)), jnp.zeros((N, H))
    one = {"w": draw(2, D, H), "u": draw(3, H, H), "b": draw(4, H)}
    carries = carry_of("rnn"), carry_of("rnn", seed=5)

    @jax.jit
    def of_carries(params, dy):
        assert layer.forward is not None
        (_, y), res = layer.forward(params, (carries, X), None)
        return layer.backward(params, res, (dy, jnp.zeros_like(y)))[1][0]

    forward, backward = of_carries({"forward": one, "backward": one}, (draw(7, N, H), zero))
    assert jnp.any(forward != 0)
    assert not jnp.any(backward)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["no carry", "lengths"])
@pytest.mark.parametrize("name", [*MAKE, "bidirectional"])
def test_the_passes_of_the_explicit_form(name, form, key):
    if name == "bidirectional":
        layer, carry = fnn.bidirectional(fnn.lstm(H)), (carry_of("lstm"), carry_of("lstm", seed=5))
    else:
        layer, carry = MAKE[name](H), carry_of(name)
    params = layer.init(key, X)
    x = (carry, X, jnp.array(LENGTHS)) if form == "lengths" else (None, X)
    assert layer.forward is not None
    out, res = layer.forward(params, x, None)
    assert_equal(out, layer(params, x), rtol=1e-6)
    dy = like(7, out)
    dparams, dx = layer.backward(params, res, dy)
    expected, dx_expected = jax.vjp(lambda p, x: layer(p, x), params, x)[1](dy)
    assert_equal(dparams, expected, rtol=1e-5, atol=1e-5)
    assert_equal(dx[:2], dx_expected[:2], rtol=1e-5, atol=1e-5)
    assert dx[2:] == ((None,) if form == "lengths" else ())


# Mistakes


@pytest.mark.parametrize("hidden", [0, -1, 2.0, True, "3", None])
@pytest.mark.parametrize("name", MAKE)
def test_hidden_is_a_positive_integer(name, hidden):
    with pytest.raises(ValueError, match=f"{name}: hidden is a positive integer, found"):
        MAKE[name](hidden)


def test_errors(key):
    with pytest.raises(TypeError, match=r"bidirectional: the layer is fnn.rnn.*found dense"):
        fnn.bidirectional(fnn.dense(3))
    with pytest.raises(TypeError, match=r"lstm makes a layer and is not one: write lstm"):
        fnn.chain(fnn.lstm)
    layer = fnn.lstm(H)
    params = layer.init(key, X)
    with pytest.raises(
        ValueError, match=r"lstm: the input is x, \(carry, x\) or .* found 4 things"
    ):
        layer(params, (None, X, None, None))
    with pytest.raises(ValueError, match=r"lstm: w must have shape"):
        layer(params, X[..., :1])
    with pytest.raises(ValueError, match="rnn: activation is 'tanh' or 'relu', found 'silu'"):
        fnn.rnn(H, "silu")({"w": params["w"][:, :H], "u": params["u"][:, :H], "b": jnp.zeros(H)}, X)
    assert isinstance(layer, Layer)
    assert repr(fnn.bidirectional(layer)) == "bidirectional(forward=lstm, backward=lstm)"
