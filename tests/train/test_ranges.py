"""Numbers with which optax would train all the same, to NaN or away from any minimum."""

import inspect
import math

import numpy as np
import optax
import pytest

from funcnn.train import make_optimizer, make_schedule
from funcnn.train.optimizer import optimizers
from funcnn.train.ranges import check_option
from funcnn.train.schedules import schedules

# An optimizer, its options, and the end of the line.
WRONG = [
    ("adam", {"b1": 1.0}, "'b1' must be from 0 to below 1, found 1.0"),
    ("adam", {"b2": -0.1}, "'b2' must be from 0 to below 1, found -0.1"),
    ("adam", {"b1": math.nan}, "'b1' must be finite, found nan"),
    ("adam", {"eps": -1e-8}, "'eps' must be 0 or more, found -1e-08"),
    ("adam", {"eps_root": math.inf}, "'eps_root' must be finite, found inf"),
    ("adamw", {"weight_decay": -1}, "'weight_decay' must be 0 or more, found -1"),
    ("sgd", {"momentum": 1.0}, "'momentum' must be from 0 to below 1, found 1.0"),
    ("sgd", {"momentum": "much"}, "'momentum' must be a number, found 'much'"),
    ("sgd", {"momentum": [0.9]}, r"'momentum' must be a number, found \[0.9\]"),
    ("rmsprop", {"decay": 2.0}, "'decay' must be from 0 to below 1, found 2.0"),
    ("adadelta", {"rho": 1}, "'rho' must be from 0 to below 1, found 1"),
    ("muon", {"beta": 1.5}, "'beta' must be from 0 to below 1, found 1.5"),
    ("muon", {"ns_steps": 0.5}, "'ns_steps' must be a whole number from 1, found 0.5"),
    ("prodigy", {"betas": [0.9, 1.0]}, "'betas' must be from 0 to below 1, found 1.0"),
]
RATES = [
    ("cosine_decay_schedule", {"init_value": -1.0}, "'init_value' must be 0 or more, found -1.0"),
    ("cosine_decay_schedule", {"init_value": math.nan}, "'init_value' must be finite, found nan"),
    ("cosine_decay_schedule", {"init_value": "a"}, "'init_value' must be a number, found 'a'"),
    ("cosine_decay_schedule", {"decay_steps": 2.5}, "must be a whole number from 1, found 2.5"),
    ("cosine_decay_schedule", {"alpha": -2.0}, "'alpha' must be 0 or more, found -2.0"),
    ("exponential_decay", {"decay_rate": -0.5}, "'decay_rate' must be 0 or more, found -0.5"),
    ("linear_schedule", {"transition_steps": 0}, "must be a whole number from 1, found 0"),
    ("linear_schedule", {"transition_begin": -1}, "must be a whole number from 0, found -1"),
    (
        "piecewise_constant_schedule",
        {"boundaries_and_scales": {"5": -0.1}},
        "'boundaries_and_scales': 5 must be 0 or more, found -0.1",
    ),
    (
        "sgdr_schedule",
        {"cosine_kwargs": [{"decay_steps": 0}]},
        "'cosine_kwargs': decay_steps must be a whole number from 1, found 0",
    ),
]


@pytest.mark.parametrize(("name", "options", "line"), WRONG)
def test_an_optimizer_that_could_not_train_is_one_line(name, options, line):
    with pytest.raises(ValueError, match=f"^optimizer '{name}': option {line}$"):
        make_optimizer(name, learning_rate=0.1, **options)


@pytest.mark.parametrize(("name", "options", "line"), RATES)
def test_a_schedule_that_could_not_be_meant_is_one_line(name, options, line):
    with pytest.raises(ValueError, match=f"^schedule '{name}': option .*{line}$"):
        make_schedule(name, **options)


@pytest.mark.parametrize("kind", [optimizers, schedules])
def test_what_optax_has_by_itself_is_let_through(kind):
    checked = 0
    for name, factory in kind().items():
        for option, parameter in inspect.signature(factory).parameters.items():
            if parameter.default is not parameter.empty:
                check_option(f"{name}: {option}", option, parameter.default, parameter.default)
                checked += 1
    assert checked > 20


def test_ends_of_a_range_and_functions_of_the_step_are_let_through():
    assert make_optimizer("sgd", learning_rate=0.1, momentum=0, nesterov=False)
    assert make_optimizer("adamw", learning_rate=0.1, weight_decay=lambda count: 0.1)
    assert make_optimizer("adam", learning_rate=0.1, b1=np.float32(0.5), mu_dtype="bfloat16")
    assert make_optimizer("optimistic_gradient_descent", learning_rate=0.1, beta=2.0)
    rate = make_schedule("linear_schedule", init_value=1, end_value=0, transition_steps=1e1)
    assert rate(5) == optax.linear_schedule(1, 0, 10)(5)
