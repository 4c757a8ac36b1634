"""Updates that a guard refuses: halted, with the place where it arose, or skipped and counted."""

from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import batches, mlp_loss, mlp_params

from funcnn.train import Checkpoints, Guard, TrainingError, TrainState, fit, make_step

OPTIMIZER = optax.adam(0.01)
BAD = {"nan": np.nan, "inf": np.inf}


def poisoned(at, value, row=2):
    """The batches, of which that of step `at` has one bad number."""

    def poisoned_batches(step, count=None):
        batch = batches(step, count)
        if step <= at < step + (count or 1):
            batch["x"] = batch["x"].copy()
            batch["x"][(at - step, row, 3) if count else (row, 3)] = value
        return batch

    return poisoned_batches


def scaled_loss(params, batch, key):
    value, metrics = mlp_loss(params, batch, key)
    return value * batch["scale"], metrics


def run(guard, batches, loss=mlp_loss, steps=8, steps_per_call=1, **options):
    step = make_step(loss, OPTIMIZER, steps_per_call=steps_per_call, guard=guard)
    state = TrainState.create(mlp_params(), OPTIMIZER, seed=0, guard=guard)
    return fit(step, state, batches, steps=steps, log_every=100, **options)


@pytest.mark.parametrize("steps_per_call", [1, 4])
@pytest.mark.parametrize("value", BAD)
def test_halt_keeps_the_state_before_the_bad_step(tmp_path, value, steps_per_call):
    checkpoints = Checkpoints(tmp_path / "halted")
    bad = poisoned(5, BAD[value])
    with pytest.raises(TrainingError) as raised:
        run(Guard(), bad, steps_per_call=steps_per_call, checkpoints=checkpoints)
    assert str(raised.value).startswith("step 6: loss is ")
    assert "row 2 of the batch, 'x', is not finite; this update is not made" in str(raised.value)
    assert checkpoints.latest() == 5
    clean, _ = run(Guard(), batches, steps=5, steps_per_call=steps_per_call)
    chex.assert_trees_all_equal(checkpoints.restore(clean), clean)


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_skip_leaves_the_bad_step_out_and_counts_it(steps_per_call):
    guard = Guard("skip")
    state, history = run(guard, poisoned(5, np.nan), steps_per_call=steps_per_call)
    assert history[-1]["skipped"] == 1
    assert int(state.step) == 8
    # The same updates by hand: all but that of batch 5, each with the key of its step.
    step = make_step(mlp_loss, OPTIMIZER, guard=guard)
    other = TrainState.create(mlp_params(), OPTIMIZER, seed=0, guard=guard)
    for i in range(8):
        if i == 5:
            other = other._replace(step=other.step + 1)
        else:
            other, _ = step(other, batches(i))
    assert int(state.health["skipped"]) == 1
    assert int(other.health["skipped"]) == 0
    one, two = (s._replace(health={**s.health, "skipped": 0}) for s in (state, other))
    chex.assert_trees_all_equal(one, two)


def test_a_guard_changes_no_update():
    guarded, _ = run(Guard(spike=20.0), batches)
    step, state = make_step(mlp_loss, OPTIMIZER), TrainState.create(mlp_params(), OPTIMIZER, seed=0)
    plain, _ = fit(step, state, batches, steps=8)
    # To rounding: a compiler may fuse the choice between two states with what made the new one.
    chex.assert_trees_all_close(guarded._replace(health={}), plain, rtol=1e-5, atol=1e-7)


def jumping(at, factor):
    return lambda step: {**batches(step), "scale": np.float32(factor if step == at else 1.0)}


@pytest.mark.parametrize("action", ["halt", "skip"])
def test_a_spike_is_refused_once_enough_is_known(action):
    def train(at):
        return run(Guard(action, spike=6.0), jumping(at, 1e6), scaled_loss, steps=40)

    early, _ = train(5)  # what is large is not known yet
    assert int(early.health["skipped"]) == int(early.health["halted_at"]) == 0
    if action == "halt":
        with pytest.raises(
            TrainingError, match=r"^step 31: loss is .*e\+0\d, gradient norm .* mean"
        ):
            train(30)
        return
    _, history = train(30)
    assert history[-1]["skipped"] == 1
    without, _ = run(Guard(action), jumping(30, 1e6), scaled_loss, steps=40)
    assert int(without.health["skipped"]) == 0


def test_what_is_refused_moves_no_mean():
    state, _ = run(Guard("skip", spike=6.0), jumping(30, 1e6), scaled_loss, steps=31)
    assert float(state.health["loss_mean"]) < 10
    assert int(state.health["seen"]) == 30


def half_loss(params, batch, key):
    """A gradient so small that float16 has no number for it, unless the loss is scaled."""
    y = params.astype("float16") * jnp.asarray(batch, "float16")
    return jnp.sum(y).astype("float32") * 2.0**-13


