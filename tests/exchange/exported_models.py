"""One small network for each layer that a file may hold, with its params and an input."""

import jax
import jax.numpy as jnp
import numpy as np

import funcnn as fnn

IMAGE, SEQUENCE, ROW = (3, 9, 8, 4), (3, 5, 2), (3, 5)

MODELS = {
    "mlp": (fnn.models.mlp(hidden=[6]), (3, 4, 4, 1)),
    "lenet": (fnn.models.lenet([4, 4], hidden=8, batch_norm=True), (3, 8, 8, 3)),
    "conv": (fnn.conv(3, (3, 2), stride=(2, 1)), IMAGE),
    "conv, padded": (fnn.conv(3, (3, 3), padding=((2, 0), (0, 3)), dilation=2), IMAGE),
    "conv, groups": (fnn.conv(6, (3, 3), groups=2), IMAGE),
    "conv, depthwise": (fnn.conv(4, (3, 3), groups=4, bias=False), IMAGE),
    "conv, winograd": (fnn.conv(32, (3, 3)), (2, 16, 16, 32)),
    "conv, one axis": (fnn.conv(3, (3,), padding="VALID"), (3, 7, 2)),
    "conv, volume": (fnn.conv(2, (2, 2, 2)), (2, 4, 3, 4, 2)),
    "transposed": (fnn.conv_transposed(3, (3, 3), stride=2), IMAGE),
    "transposed, valid": (fnn.conv_transposed(3, (3, 2), (2, 3), "VALID", dilation=2), IMAGE),
    "transposed, padded": (
        fnn.conv_transposed(3, (3, 3), stride=2, padding=((5, 1), (0, 4))),
        IMAGE,
    ),
    "max pool, overlapping": (fnn.max_pool((3, 3), 2), IMAGE),
    "max pool, padded": (fnn.max_pool((3, 3), 1, padding="SAME"), IMAGE),
    "average pool": (fnn.average_pool((3, 3), 2, padding="SAME"), IMAGE),
    "global": (fnn.parallel(fnn.global_max_pool, fnn.global_average_pool, combine="sum"), IMAGE),
    "norms": (fnn.chain(fnn.group_norm(2), fnn.instance_norm(), fnn.layer_norm()), IMAGE),
    "rms norm": (fnn.rms_norm(), ROW),
    "embedding": (fnn.chain(fnn.embedding(7, 4), fnn.dense(2)), None),
    "gpt": (fnn.gpt(7, length=4, width=8, depth=2, heads=2, window=2, soft_cap=3.0), None),
    "llama": (fnn.llama(7, width=8, depth=2, heads=4, key_heads=2, hidden=12), None),
    "alibi": (fnn.self_attention(4, 2, causal=True, alibi=True), (3, 5, 4)),
    "rnn": (fnn.rnn(3, "relu"), SEQUENCE),
    "lstm": (fnn.chain(fnn.lstm(3), fnn.lstm(2, reverse=True)), SEQUENCE),
    "bidirectional": (fnn.bidirectional(fnn.gru(3)), SEQUENCE),
    "repeat": (fnn.repeat(fnn.chain(fnn.dense(5), fnn.gelu()), 3), ROW),
    "branches": (
        fnn.parallel(fnn.residual(fnn.dense(5)), fnn.dense(2), combine="concatenate"),
        ROW,
    ),
    "activations": (
        fnn.chain(
            *(fnn.relu, fnn.dense(5), fnn.sigmoid, fnn.dense(5), fnn.tanh, fnn.dense(5)),
            *(fnn.softplus, fnn.silu, fnn.elu(), fnn.leaky_relu(), fnn.gelu(approximate=False)),
            *(fnn.softmax(), fnn.log_softmax(), fnn.dropout(0.5)),
        ),
        ROW,
    ),
    "with lengths": (lambda params, x: fnn.gru(3)(params, (None, *x))[1], "lengths"),
}


def built(name):
    """The model, params without a zero, and an input, all drawn."""
    model, shape = MODELS[name]
    random = np.random.default_rng(sum(name.encode()))
    x = random.normal(size=SEQUENCE if isinstance(shape, str) else shape or ()).astype(np.float32)
    if shape is None:
        x = np.array([[3, 0], [6, 6], [1, 9]], np.int32)  # 9 is outside of the table
    layer = fnn.gru(3) if isinstance(shape, str) else model
    params = layer.init(jax.random.key(0), jnp.asarray(x))
    params = jax.tree.map(lambda a: a + random.normal(0, 0.1, a.shape).astype(a.dtype), params)
    if isinstance(shape, str):
        x = x, np.array([5, 2, 3], np.int32)
    elif layer.collect:
        _, statistics = layer.value_and_statistics(params, jnp.asarray(x), jax.random.key(1))
        params = fnn.fold_statistics(params, statistics)
    return model, params, jax.tree.map(jnp.asarray, x)


def rows(x, numbers):
    """These rows of an input, of each of its arrays."""
    return jax.tree.map(lambda a: a[np.asarray(numbers)], x)


def difference(found, expected):
    """The largest difference, in units of the largest number; NaN at the same places only."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    return np.nanmax(np.abs(found - expected)) / np.nanmax(np.abs(expected))
