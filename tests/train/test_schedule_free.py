"""Schedule-free optimizers: what is evaluated, wherever their state stands, and what is read."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from train_problems import assert_bit_equal, batches, mlp_loss, mlp_params

from funcnn.train import Checkpoints, TrainState, average_params, fit, make_optimizer, make_step

NAMES = ("schedule_free_sgd", "schedule_free_adamw")
# In a chain, in groups with other options, of which one is frozen, and by themselves.
PLACES: Any = {
    "alone": {},
    "clipped": {"clip_norm": 1.0},
    "groups": {
        "clip_norm": 1.0,
        "groups": {
            "dense_0/b": "frozen",
            "dense_1/*": {"b1": 0.5, "learning_rate": 0.2},
        },
    },
}


def trained(optimizer, steps=5, **more):
    state = TrainState.create(mlp_params(), optimizer, 0, **more)
    return fit(make_step(mlp_loss, optimizer), state, batches, steps=steps)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_evaluated_params_are_the_average_that_the_paper_defines(name):
    """x after update t is the mean of z with the weights of the squared rates, written out."""
    optimizer = make_optimizer(name, learning_rate=0.3, warmup=3, b1=0.75)
    step, state = make_step(mlp_loss, optimizer), TrainState.create(mlp_params(), optimizer, 0)
    x: Any = mlp_params()
    found: Any = None
    weights, largest = 0.0, 0.0
    for t in range(6):
        state, _ = step(state, batches(t))
        largest = max(largest, min(t + 1, 3) / 3 * 0.3)  # as optax weighs it: one update ahead
        weights += largest**2
        z = jax.tree.map(np.array, state.optimizer_state.z)  # a step donates its state
        x = jax.tree.map(lambda x, z, c=largest**2 / weights: (1 - c) * x + c * z, x, z)
        y = jax.tree.map(lambda x, z: 0.75 * x + 0.25 * z, x, z)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), state.params, y)
        found = state.evaluation_params()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, x)
    assert np.abs(found["dense_1"]["w"] - state.params["dense_1"]["w"]).max() > 1e-2


def test_the_step_and_its_warm_up_are_optaxs_own():
    ours = make_optimizer("schedule_free_sgd", learning_rate=0.3, warmup=3)
    theirs = contrib.schedule_free_sgd(0.3, warmup_steps=3)
    assert_bit_equal(trained(ours), trained(theirs))


@pytest.mark.parametrize("place", PLACES)
def test_a_state_tells_by_itself_wherever_it_stands(place):
    optimizer = make_optimizer("schedule_free_sgd", learning_rate=0.3, **PLACES[place])
    state = trained(optimizer)
    found, params = state.evaluation_params(), state.params
    inner: Any = state.optimizer_state
    if place == "groups":
        states = [p.inner_state for p in inner[2].inner_states.values()]
    else:
        states = [inner] if place == "alone" else [inner[1]]
    of: Any = {}  # param: b1, z
    for b1, kept in [(s.b1, s.z) for s in states if hasattr(s, "z")]:
        for a, arrays in kept.items():
            own = {b: z for b, z in arrays.items() if not isinstance(z, optax.MaskedNode)}
            of |= {f"{a}/{b}": (float(b1), z) for b, z in own.items()}
    assert len(of) == (3 if place == "groups" else 4)
    for a, arrays in params.items():
        for b, y in arrays.items():
            b1, own = of.get(f"{a}/{b}", (1.0, y))
            np.testing.assert_allclose(found[a][b], (y - (1 - b1) * own) / b1, atol=2e-6)
            assert np.array_equal(found[a][b], y) == (f"{a}/{b}" not in of)


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_gives_them_back_with_and_without_the_optimizer(place, tmp_path):
    optimizer = make_optimizer("schedule_free_adamw", learning_rate=0.3, **PLACES[place])
    state, checkpoints = trained(optimizer), Checkpoints(tmp_path)
    checkpoints.save(state)
    wanted = state.evaluation_params()
    whole = checkpoints.restore(TrainState.create(mlp_params(), optimizer, 1))
    assert_bit_equal(whole, state)
    without = checkpoints.restore(jax.eval_shape(lambda s: s, state)._replace(optimizer_state=None))
    assert_bit_equal(without.evaluation_params(), wanted)
    assert_bit_equal(without.params, state.params)
    names = {f"{a}/{b}": leaf for a, arrays in wanted.items() for b, leaf in arrays.items()}
    assert_bit_equal(checkpoints.params(), names)


def test_of_other_optimizers_nothing_is_read(tmp_path):
    optimizer = make_optimizer("adam", learning_rate=0.3)
    state, checkpoints = trained(optimizer), Checkpoints(tmp_path)
    checkpoints.save(state)
    like = jax.eval_shape(lambda s: s, state)._replace(optimizer_state=None)
    assert checkpoints.restore(like).optimizer_state is None
    assert_bit_equal(checkpoints.params()["dense_0/w"], state.params["dense_0"]["w"])


@pytest.mark.parametrize(("dtype", "kept"), [("bfloat16", None), ("float32", "bfloat16")])
def test_the_dtype_is_that_of_the_params(dtype, kept):
    optimizer = contrib.schedule_free_sgd(0.5, state_dtype=kept)
    state = TrainState.create({"w": jnp.ones(2, dtype)}, optimizer, 0)
    assert state.evaluation_params()["w"].dtype == dtype


def test_an_average_of_them_is_refused_in_one_line():
    averaging = average_params(0.5)
    for options in PLACES.values():
        optimizer = make_optimizer("schedule_free_sgd", learning_rate=0.3, **options)
        line = "a schedule-free optimizer evaluates some of its own; leave one of the two out"
        with pytest.raises(ValueError, match=re.escape(line)):
            TrainState.create(mlp_params(), optimizer, 0, extra=averaging.start(mlp_params()))
