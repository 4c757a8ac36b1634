from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import make_optimizer, make_schedule
from funcnn.train.optimizer import optimizers
from funcnn.train.schedules import schedules


def first_update(optimizer) -> Any:
    params = {"w": jnp.array([1.0, -2.0])}
    updates, _ = optimizer.update({"w": jnp.array([0.5, 3.0])}, optimizer.init(params), params)
    return updates["w"]


def test_the_optimizer_is_optaxs_own_with_the_options_given():
    ours = make_optimizer("sgd", learning_rate=0.25, momentum=0.5, nesterov=True)
    theirs = optax.sgd(0.25, momentum=0.5, nesterov=True)
    np.testing.assert_array_equal(first_update(ours), first_update(theirs))
    assert not np.array_equal(first_update(ours), first_update(optax.sgd(0.25)))


def test_the_learning_rate_fills_the_schedules_main_rate():
    rate = make_schedule(
        "warmup_cosine_decay_schedule", 0.5, init_value=0.0, warmup_steps=10, decay_steps=20
    )
    assert [float(rate(step)) for step in (0, 10, 20)] == [0.0, 0.5, 0.0]
    halved = make_schedule(
        "piecewise_constant_schedule", 0.5, boundaries_and_scales={"10": 0.5}
    )  # as TOML gives the boundaries
    assert [float(halved(step)) for step in (0, 11)] == [0.5, 0.25]


def test_the_optimizer_follows_the_schedule():
    optimizer = make_optimizer(
        "sgd",
        schedule="linear_schedule",
        schedule_options={"init_value": 1.0, "end_value": 0.0, "transition_steps": 2},
    )
    updates: Any
    state, rates = optimizer.init({"w": jnp.zeros(())}), []
    for _ in range(3):
        updates, state = optimizer.update({"w": jnp.ones(())}, state)
        rates.append(-float(updates["w"]))
    assert rates == [1.0, 0.5, 0.0]


def test_the_names_are_optimizers_and_schedules_and_nothing_else():
    names = set(optimizers())
    assert {"adam", "adamw", "sgd", "lion", "lamb", "lbfgs", "rmsprop", "polyak_sgd"} <= names
    assert not names & {
        "scale_by_adam",
        "scale_by_learning_rate",
        "chain",
        "clip",
        "identity",
        "schedule_free",
    }
    names = set(schedules())
    assert {"constant_schedule", "cosine_decay_schedule", "exponential_decay"} <= names
    assert not names & {"join_schedules", "inject_hyperparams", "adam"}


RATE = {"learning_rate": 0.1}
WRONG = [
    ("adamm", RATE, "unknown optimizer 'adamm': did you mean 'adam'"),
    ("zzz", RATE, "unknown optimizer 'zzz': optax has acprop, adabelief, "),
    ("scale_by_adam", RATE, "unknown optimizer 'scale_by_adam'"),
    ("adam", {}, "optimizer 'adam' needs learning_rate"),
    (
        "adam",
        RATE | {"bb1": 0.9},
        "'adam' takes no option 'bb1': did you mean 'b1'. it takes learn",
    ),
    ("adam", RATE | {"b1": "0.9"}, "'adam': option 'b1' must be a number, found '0.9'"),
    ("adam", RATE | {"nesterov": 1}, "option 'nesterov' must be true or false, found 1"),
    ("polyak_sgd", RATE, "'polyak_sgd' takes no option 'learning_rate': .*max_learning_rate"),
    ("adam", {"learning_rate": -1.0}, "learning_rate must be finite and not negative, found -1.0"),
    ("adam", {"learning_rate": float("nan")}, "must be finite"),
    ("adam", {"learning_rate": "0.1"}, "learning_rate must be a number, found '0.1'"),
    ("adam", RATE | {"schedule": "cosine"}, "unknown schedule 'cosine'"),
    (
        "adam",
        RATE | {"schedule": "cosine_decay_schedule"},
        "schedule 'cosine_decay_schedule' needs",
    ),
    (
        "adam",
        RATE | {"schedule": "linear_schedule", "schedule_options": {"init_value": 1.0}},
        "takes no learning_rate: its options give init_value",
    ),
    (
        "adam",
        RATE | {"schedule": "cosine_decay_schedule", "schedule_options": {"decay_steps": 0}},
        "'cosine_decay_schedule': option 'decay_steps' must be a whole number from 1, found 0",
    ),
    ("adam", RATE | {"schedule_options": {"decay_steps": 9}}, "without a schedule"),
    (
        "adam",
        RATE | {"groups": {"head/*": {"b1": 2}}},
        "^groups: head/[*]: optimizer 'adam': option 'b1' must be from 0 to below 1, found 2$",
    ),
    (
        "sgd",
        {
            "schedule": "piecewise_constant_schedule",
            "schedule_options": {"init_value": 1.0, "boundaries_and_scales": {"end": 0.1}},
        },
        "'boundaries_and_scales' has for a number of updates a scale, {500 = 0.1}, found 'end'",
    ),
]


@pytest.mark.parametrize(("name", "options", "line"), WRONG)
def test_a_wrong_name_or_option_is_one_line(name, options, line):
    with pytest.raises(ValueError, match=line) as raised:
        make_optimizer(name, **options)
    assert "\n" not in str(raised.value)
