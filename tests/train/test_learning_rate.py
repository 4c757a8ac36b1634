"""The learning rate of each record: that of the update it tells of, and nothing of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal, batches, mlp_loss, mlp_params

from funcnn.train import TrainState, fit, make_optimizer, make_step

OPTIONS = {"end_value": 0.0, "transition_steps": 8}


def linear():
    name, options = "linear_schedule", OPTIONS
    return make_optimizer("sgd", learning_rate=0.5, schedule=name, schedule_options=options)


def ramp(params, batch, key):
    return -params  # each update of sgd adds the learning rate


@pytest.mark.parametrize("k", [1, 4])
def test_a_record_has_the_rate_by_which_its_update_was_made(k):
    state = TrainState.create(jnp.zeros(()), linear(), 0)
    step, moves = make_step(ramp, linear(), steps_per_call=k), [0.0]
    state, history = fit(
        step,
        state,
        lambda step, count=1: np.zeros((count,), np.float32),
        steps=11,
        log_every=1,
        on_step=lambda state, metrics: moves.append(float(state.params)),
    )
    rates = {record["step"]: record["learning_rate"] for record in history}
    assert rates == {n: max(0.5 * (8 - (n - 1)) / 8, 0) for n in rates}
    if k == 1:
        np.testing.assert_array_equal(np.diff(moves), list(rates.values()))
    assert list(history[0]) == ["step", "loss", "gradient_norm", "learning_rate"]


def test_it_is_a_function_of_the_step_for_a_run_that_goes_on():
    step = make_step(ramp, linear())
    give = lambda step: np.zeros(1, np.float32)  # noqa: E731
    _, straight = fit(
        step, TrainState.create(jnp.zeros(()), linear(), 0), give, steps=6, log_every=1
    )
    half, first = fit(
        step, TrainState.create(jnp.zeros(()), linear(), 0), give, steps=3, log_every=1
    )
    _, second = fit(step, half, give, steps=6, log_every=1)
    assert first + second == straight


def test_the_compiled_step_is_that_of_optaxs_own_optimizer():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.05, 4, 20)
    ours = make_optimizer(
        "adamw",
        learning_rate=0.05,
        schedule="warmup_cosine_decay_schedule",
        schedule_options={"init_value": 0.0, "warmup_steps": 4, "decay_steps": 20},
    )
    theirs = optax.adamw(schedule)
    states, texts = [], []
    for optimizer in (ours, theirs):
        step = make_step(mlp_loss, optimizer)
        state = TrainState.create(mlp_params(), optimizer, 0)
        texts.append(step.jitted.lower(state, batches(0)).as_text())
        states.append(fit(step, state, batches, steps=5, log_every=1)[0])
    assert_bit_equal(*states)
    assert texts[0] == texts[1]


def test_a_constant_is_recorded_and_what_is_not_known_is_not():
    def recorded(optimizer):
        state = TrainState.create(jnp.zeros(()), optimizer, 0)
        give = lambda step: np.zeros(1, np.float32)  # noqa: E731
        return fit(make_step(ramp, optimizer), state, give, steps=1)[1][0].get("learning_rate")

    assert recorded(make_optimizer("adam", learning_rate=0.25)) == 0.25
    assert recorded(make_optimizer("sgd", learning_rate=lambda count: 0.5 + count)) == 0.5
    assert recorded(make_optimizer("adafactor")) is None
    assert recorded(optax.adam(0.25)) is None


def test_a_metric_of_that_name_of_the_loss_stays_its_own():
    optimizer = make_optimizer("sgd", learning_rate=0.25)

    def loss(params, batch, key):
        return -params, {"learning_rate": jax.lax.stop_gradient(params) + 7}

    state = TrainState.create(jnp.zeros(()), optimizer, 0)
    give = lambda step: np.zeros(1, np.float32)  # noqa: E731
    assert fit(make_step(loss, optimizer), state, give, steps=1)[1][0]["learning_rate"] == 7
