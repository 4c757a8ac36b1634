from collections.abc import Callable

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import batches, mlp_loss, mlp_params

from funcnn.train import TrainState, make_step


def test_fields_have_their_types():
    state = TrainState.create(mlp_params(), optax.adam(0.1), seed=2**32 - 1)
    assert (state.step.dtype, state.step.shape) == (jnp.int32, ())
    assert (state.seed.dtype, state.seed.shape, int(state.seed)) == (jnp.uint32, (), 2**32 - 1)
    fields = ("params", "optimizer_state", "step", "seed", "statistics", "extra", "health")
    assert state._fields == fields
    assert (state.statistics, state.extra, state.health) == ({}, {}, {})


def test_donation_leaves_the_callers_arrays_and_takes_the_states():
    params = jax.tree.map(jnp.asarray, mlp_params())
    state = TrainState.create(params, optax.adam(0.1), seed=0)
    step = make_step(mlp_loss, optax.adam(0.1))
    new, _ = step(state, batches(0))
    assert state.params["dense_0"]["w"].is_deleted()
    assert not new.params["dense_0"]["w"].is_deleted()
    np.testing.assert_array_equal(params["dense_0"]["w"], mlp_params()["dense_0"]["w"])


def test_an_optimizer_that_keeps_the_params_themselves_can_be_donated():
    optimizer = optax.contrib.schedule_free_sgd(0.1)
    state = TrainState.create({"w": jnp.ones(3)}, optimizer, seed=0)
    step = make_step(lambda params, batch, key: jnp.sum(jnp.square(params["w"])), optimizer)
    for _ in range(3):
        state, _ = step(state, jnp.zeros(1))
    assert float(jnp.sum(state.params["w"])) < 3.0


def test_one_array_in_two_places_can_be_donated():
    shared = jnp.ones(3)
    state = TrainState.create({"a": shared, "b": shared}, optax.sgd(0.1), seed=0)
    step = make_step(lambda params, batch, key: jnp.sum(params["a"] * params["b"]), optax.sgd(0.1))
    state, _ = step(state, jnp.zeros(1))
    np.testing.assert_allclose(state.params["a"], 0.9, rtol=1e-6)


def test_weak_types_do_not_reach_the_step():
    state = TrainState.create({"scale": 0.5}, optax.sgd(0.1), seed=0)
    assert not jax.typeof(state.params["scale"]).weak_type


def test_params_that_cannot_be_trained_are_named():
    params = {"embedding": {"index": np.zeros((3, 2), np.int32)}}
    line = r"params leaf 'embedding/index' is int32\[3, 2\]: every leaf must be floating point"
    with pytest.raises(TypeError, match=line):
        TrainState.create(params, optax.sgd(0.1), seed=0)


@pytest.mark.parametrize(
    ("seed", "line"), [(-1, "from 0 to"), (2**32, "from 0 to"), (1.5, "integer"), (True, "integer")]
)
def test_seeds_that_do_not_fit(seed, line):
    with pytest.raises(ValueError, match=line):
        TrainState.create(mlp_params(), optax.sgd(0.1), seed=seed)


def test_a_leaf_that_is_no_array_is_named_with_the_cure():
    class Module(equinox.Module):
        w: jax.Array
        activation: Callable

    module = Module(jnp.ones(2), jax.nn.relu)
    with pytest.raises(TypeError, match=r"'activation' is a function: .*equinox.partition\(module"):
        TrainState.create(module, optax.sgd(0.1), 0)
    with pytest.raises(TypeError, match="'name' is a str: every leaf must be an array"):
        TrainState.create({"w": jnp.ones(2), "name": "x"}, optax.sgd(0.1), 0)
    params, _ = equinox.partition(module, equinox.is_inexact_array)
    assert TrainState.create(params, optax.sgd(0.1), 0).params.w.shape == (2,)


def test_no_params_are_one_line():
    with pytest.raises(TypeError, match=r"^params hold no array: there is nothing to train$"):
        TrainState.create({}, optax.sgd(0.1), seed=0)