def test_a_loss_scale_brings_back_what_vanishes_and_halves_at_overflow():
    batch = np.array([2.0**-13], np.float32)
    optimizer = optax.sgd(1.0)

    def after(guard, batch, steps=1):
        state = TrainState.create(jnp.ones(1), optimizer, seed=0, guard=guard)
        step, metrics = make_step(half_loss, optimizer, guard=guard), {}
        for _ in range(steps):
            state, metrics = step(state, batch)
        return state, metrics

    plain, _ = after(None, batch)
    scaled, metrics = after(Guard(loss_scale=2.0**10), batch)
    assert float(plain.params[0]) == 1.0  # 2**-26 is no number of float16
    assert float(metrics["gradient_norm"]) == 2.0**-26
    assert float(metrics["loss_scale"]) == 2.0**10
    assert int(scaled.health["scale_age"]) == 1
    large = np.array([2.0**10], np.float32)
    state, metrics = after(Guard(loss_scale=2.0**23), large, steps=1)
    assert float(state.params[0]) == 1.0  # overflow: no update, half the scale, nothing halted
    assert float(state.health["loss_scale"]) == 2.0**22
    assert int(metrics["halted_at"]) == 0
    assert int(state.step) == 1
    state, metrics = after(Guard(loss_scale=2.0**23), large, steps=6)
    assert np.isfinite(metrics["gradient_norm"])
    assert float(state.params[0]) < 1.0


def test_an_overflow_in_a_logged_call_is_no_reason_to_stop():
    guard, optimizer = Guard(loss_scale=2.0**15), optax.sgd(0.1)

    def loss(params, batch, key):
        return jnp.sum(params.astype("float16") * jnp.asarray(batch, "float16")).astype("float32")

    step = make_step(loss, optimizer, guard=guard)
    state = TrainState.create(jnp.ones(1), optimizer, seed=0, guard=guard)
    # 2**15 * 8 is no number of float16, and no more is 2**14 * 8.
    state, history = fit(step, state, lambda step: np.full(1, 8, "f4"), steps=4, log_every=1)
    assert [record["loss_scale"] for record in history] == [2.0**15, 2.0**14, 2.0**13, 2.0**12]
    assert not np.isfinite(history[1]["gradient_norm"])
    assert np.isfinite(history[3]["gradient_norm"])


def test_step_and_state_share_one_guard():
    step = make_step(mlp_loss, OPTIMIZER, guard=Guard())
    state = TrainState.create(mlp_params(), OPTIMIZER, seed=0)
    with pytest.raises(TypeError, match=r"^the step's guard is not that of the state"):
        step(state, batches(0))
    other = TrainState.create(mlp_params(), OPTIMIZER, seed=0, guard=Guard(loss_scale=2.0))
    with pytest.raises(TypeError, match=r"^the step's guard is not that of the state"):
        step(other, batches(0))


@pytest.mark.parametrize(
    ("guard", "message"),
    [
        (Guard("stop"), r"^guard: action is 'halt' or 'skip', found 'stop'"),  # pyright: ignore
        (Guard(spike=-1.0), r"^guard: spike is a number above 0, found -1.0"),
        (Guard(loss_scale=True), r"^guard: loss_scale is a number above 0, found True"),
        (
            Guard(loss_scale=2.0**24),
            r"^guard: loss_scale is a number below 2\*\*24, found 16777216",
        ),
        (Guard(loss_scale=np.inf), r"^guard: loss_scale is a number above 0, found inf"),
    ],
)
def test_a_wrong_guard_is_one_line(guard, message):
    with pytest.raises(ValueError, match=message):
        make_step(mlp_loss, OPTIMIZER, guard=guard)


def test_what_is_no_guard_is_one_line():
    wrong: Any = "skip"
    with pytest.raises(TypeError, match=r"^guard is a fnn.train.Guard, .* found str 'skip'"):
        make_step(mlp_loss, OPTIMIZER, guard=wrong)
    with pytest.raises(TypeError, match=r"^guard is a fnn.train.Guard, .* found str 'skip'"):
        TrainState.create(mlp_params(), OPTIMIZER, 0, guard=wrong)
    Guard(spike=np.float32(6)).check()  # pyright: ignore


def test_a_halted_state_keeps_the_scale_of_its_loss():
    """Whatever the bad step, and the rest of its call, would make of it."""
    guard = Guard(loss_scale=2.0**15)
    step = make_step(mlp_loss, OPTIMIZER, steps_per_call=8, guard=guard)
    state = TrainState.create(mlp_params(), OPTIMIZER, seed=0, guard=guard)
    state, _ = step(state, poisoned(5, np.nan)(0, 8))
    assert int(state.health["halted_at"]) == 6
    assert float(state.health["loss_scale"]) == 2.0**15
    assert int(state.health["scale_age"]) == 5


def test_a_halted_run_goes_on_from_where_it_halted(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(TrainingError):
        run(Guard(), poisoned(5, np.nan), checkpoints=checkpoints)
    guard = Guard("skip")
    step = make_step(mlp_loss, OPTIMIZER, guard=guard)
    like = TrainState.create(mlp_params(), OPTIMIZER, seed=0, guard=guard)
    state, history = fit(step, checkpoints.restore(like), poisoned(5, np.nan), steps=8)
    straight, _ = run(guard, poisoned(5, np.nan))
    chex.assert_trees_all_equal(state.params, straight.params)
    assert history[-1]["skipped"] == 1
