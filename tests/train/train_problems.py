"""Small problems that the tests of training share: two nets in plain jnp, and their batches."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

ROWS, CLASSES = 6, 4


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mlp_params():
    return {
        "dense_0": {"w": 0.3 * normal(0, 16, 11), "b": 0.1 * normal(1, 11)},
        "dense_1": {"w": 0.3 * normal(2, 11, CLASSES), "b": 0.1 * normal(3, CLASSES)},
    }


def mlp_loss(params, batch, key):
    """A net with dropout, so that a wrong key shows, and a metric."""
    first, second = params["dense_0"], params["dense_1"]
    hidden = jnp.tanh(batch["x"] @ first["w"] + first["b"][None])  # (B, 11)
    hidden = jnp.where(jax.random.bernoulli(key, 0.8, hidden.shape), hidden / 0.8, 0.0)
    logits = hidden @ second["w"] + second["b"][None]  # (B, classes)
    return cross_entropy(logits, batch["y"])


def conv_params():
    return {"conv": 0.3 * normal(4, 9, 5), "conv_1": 0.2 * normal(5, 45, 6), "w": normal(6, 6, 4)}


def conv_loss(params, batch, key):
    """Two 3x3 convolutions as matrix products over patches, global average, one dense layer."""
    x = batch["x"].reshape(-1, 4, 4, 1)
    for name in ("conv", "conv_1"):
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
        x = jax.nn.relu(jnp.concatenate(patches, axis=-1) @ params[name])  # (B, 4, 4, C)
    return cross_entropy(jnp.mean(x, axis=(1, 2)) @ params["w"], batch["y"])


def cross_entropy(logits, labels):
    rows = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    accuracy = jnp.mean((jnp.argmax(logits, axis=1) == labels).astype(jnp.float32))
    return -jnp.mean(rows), {"accuracy": accuracy}


def batches(step, count=None):
    """The batch of a step, or of `count` steps stacked, from the step alone."""
    if count is not None:
        return jax.tree.map(
            lambda *rows: np.stack(rows), *[batches(step + i) for i in range(count)]
        )
    labels = np.random.default_rng(step).integers(0, CLASSES, ROWS).astype(np.int32)
    return {"x": normal(100 + step, ROWS, 16), "y": labels}


@contextlib.contextmanager
def compilations():
    """The names of the programs that XLA compiles inside the block, in a list that fills up."""
    names = []

    def listen(event, duration_secs, **labels):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(labels["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def assert_bit_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
