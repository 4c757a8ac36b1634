"""Warm-up and lengths of schedules, against the rates written out and optax's own warm-up."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import TrainState, fit, make_optimizer, make_schedule, make_step
from funcnn.train.schedules import learning_rate_of_update

LINEAR: Any = {"end_value": 0.0, "transition_steps": "train.steps"}


def rates(rate, count):
    return [learning_rate_of_update(rate, update) for update in range(1, count + 1)]


def ramp(params, batch, key):
    return -params["a"] - params["b"]  # each update of sgd adds the learning rate


def moves(optimizer, steps):
    """What each update adds to a and to b, and the rates that are recorded."""
    params = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    seen = [(0.0, 0.0)]
    _, history = fit(
        make_step(ramp, optimizer),
        TrainState.create(params, optimizer, 0),
        lambda step: np.zeros(1, np.float32),
        steps=steps,
        log_every=1,
        on_step=lambda s, _: seen.append((float(s.params["a"]), float(s.params["b"]))),
    )
    return np.diff(np.array(seen), axis=0).T, [record["learning_rate"] for record in history]


def test_warm_up_then_the_schedule_whose_end_is_that_of_the_run():
    optimizer = make_optimizer(
        "sgd",
        learning_rate=0.5,
        schedule="linear_schedule",
        schedule_options=LINEAR,
        warmup=4,
        steps=12,
    )
    (added, _), recorded = moves(optimizer, 12)
    wanted = [0, 0.125, 0.25, 0.375, *(0.5 * (8 - n) / 8 for n in range(8))]
    assert recorded == wanted
    np.testing.assert_array_equal(added, wanted)
    assert rates(optimizer.learning_rate, 13)[12] == 0.0  # the first past the end


def test_a_plain_rate_and_that_of_a_group_warm_up_too():
    optimizer = make_optimizer(
        "sgd", learning_rate=0.5, warmup=2, groups={"b": {"learning_rate": 2.0}}
    )
    (a, b), recorded = moves(optimizer, 4)
    assert recorded == list(a) == [0.0, 0.25, 0.5, 0.5]
    assert list(b) == [0.0, 1.0, 2.0, 2.0]
    function = make_optimizer("sgd", learning_rate=lambda n: 1.0 + n, warmup=2).learning_rate
    assert rates(function, 4) == [0.0, 0.5, 1.0, 2.0]


def test_it_is_optaxs_own_warm_up_in_equal_bits():
    ours = make_schedule(
        "cosine_decay_schedule", 2e-3, decay_steps="train.steps", steps=40, warmup=7
    )
    theirs = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 7, 40)
    assert rates(ours, 50) == rates(theirs, 50)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine_decay_schedule", {"decay_steps": "train.steps"}),
        ("cosine_onecycle_schedule", {"transition_steps": "train.steps"}),
        ("warmup_cosine_decay_schedule", {"init_value": 0.1, "warmup_steps": 2}),
        ("exponential_decay", {"decay_rate": 0.5, "transition_steps": "train.steps"}),
    ],
)
def test_a_length_is_the_number_of_updates_that_the_warm_up_leaves(name, options):
    if name.startswith("warmup"):
        options["decay_steps"] = "train.steps"
    in_numbers = {o: 9 if v == "train.steps" else v for o, v in options.items()}
    for steps, warmup in ((9, 0), (12, 3)):
        rate = make_schedule(name, 0.5, steps=steps, warmup=warmup, **options)
        assert rates(rate, 12)[warmup:] == rates(
            make_schedule(name, 0.5, **in_numbers), 12 - warmup
        )


def test_a_schedule_can_be_made_inside_a_compiled_function():
    @jax.jit
    def rate(count):
        return make_schedule("constant_schedule", 0.5, warmup=4)(count)

    with jax.numpy_dtype_promotion("standard"):
        assert float(rate(2)) == 0.25


COSINE = {"schedule": "cosine_decay_schedule"}
DECAY = {"schedule_options": {"decay_steps": "train.steps"}}
WRONG = [
    (COSINE | {"schedule_options": {"decay_steps": "train.step"}}, 'updates or "train.steps", fo'),
    (
        COSINE | {"schedule_options": {"decay_steps": "9"}},
        "option 'decay_steps' is a number of upd",
    ),
    (
        COSINE | DECAY,
        "option 'decay_steps' is \"train.steps\": give steps=, the updates of the run",
    ),
    (
        COSINE | {"schedule_options": {"decay_steps": 9, "alpha": "train.steps"}, "steps": 9},
        "option 'alpha' is no length, and \"train.steps\" is one",
    ),
    (
        COSINE | {"schedule_options": {"decay_step": "train.steps"}, "steps": 9},
        "takes no option 'decay_step': did you mean 'decay_steps'?",
    ),
    (COSINE | DECAY | {"warmup": 9, "steps": 9}, "warmup: 9 updates leave none of the run's 9 (tr"),
    ({"warmup": 10, "steps": 9}, "warmup: 10 updates leave none of the run's 9"),
    ({"warmup": -1}, "warmup must be an integer from 0, found -1"),
    ({"warmup": 0.5}, "warmup must be an integer from 0, found 0.5"),
    ({"steps": 0}, "steps must be an integer from 1, found 0"),
    ({"warmup": 2, "learning_rate": 0.0}, "the first learning rate after it is 0"),
    ({"warmup": 2, "learning_rate": None}, "warmup needs a learning_rate, or a schedule"),
    ({"warmup": 2, "groups": {"b": {"learning_rate": "x"}}}, "learning_rate must be a number"),
    ({"name": "schedule_free_sgd", "warmup_steps": 2}, "no warmup_steps here: its warmup says"),
]


@pytest.mark.parametrize(("options", "line"), WRONG)
def test_what_cannot_be_is_one_line(options, line):
    with pytest.raises(ValueError, match=re.escape(line)) as raised:
        make_optimizer(**{"name": "sgd", "learning_rate": 0.5, **options})
    assert "\n" not in str(raised.value)
