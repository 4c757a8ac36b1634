"""Layers used wrongly: one line that says what is wrong and what would be right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

# pyright: reportCallIssue=false, reportArgumentType=false

KEY = jax.random.key(0)
X, IMAGES, SEQUENCES = jnp.ones((2, 3)), jnp.ones((2, 8, 8, 3)), jnp.ones((2, 5, 3))
H = jnp.zeros((2, 4))
DENSE, GRU, LSTM = fnn.dense(4), fnn.gru(4), fnn.lstm(4)
TWO = fnn.chain(fnn.gru(4), fnn.gru(4))


def called(layer, x):
    return layer(layer.init(KEY, SEQUENCES), x)


CALLS = {
    "fnn.relu(x)": (lambda: fnn.relu(X), "call it as relu(params, x)", "it is fnn.rules.relu"),
    "fnn.dense(10)(x)": (lambda: DENSE(X), "dense is a layer: call it as dense(params, x)"),
    "x first": (lambda: DENSE(X, {}), "params come first", "found float32[2, 3] and dict"),
    "x first in a chain": (lambda: fnn.chain(DENSE)(X, {}), "chain: params come first"),
    "no params": (lambda: DENSE(None, X), "params come first", "found NoneType"),
    "key by position": (lambda: fnn.relu({}, X, KEY), "relu(params, x, key=key)"),
    "train=": (lambda: fnn.relu({}, X, train=True), "relu takes no option train", "key=key"),
    "a seed": (lambda: fnn.relu({}, X, key=3), "key is jax.random.key(seed) or None, found 3"),
    "x is a dict": (lambda: fnn.relu({}, {}), "relu: x must be an array, found a dict"),
    "x is None": (lambda: fnn.relu({}, None), "relu: x must be an array, found a NoneType"),
    "missing": (lambda: fnn.chain(a=fnn.chain(DENSE))({}, X), "a/dense_0: parameter 'w' is"),
    "missing table": (lambda: fnn.embedding(2, 3)({}, jnp.array(1)), "embedding: parameter"),
    "missing u": (lambda: GRU({}, SEQUENCES), "gru: parameter 'u' is missing"),
    "missing scale": (lambda: fnn.batch_norm()({}, X), "batch_norm: parameter 'scale' is missing"),
    "no shape": (lambda: fnn.flatten({}, 3.0), "flatten: x must have shape (N, ...), found float"),
}
INITS = {
    "swapped": (lambda: DENSE.init(X, KEY), "dense.init(jax.random.key(0), x): first a key"),
    "swapped in a chain": (lambda: fnn.chain(DENSE).init(X, KEY), "chain.init", "first a key"),
    "one argument": (lambda: DENSE.init(KEY), "takes a key and an input, found 1 argument"),
    "a seed": (lambda: DENSE.init(0, X), "first a key, then x; found int and float32[2, 3]"),
    "no key": (lambda: DENSE.init(None, X), "init needs a key"),
    "a shape": (lambda: DENSE.init(KEY, (2, 3)), "x is an array or a jax.ShapeDtypeStruct"),
    "None": (lambda: DENSE.init(KEY, None), "x is an array or a jax.ShapeDtypeStruct, found None"),
}
OPTIONS = {
    "float": (lambda: fnn.dense(3.0), "dense: features is a positive integer, found 3.0"),
    "negative": (lambda: fnn.conv(-4, (3, 3)), "conv: features is a positive integer, found -4"),
    "array": (lambda: fnn.dense(X), "dense makes a layer from its options and takes no arrays"),
    "initializer": (lambda: fnn.dense(3, initializer="he"), "initializer is a function", "'he'"),
    "no window": (lambda: fnn.conv(4, None), "conv: window is its size along each spatial axis"),
    "stride": (lambda: fnn.conv(4, (3, 3), stride=1.5), "conv: stride must be a positive integer"),
    "padding": (lambda: fnn.conv(4, (3, 3), padding="same"), 'padding must be "SAME"'),
    "dilation": (lambda: fnn.conv_transposed(4, (3,), dilation=0), "dilation must be a positive"),
    "pool": (lambda: fnn.max_pool((-1, 2)), "max_pool: window must be a positive integer"),
    "pool padding": (lambda: fnn.average_pool((2, 2), padding=1), "average_pool: padding must be"),
    "rate": (lambda: fnn.dropout("a"), "dropout: rate is a number, found 'a'"),
    "slope": (lambda: fnn.leaky_relu("a"), "leaky_relu: slope is a number, found 'a'"),
    "axis": (lambda: fnn.softmax(1.0), "softmax: axis is an integer, found 1.0"),
    "epsilon": (lambda: fnn.layer_norm("a"), "layer_norm: epsilon is a number, found 'a'"),
    "activation": (lambda: fnn.rnn(4, "sigmoid"), "rnn: activation is 'tanh' or 'relu'"),
    "constructor": (lambda: fnn.bidirectional(fnn.gru), "write gru(...)"),
    "widths": (lambda: fnn.models.mlp(hidden=8), "mlp: hidden is several sizes"),
}
CHAINS = {
    "a tuple": (lambda: fnn.chain((DENSE,)), "found tuple: give its layers one by one"),
    "a dict": (lambda: fnn.chain({"a": DENSE}), "found dict: give its layers by name"),
    "a name": (lambda: fnn.chain("relu"), "found 'relu': give the layer itself, such as fnn.relu"),
    "an array": (lambda: fnn.residual(np.ones(3)), "found float64[3]: give the layer itself"),
    "a class": (lambda: fnn.chain(fnn.Layer), "found the class Layer"),
    "chain": (lambda: fnn.chain(fnn.chain), "chain makes a layer and is not one"),
    "of x alone": (lambda: fnn.chain(jnp.tanh), "tanh takes (x, /): write lambda params"),
    "combine": (lambda: fnn.parallel(DENSE, combine=3), "combine is None, 'sum', 'concatenate'"),
    "true": (lambda: fnn.repeat(DENSE, True), "repeat: n is a positive integer, found True"),
}
CARRIES = {
    "swapped": (lambda: called(GRU, (SEQUENCES, H)), "gru: the carry comes first"),
    "swapped, none": (lambda: called(GRU, (SEQUENCES, None)), "gru: the carry comes first"),
    "swapped pair": (lambda: called(LSTM, (SEQUENCES, (H, H))), "lstm: the carry comes first"),
    "one of two": (lambda: called(LSTM, (H, SEQUENCES)), "lstm: the carry is (h, c)"),
    "two of one": (lambda: called(GRU, ((H, H), SEQUENCES)), "gru: the carry is h (N, H)"),
    "a list": (lambda: called(GRU, [H, SEQUENCES]), "gru: the input is x (N, T, D)"),
    "one way": (
        lambda: called(fnn.bidirectional(LSTM), (H, SEQUENCES)),
        "the carry (forward, backward)",
    ),
    "chain": (lambda: called(TWO, (None, SEQUENCES)), "gru_1: gru_0 passes on (carry, y)"),
    "init": (lambda: TWO.init(KEY, (None, SEQUENCES)), "gru_1: gru_0 passes on (carry, y)"),
    "nested": (
        lambda: called(fnn.chain(fnn.chain(GRU), DENSE), (H, SEQUENCES)),
        "dense_0: chain_0 passes on (carry, y)",
    ),
    "repeat": (
        lambda: called(fnn.repeat(fnn.gru(3), 2), (jnp.zeros((2, 3)), SEQUENCES)),
        "the next gru: gru passes on (carry, y)",
    ),
    "residual": (
        lambda: called(fnn.residual(fnn.gru(3)), (None, SEQUENCES)),
        "residual and parallel join arrays, found a tuple",
    ),
    "sum": (
        lambda: called(fnn.parallel(GRU, GRU, combine="sum"), (None, SEQUENCES)),
        "residual and parallel join arrays, found a tuple",
    ),
}
EVERY = {
    f"{kind}, {name}": case
    for kind, cases in {
        "call": CALLS,
        "init": INITS,
        "option": OPTIONS,
        "chain": CHAINS,
        "carry": CARRIES,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", EVERY)
def test_wrong_use_is_one_line_with_the_cure(name):
    wrong, *parts = EVERY[name]
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        wrong()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


# What stays right


def test_integers_of_numpy_and_lists_are_options_too():
    assert fnn.dense(np.int64(3)).init(KEY, X)["w"].shape == (3, 3)
    assert fnn.max_pool([2, 2])({}, IMAGES).shape == fnn.max_pool(2)({}, IMAGES).shape
    assert fnn.conv(4, [3, 3], padding=[[1, 1], [0, 2]])  # as they come out of a config


def test_init_takes_its_arguments_by_name():
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    assert DENSE.init(key=KEY, x=shape)["w"].shape == (3, 4)
    assert fnn.relu.init(None, X) == {}


def test_a_carry_goes_through_one_recurrent_layer_and_a_function_may_take_it():
    params = GRU.init(KEY, SEQUENCES)
    expected = GRU(params, (H, SEQUENCES))
    for found in (
        fnn.chain(GRU)({"gru_0": params}, (H, SEQUENCES)),
        fnn.chain(lambda p, x: (H, x), GRU, lambda p, both: both)({"gru_0": params}, SEQUENCES),
    ):
        np.testing.assert_array_equal(found[1], expected[1])


def test_a_function_with_params_of_its_own_kind_stays_one():
    scale = fnn.chain(lambda w, x: w * x)
    assert scale({"function_0": 2.0}, 3.0) == 6.0
