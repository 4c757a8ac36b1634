"""Whole models, their training step and `backprop` on eight devices, in each kind of sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from on_devices import largest_error, mesh_of

import funcnn as fnn

RANDOM = np.random.default_rng(0)
IMAGES, TOKENS = RANDOM.normal(size=(16, 6, 6, 2)), RANDOM.integers(0, 5, (16, 7))
CONVOLUTION = fnn.conv(4, (3, 3), bias=False)
SKIP = fnn.residual(fnn.chain(fnn.dense(8), fnn.tanh))
MODELS = {
    "mlp": (fnn.chain(fnn.flatten, fnn.dense(8), fnn.relu, fnn.dense(5)), IMAGES),
    "batch norm": (
        fnn.chain(CONVOLUTION, fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten),
        IMAGES,
    ),
    "dropout": (fnn.chain(fnn.flatten, fnn.dropout(0.3), fnn.dense(5)), IMAGES),
    "group norm": (
        fnn.chain(CONVOLUTION, fnn.group_norm(2), fnn.gelu(), fnn.global_average_pool),
        IMAGES,
    ),
    "repeat": (fnn.chain(fnn.flatten, fnn.dense(8), fnn.repeat(SKIP, 3), fnn.layer_norm()), IMAGES),
    "recurrent": (fnn.chain(fnn.embedding(5, 6), fnn.lstm(8), fnn.dense(5)), TOKENS),
    "gpt": (fnn.gpt(5, length=7, width=8, depth=2, heads=2), TOKENS),
    "llama": (fnn.llama(5, width=8, depth=2, heads=4, key_heads=2, hidden=12), TOKENS),
    "composite": (fnn.unet(2, width=3, depth=1), IMAGES[:, :4, :4]),
}
# The statistics of a batch are those of all devices only where the compiler sees all of it, and a
# key draws for the rows that a device has.
OF_THE_WHOLE_BATCH = {"batch norm", "dropout"}


def of_model(name):
    model, x = MODELS[name]
    x = jnp.asarray(x)
    params = jax.tree.map(lambda a: a.astype(jnp.float64), model.init(jax.random.key(0), x))

    def loss(params, x, key=None):
        y = model(params, x, key=key)
        return jnp.sum(jnp.tanh(jax.sharding.reshard(y, PartitionSpec())) ** 2) / 100

    return model, params, x, loss


def laid(params, x, mesh):
    rows = NamedSharding(mesh, PartitionSpec("d"))
    return jax.device_put(params, NamedSharding(mesh, PartitionSpec())), jax.device_put(x, rows)


@pytest.fixture(autouse=True)
def in_float64(strict_jax):
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", sorted(set(MODELS) - OF_THE_WHOLE_BATCH))
def test_in_a_shard_map(name):
    model, params, x, _ = of_model(name)

    def loss(params, x):
        return jnp.sum(jnp.tanh(model(params, x)) ** 2) / 100

    truth = jax.value_and_grad(fnn.without_rules(loss))(params, x)
    mapped = jax.shard_map(
        lambda params, x: jax.lax.psum(loss(params, x), "d"),
        mesh=mesh_of(8),
        in_specs=(PartitionSpec(), PartitionSpec("d")),
        out_specs=PartitionSpec(),
    )
    assert largest_error(jax.jit(jax.value_and_grad(mapped))(params, x), truth) < 1e-10


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("name", MODELS)
def test_in_a_sharded_batch(name, kind):
    """The gradient, the recursion of backprop, and a step of training that donates its state."""
    model, params, x, loss = of_model(name)
    key = jax.random.key(3) if name in OF_THE_WHOLE_BATCH else None
    loss_of = lambda params, x: loss(params, x, key)  # noqa: E731
    plain = fnn.without_rules(lambda params, x: jnp.sum(jnp.tanh(model(params, x, key=key)) ** 2))
    truth = jax.tree.map(lambda a: a / 100, jax.value_and_grad(plain)(params, x))
    dy = jnp.ones_like(model(params, x, key=key))
    of_one = fnn.backprop(model, params, x, dy, key=key)
    mesh = mesh_of(8, kind)
    with jax.set_mesh(mesh):
        placed, rows = laid(params, x, mesh)
        if kind is AxisType.Auto:
            loss_of = lambda params, x: plain_loss(model, params, x, key)  # noqa: E731
        assert largest_error(jax.jit(jax.value_and_grad(loss_of))(placed, rows), truth) < 1e-10
        found = jax.jit(lambda params, x, dy: fnn.backprop(model, params, x, dy, key=key))(
            placed, rows, jax.device_put(dy, rows.sharding)
        )
        assert largest_error(found, of_one) < 1e-10
        optimizer = optax.sgd(0.1)
        step = fnn.train.make_step(lambda params, batch, _: loss_of(params, batch["x"]), optimizer)
        state = fnn.train.TrainState.create(placed, optimizer, seed=0)
        state, metrics = step(state, {"x": rows})
    moved = jax.tree.map(lambda a, g: a - 0.1 * g, params, truth[1])
    assert largest_error(state.params, moved) < 1e-10
    assert largest_error(metrics["loss"], truth[0]) < 1e-10


def plain_loss(model, params, x, key):
    return jnp.sum(jnp.tanh(model(params, x, key=key)) ** 2) / 100
