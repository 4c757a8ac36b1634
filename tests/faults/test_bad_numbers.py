"""F10: numbers that are bad in one place alone; for those of a batch see test_health.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcnn as fnn
from funcnn.train import Checkpoints, Guard, TrainingError, TrainState, fit, make_step

OPTIMIZER = optax.sgd(0.5, momentum=0.9)


def root_loss(params, batch, key):
    """Of sqrt(0) the value is 0 and the derivative infinite."""
    return jnp.sum(jnp.sqrt(batch * params["w"] ** 2))


def root_batches(bad):
    return lambda step: np.full(3, 0.0 if step == bad else 1.0, np.float32)


def train(action, bad, checkpoints=None, steps=6):
    guard = Guard(action)
    state = TrainState.create({"w": jnp.ones(3)}, OPTIMIZER, seed=0, guard=guard)
    step = make_step(root_loss, OPTIMIZER, guard=guard)
    options = {"log_every": 1, "checkpoints": checkpoints}
    return fit(step, state, root_batches(bad), steps=steps, **options)


def test_a_gradient_alone_that_is_not_finite_halts(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TrainingError, match=r"^step 4: .*gradient.* this update is not made"):
        train("halt", bad=3, checkpoints=checkpoints)
    assert checkpoints.latest() == 3
    expected, _ = train("halt", bad=None, steps=3)
    for one, other in zip(
        *map(jax.tree.leaves, (checkpoints.restore(expected), expected)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_gradient_alone_that_is_not_finite_is_skipped_with_the_momentum_as_it_was():
    state, history = train("skip", bad=3, steps=4)
    expected, _ = train("skip", bad=None, steps=3)
    assert (history[-1]["loss"], history[-1]["skipped"]) == (0.0, 1)
    for name in ("params", "optimizer_state"):
        both = (jax.tree.leaves(getattr(s, name)) for s in (state, expected))
        for one, other in zip(*both, strict=True):
            np.testing.assert_array_equal(one, other)


NORM = fnn.chain(fnn.batch_norm(), fnn.dense(2))


def norm_loss(params, batch, key):
    logits, statistics = NORM.value_and_statistics(params, batch["x"], key)
    losses = fnn.rules.softmax_cross_entropy(logits, batch["y"])
    return losses.mean(), {"statistics": statistics}


def norm_batches(bad):
    def batches(step):
        x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
        if step == bad:
            x[:, 1] *= np.float32(1e30)  # the variance is infinite, and what it divides becomes 0
        return {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}

    return batches


def normed(action, bad, steps=6, checkpoints=None):
    guard, params = Guard(action), NORM.init(jax.random.key(0), norm_batches(None)(0)["x"])
    statistics = NORM.statistics(params, norm_batches(None)(0)["x"], jax.random.key(0))
    state = TrainState.create(params, OPTIMIZER, 0, statistics, guard=guard)
    step = make_step(norm_loss, OPTIMIZER, guard=guard)
    return fit(step, state, norm_batches(bad), steps=steps, log_every=1, checkpoints=checkpoints)


def test_statistics_of_batch_norm_alone_that_are_not_finite_halt(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    line = (
        "^step 4: the statistics of batch norm 'batch_norm_0' are not finite; it arises in "
        "batch_norm_0, in .*; this update is not made"
    )
    with pytest.raises(TrainingError, match=line):
        normed("halt", bad=3, checkpoints=checkpoints)
    assert checkpoints.latest() == 3


def test_statistics_of_batch_norm_alone_that_are_not_finite_are_skipped():
    """Loss and gradient are finite, and the mean of the statistics would never be so again."""
    state, history = normed("skip", bad=3, steps=4)
    expected, _ = normed("skip", bad=None, steps=3)
    assert np.isfinite([history[-1]["loss"], history[-1]["gradient_norm"]]).all()
    assert history[-1]["skipped"] == 1
    for name in ("params", "statistics"):
        both = (jax.tree.leaves(getattr(s, name)) for s in (state, expected))
        for one, other in zip(*both, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_trace_of_a_loss_scale():
    """Halved at each overflow, which is no update; doubled after 2,000 that were none."""
    guard, optimizer = Guard(loss_scale=2.0**15), optax.sgd(0.0)
    state = TrainState.create(jnp.ones(1), optimizer, seed=0, guard=guard)

    def loss(params, batch, key):
        y = params.astype("float16") * jnp.asarray(batch, "float16")
        return jnp.sum(y).astype("float32")

    # The gradient of the scaled loss is scale * batch in float16, whose largest number is 65504.
    step = make_step(loss, optimizer, guard=guard, steps_per_call=2_010)
    x = np.ones((2_010, 1), np.float32)
    x[[1, 2]] = 8.0  # 2**15 * 8 and 2**14 * 8 overflow
    x[5] = 4.0  # 2**13 * 4 does not
    state, metrics = step(state, x)
    expected = np.full(2_010, 2.0**13, np.float32)
    expected[:2], expected[2] = 2.0**15, 2.0**14
    expected[2_003:] = 2.0**14
    np.testing.assert_array_equal(metrics["loss_scale"], expected)
    assert int(state.health["scale_age"]) == 2_010 - 2_003
    assert int(state.health["halted_at"]) == 0
