"""Learning rates that change with the step: optax's schedules by name, and warming up to one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from funcnn.core.usage import as_integer
from funcnn.train.by_name import check_rate, find, make, public_functions
from funcnn.types import ArrayLike, Function

# What a schedule calls the rate that a plain optimizer calls `learning_rate`, in this order.
MAIN_RATE = ("peak_value", "init_value", "value")
# As a length of a schedule: all updates of the run that come after the warm-up.
RUN_LENGTH = "train.steps"


def make_schedule(
    name: str,
    learning_rate: float | Function | None = None,
    *,
    steps: int | None = None,
    warmup: int = 0,
    **options: object,
) -> Callable[[ArrayLike], Any]:
    """optax's schedule `name`: a function from the number of updates made to the learning rate.

    Args:
        name: one of optax's that is not made from other schedules.
        learning_rate: the schedule's `peak_value`, `init_value` or `value`, the first that it has.
        steps: the updates of the run, for which "train.steps" stands in the options.
        warmup: in so many updates the rate rises evenly from 0 to the schedule's first, and the
            schedule begins after them.
        options: the schedule's own. A number of updates, `decay_steps` or another `*_steps`, may be
            "train.steps": as many as the warm-up leaves, so that it ends where the run does.

    Raises:
        ValueError: one line, for an unknown schedule, an option that it does not take or a value
            that it cannot have, or a warm-up as long as the run or to a rate of 0.

    >>> rate = make_schedule("linear_schedule", 0.4, end_value=0.0, transition_steps="train.steps",
    ...                      steps=6, warmup=2)
    >>> [round(float(rate(count)), 3) for count in range(7)]
    [0.0, 0.2, 0.4, 0.3, 0.2, 0.1, 0.0]
    """
    return schedule_of(name, learning_rate, options, steps, warmup)


def schedule_of(
    name: str,
    learning_rate: float | Function | None,
    options: Mapping[str, object],
    steps: int | None,
    warmup: int,
) -> Callable[[ArrayLike], Any]:
    """`make_schedule`, of options that may have any name.

    >>> schedule_of("constant_schedule", 0.5, {}, None, 0)(7)
    0.5
    """
    factory = find("schedule", name, schedules())
    parameters = inspect.signature(factory).parameters
    if learning_rate is not None:
        if callable(learning_rate):
            raise ValueError(f"schedule '{name}' needs a number as learning_rate, not a function")
        check_rate(learning_rate)
        main = next((o for o in MAIN_RATE if o in parameters), None)
        if main is None or main in options:
            given = f"its options give {main}" if main else "it takes its rates from its options"
            raise ValueError(f"schedule '{name}' takes no learning_rate: {given}")
        options = {main: learning_rate, **options}
    _check_lengths(steps, warmup)
    left = None if steps is None else steps - warmup
    options = {
        option: _length(f"schedule '{name}': option '{option}'", option, value, left)
        if option in parameters
        else value
        for option, value in options.items()
    }
    # Keys of a TOML table are strings; boundaries are numbers of updates.
    boundaries = options.get("boundaries_and_scales")
    if isinstance(boundaries, dict):
        options["boundaries_and_scales"] = {_update(name, k): v for k, v in boundaries.items()}
    return _after(make("schedule", name, factory, options), warmup)


def warmed_up(rate: object, warmup: int, steps: int | None) -> float | Function:
    """A rate, or a schedule, before which it rises evenly from 0 in so many updates.

    Raises:
        ValueError: that is no rate, or the warm-up is as long as the run of `steps`.

    >>> warmed_up(0.5, 0, None)
    0.5
    """
    check_rate(rate)
    _check_lengths(steps, warmup)
    if callable(rate):
        return _after(rate, warmup)
    number = cast(float, rate)
    return _rise(number, warmup) if warmup else number


def _after(schedule: Function, warmup: int) -> Function:
    """The schedule, after a warm-up of so many updates to its first rate."""
    if not warmup:
        return schedule
    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):  # as in the step
        first = float(schedule(0))
    return optax.join_schedules([_rise(first, warmup), schedule], [warmup])


def _rise(rate: float, warmup: int) -> Function:
    """From 0 to a rate in so many updates, and that rate after them."""
    if rate == 0:
        raise ValueError("warmup: the first learning rate after it is 0, nothing to warm up to")
    return optax.linear_schedule(0.0, rate, warmup)


def learning_rate_of_update(learning_rate: float | Function, update: int) -> float:
    """The learning rate of an update by its number, from 1: optax counts those made before it.

    >>> learning_rate_of_update(0.5, 3), learning_rate_of_update(lambda count: 0.5 * count, 3)
    (0.5, 1.0)
    """
    if not callable(learning_rate):
        return float(learning_rate)
    with jax.numpy_dtype_promotion("standard"):  # as in the step
        return float(learning_rate(jnp.int32(update - 1)))


def schedules() -> dict[str, Callable[..., optax.Schedule]]:
    """Every public function of optax that gives a schedule and is not made from other schedules.

    >>> "constant_schedule" in schedules(), "join_schedules" in schedules()
    (True, False)
    """
    return {
        name: function
        for name, (function, signature) in public_functions().items()
        if signature.return_annotation == optax.Schedule and "schedules" not in signature.parameters
    }


def _length(what: str, option: str, value: object, left: int | None) -> object:
    """The value of an option, which is a number of updates where it says so by its name."""
    if not isinstance(value, str):
        return value
    if not option.endswith("_steps"):
        if value == RUN_LENGTH:
            raise ValueError(f'{what} is no length, and "{RUN_LENGTH}" is one')
        return value
    if value != RUN_LENGTH:
        raise ValueError(f'{what} is a number of updates or "{RUN_LENGTH}", found {value!r}')
    if left is None:
        raise ValueError(f'{what} is "{RUN_LENGTH}": give steps=, the updates of the run')
    return left


def _update(name: str, key: object) -> int:
    """A boundary of a schedule: the number of an update."""
    if str(key).isdecimal():
        return int(str(key))
    where = f"schedule '{name}': option 'boundaries_and_scales'"
    raise ValueError(f"{where} has for a number of updates a scale, {{500 = 0.1}}, found {key!r}")


def _check_lengths(steps: int | None, warmup: int) -> None:
    for what, count, least in (("steps", steps, 1), ("warmup", warmup, 0)):
        if count is not None and (as_integer(count) is None or count < least):
            raise ValueError(f"{what} must be an integer from {least}, found {count!r}")
    if steps is not None and warmup >= steps:
        left = f"of the run's {steps} (train.steps) for the schedule"
        cure = f"give at most {steps - 1}, or a longer run"
        raise ValueError(f"warmup: {warmup} updates leave none {left}: {cure}")
