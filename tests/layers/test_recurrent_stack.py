"""Recurrent layers one after the other: carries, lengths, pieces and passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.layer import fold_path

N, T, D = 3, 7, 2
X = jnp.asarray(np.random.default_rng(0).standard_normal((N, T, D)), jnp.float32)
LENGTHS = jnp.array([7, 3, 0])
STACKS = {
    "lstm, gru": lambda: fnn.stack_recurrent(fnn.lstm(5), fnn.gru(3)),
    "rnn, lstm": lambda: fnn.stack_recurrent(fnn.rnn(3), fnn.lstm(4)),
    "two lstm": lambda: fnn.stack_recurrent(below=fnn.lstm(5), above=fnn.lstm(3)),
}


def draw(seed, tree):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(random.standard_normal(a.shape), a.dtype), tree)


def setting(name, key):
    model = STACKS[name]()
    params = model.init(key, jax.ShapeDtypeStruct(X.shape, X.dtype))
    carries, y = model(params, (None, X))
    return model, params, draw(1, carries), y


@pytest.mark.parametrize("name", STACKS)
def test_each_layer_has_its_own_carry(name, key):
    model, params, carries, _ = setting(name, key)
    last, y = model(params, (carries, X, LENGTHS))
    below, above = model.parts
    first, middle = model.parts[below](params[below], (carries[0], X, LENGTHS))
    second, expected = model.parts[above](params[above], (carries[1], middle, LENGTHS))
    np.testing.assert_array_equal(y, expected)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves((first, second)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(y[1, 3:], 0)  # beyond the length
    # x alone starts from zeros, and returns y alone; so does None for one of the carries.
    np.testing.assert_array_equal(model(params, X), model(params, (None, X))[1])
    np.testing.assert_array_equal(model(params, X), model(params, ((None, None), X))[1])


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_in_pieces_it_is_the_whole(name, lengths, key):
    model, params, start, _ = setting(name, key)

    def apply(carries, x, lengths):
        return model(params, (carries, x) if lengths is None else (carries, x, lengths))

    expected, y = apply(start, X, lengths)
    carries, pieces = start, []
    for first, last in ((0, 3), (3, 4), (4, 7)):
        own = None if lengths is None else jnp.clip(lengths - first, 0, last - first)
        carries, piece = apply(carries, X[:, first:last], own)
        pieces.append(piece)
    # Not bit for bit: XLA makes another program of a loop of one step, and rounds otherwise on some
    # processors. Numbers below 1 in size are right to 4 units in the last place of 1.
    near = {"rtol": 0, "atol": 4 * jnp.finfo(y.dtype).eps}
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), y, **near)
    for a, b in zip(jax.tree.leaves(carries), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **near)


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("form", ["x", "carries", "no carries", "lengths"])
def test_backprop_is_jax_grad(name, form, key):
    model, params, carries, _ = setting(name, key)
    x = {"x": X, "carries": (carries, X), "no carries": (None, X), "lengths": (carries, X, LENGTHS)}
    x = x[form]
    dy = draw(2, model(params, x))

    def loss(params, floats):
        full = (*floats, LENGTHS) if form == "lengths" else floats
        ys = zip(jax.tree.leaves(model(params, full)), jax.tree.leaves(dy), strict=True)
        return sum(jnp.vdot(a, b) for a, b in ys)

    expected = jax.grad(loss, (0, 1))(params, x[:2] if form == "lengths" else x)
    dparams, dx, deltas = fnn.backprop(model, params, x, dy)
    if form == "lengths":
        assert dx[2] is None
        dx = dx[:2]
    assert list(deltas) == ["stack_recurrent", *reversed(list(model.parts))]
    assert jax.tree.structure((dparams, dx)) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves((dparams, dx)), jax.tree.leaves(expected), strict=True):
        assert np.any(b)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_other_layers_between_have_no_carry(key):
    model = fnn.stack_recurrent(fnn.gru(4), fnn.dropout(0.5), fnn.bidirectional(fnn.lstm(3)))
    params = model.init(key, X)
    carries, y = model(params, (None, X), key=key)
    assert y.shape == (N, T, 6)
    h, ((_, c), (_, d)) = carries
    assert h.shape == (N, 4)
    assert c.shape == d.shape == (N, 3)
    middle = fnn.gru(4)(params["gru_0"], X)
    dropped = fnn.dropout(0.5)({}, middle, key=fold_path(key, "dropout_0"))
    expected = model.parts["bidirectional_0"](params["bidirectional_0"], dropped)
    np.testing.assert_array_equal(y, expected)
    assert not np.array_equal(model(params, X), y)


def test_it_stands_in_a_chain_and_in_a_composite(key):
    stack = STACKS["lstm, gru"]()
    model = fnn.chain(fnn.embedding(5, 2), stack, fnn.dense(2))
    tokens = jnp.ones((2, 4), int)
    params = model.init(key, tokens)
    assert model(params, tokens).shape == (2, 4, 2)
    assert "stack_recurrent_0/lstm_0" in fnn.summary(model, params, tokens)
    with pytest.raises(TypeError, match=r"dense_0: chain_0 passes on \(carry, y\)"):
        fnn.chain(fnn.chain(stack), fnn.dense(2)).init(key, (None, X))


def test_wrong_carries_are_one_line(key):
    model, params, carries, _ = setting("lstm, gru", key)
    words = "the carries are a tuple, one for each of lstm_0, gru_0, found 1 things"
    with pytest.raises(ValueError, match=words):
        model(params, (carries[:1], X))
    with pytest.raises(ValueError, match="the carry comes first"):
        model(params, (X, carries))
    with pytest.raises(ValueError, match=r"lstm: the carry is \(h, c\)"):
        model(params, (carries[::-1], X))
    with pytest.raises(ValueError, match="none of dense_0 is a recurrent layer"):
        fnn.stack_recurrent(fnn.dense(2))


def test_a_chain_that_is_given_a_carry_says_to_stack():
    chained = fnn.chain(fnn.gru(3), fnn.gru(3))
    words = r"gru_1: gru_0 passes on \(carry, y\).* stack recurrent layers with fnn.stack_recurrent"
    with pytest.raises(TypeError, match=words):
        chained.init(jax.random.key(0), (None, X))
