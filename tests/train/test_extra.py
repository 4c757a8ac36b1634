"""What a state carries beside its params: carries, averages, a target network."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal, batches, mlp_loss, mlp_params, normal

import funcnn as fnn
from funcnn.train import (
    CheckpointError,
    Checkpoints,
    TrainingError,
    TrainState,
    average_params,
    fit,
    make_evaluation,
    make_step,
)

OPTIMIZER = optax.adamw(0.01)
CELL = fnn.chain(fnn.gru(7), fnn.dense(4))


def sequences(step, count=None):
    """The piece of a step from two endless sequences: x (2, 5, 3) and targets (2, 5, 4)."""
    if count is not None:
        pieces = [sequences(step + i) for i in range(count)]
        return jax.tree.map(lambda *rows: np.stack(rows), *pieces)
    return {"x": normal(step, 2, 5, 3), "y": normal(100 + step, 2, 5, 4)}


def truncated_loss(params, batch, key, extra):
    """One piece, from the carry that the piece before has left."""
    carry, h = fnn.gru(7)(params["gru"], (extra["carry"], batch["x"]))
    y = fnn.dense(4)(params["dense"], h)  # (2, 5, 4)
    seen = extra["seen"] + batch["x"].shape[1]
    return jnp.mean((y - batch["y"]) ** 2), {"extra": {**extra, "carry": carry, "seen": seen}}


AVERAGING = average_params(0.9)


def start():
    x = sequences(0)["x"]
    params = {
        "gru": fnn.gru(7).init(jax.random.key(0), x),
        "dense": fnn.dense(4).init(jax.random.key(1), jnp.zeros((2, 5, 7))),
    }
    extra = {"carry": jnp.zeros((2, 7)), "seen": jnp.int32(0), **AVERAGING.start(params)}
    return TrainState.create(params, OPTIMIZER, seed=3, extra=extra)


@pytest.fixture(scope="module")
def steps():
    def make(k):
        options = {"steps_per_call": k, "after_update": AVERAGING.update}
        return make_step(truncated_loss, OPTIMIZER, **options)

    return {k: make(k) for k in (1, 8)}


def test_carry_and_averages_are_the_same_by_one_step_or_by_eight_a_call(steps):
    one, records = fit(steps[1], start(), sequences, steps=21, log_every=1)
    eight, few = fit(steps[8], start(), sequences, steps=21, log_every=1)
    assert_bit_equal(one, eight)
    assert few == [records[7], records[15], records[20]]
    assert int(one.extra["seen"]) == 105


def test_a_run_that_goes_on_carries_on_bit_for_bit(steps, tmp_path):
    straight, _ = fit(steps[1], start(), sequences, steps=21)
    checkpoints, left = Checkpoints(tmp_path), iter([False, True])
    fit(steps[8], start(), sequences, steps=21, checkpoints=checkpoints, stop=lambda: next(left))
    restored = checkpoints.restore(start())
    assert int(restored.step) == 8
    assert float(jnp.abs(restored.extra["carry"]).max()) > 0
    resumed, _ = fit(steps[1], restored, sequences, steps=21)
    assert_bit_equal(resumed, straight)
    # A carry that is lost shows: the run ends elsewhere.
    forgotten = checkpoints.restore(start())
    forgotten.extra["carry"] = jnp.zeros((2, 7))
    other, _ = fit(steps[1], forgotten, sequences, steps=21)
    assert np.any(np.asarray(other.params["gru"]["w"]) != np.asarray(straight.params["gru"]["w"]))
    manifest = json.loads((tmp_path / "step_00000008" / "manifest.json").read_text())
    names = {name for name in manifest["leaves"] if name.startswith("extra/")}
    assert {"extra/carry", "extra/seen", "extra/averages/dense/w"} < names


def test_the_carry_goes_forward_and_no_gradient_goes_back_through_it(steps):
    """Two pieces from a carry are two pieces of one sequence, the gradient of each its own."""
    state, batch = start(), [sequences(0), sequences(1)]
    layer = fnn.gru(7)
    whole = jnp.concatenate([batch[0]["x"], batch[1]["x"]], axis=1)
    frozen = make_step(truncated_loss, optax.sgd(0.0))
    state = TrainState.create(state.params, optax.sgd(0.0), 3, extra=state.extra)
    params = jax.tree.map(np.asarray, state.params)
    for piece in batch:
        state, metrics = frozen(state, piece)
    carry, _ = layer(params["gru"], (jnp.zeros((2, 7)), whole))
    np.testing.assert_allclose(state.extra["carry"], carry, rtol=1e-5, atol=1e-6)
    middle, _ = layer(params["gru"], (jnp.zeros((2, 7)), batch[0]["x"]))

    def second(params):
        return truncated_loss(params, batch[1], None, {"carry": middle, "seen": jnp.int32(0)})[0]

    gradient = jax.grad(second)(params)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)  # pyright: ignore


def test_donation_takes_the_extra_of_the_state_and_leaves_the_callers(steps):
    params, carry = {"w": jnp.ones(2)}, jnp.ones(3)
    state = TrainState.create(params, optax.sgd(0.1), 0, extra={"carry": carry, "old": params})

    def loss(params, batch, key, extra):
        return jnp.sum(params["w"]), {"extra": {**extra, "carry": extra["carry"] + 1}}

    new, _ = make_step(loss, optax.sgd(0.1))(state, jnp.zeros(1))
    assert state.extra["carry"].is_deleted()
    assert new.extra["carry"].tolist() == [2.0] * 3
    assert carry.tolist() == [1.0] * 3
    assert params["w"].tolist() == [1.0] * 2


def test_a_loss_that_knows_nothing_of_it_is_the_same_program():
    """Neither an empty extra nor one that nobody takes adds an equation to the step."""
    state = TrainState.create(mlp_params(), OPTIMIZER, seed=0)
    step = make_step(mlp_loss, OPTIMIZER)
    with_extra = TrainState.create(mlp_params(), OPTIMIZER, seed=0, extra={"n": jnp.ones(2)})
    one, other = step(state, batches(0))[0], step(with_extra, batches(0))[0]
    assert other.extra["n"].tolist() == [1.0, 1.0]
    assert_bit_equal(one, other._replace(extra={}))
    few, more = (
        len(jax.make_jaxpr(step.body)(s, batches(0)).jaxpr.eqns)
        for s in (one, other)
    )  # fmt: skip
    assert few == more


def returning(extra):
    return lambda params, batch, key: (jnp.sum(params["w"]), {"extra": extra})


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ({"c": jnp.zeros(3)}, r"returns another extra .*: c changed from float32\[2\] to .*\[3\]"),
        ({"c": jnp.zeros(2, jnp.int32)}, r"c changed from float32\[2\] to int32\[2\]"),
        ({"c": jnp.zeros(2), "d": jnp.zeros(1)}, r"extra .*: d \(float32\[1\]\) is new"),
        ({}, r"extra .*: c \(float32\[2\]\) is missing"),
    ],
)
def test_another_extra_is_one_line(extra, line):
    state = TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0, extra={"c": jnp.zeros(2)})
    with pytest.raises(TypeError, match="the loss " + line if "retu" in line else line) as raised:
        make_step(returning(extra), OPTIMIZER)(state, jnp.zeros(1))
    assert "\n" not in str(raised.value)
    assert "TrainState.create(..., extra=...)" in str(raised.value)
    assert not state.params["w"].is_deleted()
    step = make_step(lambda p, b, k: jnp.sum(p["w"]), OPTIMIZER, after_update=lambda p, e, s: extra)
    with pytest.raises(TypeError, match="after_update returns another extra"):
        step(state, jnp.zeros(1))


def test_a_weak_type_does_not_make_the_second_step_compile_anew():
    state = TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0, extra={"c": 0.0, "n": 0})
    step = make_step(returning({"c": 1.0, "n": 2}), OPTIMIZER)
    fit(step, state, lambda step: np.zeros(1, np.float32), steps=3)  # with the guard


def test_an_extra_that_changes_between_calls_is_named():
    step = make_step(lambda p, b, k: jnp.sum(p["w"]), OPTIMIZER)

    def growing(state, batch):
        state, metrics = step(state, batch)
        return state._replace(extra={"c": jnp.zeros(int(state.step))}), metrics

    state = TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0, extra={"c": jnp.zeros(1)})
    with pytest.raises(TrainingError, match=r"state/extra/c changed from float32\[1\] to .*\[2\]"):
        fit(growing, state, lambda step: np.zeros(1, np.float32), steps=4)


def test_a_checkpoint_without_it_does_not_fill_a_state_with_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0))
    like = TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0, extra={"c": jnp.zeros(2)})
    with pytest.raises(CheckpointError, match=r"extra/c \(float32\[2\]\) is not in it"):
        checkpoints.restore(like)


def test_a_leaf_that_is_no_array_is_named():
    with pytest.raises(TypeError, match="extra leaf 'target/w' is a function: every leaf must be"):
        TrainState.create({"w": jnp.ones(2)}, OPTIMIZER, 0, extra={"target": {"w": fnn.mlp}})


# Averages


def follow(decay, params):
    """The averages by the words of `average_params`, in float64."""
    average = np.zeros_like(params[0], np.float64)
    for t, p in enumerate(params, start=1):
        weight = max(1 - decay, 1 / t)
        average += weight * (p.astype(np.float64) - average)
    return average


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_averages_are_the_means_that_they_say(decay):
    averaging = average_params(decay)
    state = TrainState.create(mlp_params(), OPTIMIZER, 0, extra=averaging.start(mlp_params()))
    step, seen = make_step(mlp_loss, OPTIMIZER, after_update=averaging.update), []
    for position in range(12):
        state, _ = step(state, batches(position))
        seen.append(np.asarray(state.params["dense_0"]["w"]))
    expected = follow(decay, seen)
    found = state.evaluation_params()["dense_0"]["w"]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    if decay == 0.999:
        np.testing.assert_allclose(found, np.mean(seen, axis=0), rtol=2e-6, atol=1e-7)
    if decay:  # an average that lags by one update, or starts at the first params, is another
        for wrong in (follow(decay, [mlp_params()["dense_0"]["w"], *seen[:-1]]), seen[-1]):
            assert np.abs(wrong - expected).max() > 1e-3


def test_small_steps_do_not_vanish_in_half_precision():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    averaging = average_params(0.999)
    extra = averaging.start(params)
    assert extra["averages"]["w"].dtype == jnp.float32
    for t in range(1000, 1400):
        extra = averaging.update({"w": 2 * params["w"]}, extra, jnp.int32(t))
    average = extra["averages"]["w"]
    np.testing.assert_allclose(average, 2 - 0.999**400, rtol=1e-3)
    state = TrainState.create(params, OPTIMIZER, 0, extra=extra)
    assert state.evaluation_params()["w"].dtype == jnp.bfloat16
    assert float(state.evaluation_params()["w"][0]) > 1.2


def test_fit_evaluates_the_averages_with_the_statistics(steps):
    model = fnn.chain(fnn.dense(7), norm=fnn.batch_norm(), head=fnn.dense(4))
    x = jnp.asarray(batches(0)["x"])
    params, averaging = model.init(jax.random.key(0), x), average_params(0.5)

    def loss(params, batch, key):
        y, statistics = model.value_and_statistics(params, batch["x"], key)
        return jnp.mean(jnp.square(y)), {"statistics": statistics}

    shapes = jax.eval_shape(model.statistics, params, x, jax.random.key(0))
    extra = averaging.start(params)
    state = TrainState.create(params, OPTIMIZER, 0, statistics=shapes, extra=extra)
    step = make_step(loss, OPTIMIZER, after_update=averaging.update)
    rows = {"x": np.asarray(x)}
    evaluate = make_evaluation(lambda p, b: {"y": model(p, b["x"]).max(-1)}, rows, 4)
    state, history = fit(step, state, batches, steps=3, evaluate=evaluate)
    folded = fnn.fold_statistics(state.extra["averages"], state.statistics)
    expected, trained = (
        float(model(p, x).max(-1).mean())
        for p in (folded, fnn.fold_statistics(state.params, state.statistics))
    )
    assert history[-1]["evaluation_y"] == pytest.approx(expected, rel=1e-5)
    assert abs(trained - expected) > 1e-4


def test_a_target_network_follows_at_its_own_steps():
    def follow(params, extra, step):
        return jax.tree.map(lambda new, old: jnp.where(step % 3 == 0, new, old), params, extra)

    def loss(params, batch, key, extra):
        return jnp.sum(extra["w"] - params["w"])  # each step adds 1

    params = {"w": jnp.zeros(())}
    state = TrainState.create(params, optax.sgd(1.0), 0, extra=params)
    step, targets = make_step(loss, optax.sgd(1.0), after_update=follow), []
    for _ in range(7):
        state, _ = step(state, jnp.zeros(1))
        targets.append(float(state.extra["w"]))
    assert targets == [0, 0, 3, 3, 3, 6, 6]


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match="average_params: decay is at least 0 and below 1"):
        average_params(decay)


def test_a_state_without_averages_is_told_how_to_be_made():
    step = make_step(mlp_loss, OPTIMIZER, after_update=AVERAGING.update)
    with pytest.raises(TypeError, match=r"no averages: make it with .*extra=averaging.start\(par"):
        step(TrainState.create(mlp_params(), OPTIMIZER, 0), batches(0))
