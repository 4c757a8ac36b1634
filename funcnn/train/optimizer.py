"""optax's optimizers and schedules by name, for a config; a wrong name or option is one line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from funcnn.core.errors import first_line
from funcnn.core.patterns import matching
from funcnn.spelling import nearest
from funcnn.train.groups import UNDECAYED, Groups, checked_groups, in_groups, left_out
from funcnn.train.signature import leaf_names
from funcnn.types import ArrayLike, Function, PyTree

Made = TypeVar("Made")

# What a schedule calls the rate that a plain optimizer calls `learning_rate`, in this order.
MAIN_RATE = ("peak_value", "init_value", "value")


class RatedOptimizer(optax.GradientTransformationExtraArgs):
    """An optimizer of optax that tells its `learning_rate`, a number or a function of the step.

    >>> make_optimizer("adam", learning_rate=0.001).learning_rate
    0.001
    """

    learning_rate: float | Function | None = None


def make_optimizer(
    name: str,
    *,
    learning_rate: float | Function | None = None,
    schedule: str | None = None,
    schedule_options: Mapping[str, object] | None = None,
    clip_norm: float | None = None,
    undecayed: Sequence[str] = (),
    groups: Groups | None = None,
    **options: object,
) -> RatedOptimizer:
    """optax's optimizer `name`, also one of `optax.contrib`, with the options that optax gives it.

    With `schedule`, one of optax's by name, the learning rate follows it; `learning_rate` then
    fills the schedule's `peak_value`, `init_value` or `value`, the first of them that it takes.
    The result has it as `learning_rate`, which `fit` records; None where it has no such option.

    `clip_norm` is the largest norm of the whole gradient, which is scaled down to it. `undecayed`
    are patterns of names that weight decay leaves out, ["*/b", "*/scale"]. `groups` has for a
    pattern the options in which its params differ, {"head/*": {"learning_rate": 0.01}}, or
    "frozen"; the first pattern that matches decides, and one that matches nothing is an error when
    the state is made.

    Raises ValueError, one line, for an unknown optimizer or schedule, an option that it does not
    take, one that it needs and was not given, and a value of the wrong kind.

    >>> optimizer = make_optimizer("adam", learning_rate=0.001, b1=0.8)
    >>> optimizer = make_optimizer("sgd", learning_rate=0.1, schedule="cosine_decay_schedule",
    ...                            schedule_options={"decay_steps": 100})
    >>> make_optimizer("adamm", learning_rate=0.001)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown optimizer 'adamm': did you mean 'adam'? ...
    """
    factory = _find("optimizer", name, _optimizers())
    rate = _rate_option(factory)
    if schedule is not None:
        learning_rate = make_schedule(schedule, learning_rate, **(schedule_options or {}))
    elif schedule_options:
        raise ValueError(f"schedule options {sorted(schedule_options)} given without a schedule")
    if learning_rate is not None:
        options = {"learning_rate": learning_rate, **options}
    if undecayed:
        options[_decay_mask(name, factory)] = lambda params: left_out(params, undecayed)
    if clip_norm is not None:
        _check_positive("clip_norm", clip_norm)

    def make(differing: Mapping[str, object]) -> optax.GradientTransformation:
        own = {**options, **differing}
        if rate in own:
            _check_rate(own[rate])
        return _make("optimizer", name, factory, own)

    # A step does the same to an optimizer without extra arguments.
    made = optax.with_extra_args_support(in_groups(make, checked_groups(groups), clip_norm))

    def init(params: PyTree) -> PyTree:
        matching(UNDECAYED, undecayed, leaf_names(params))  # an optimizer may ask for a part alone
        return made.init(params)

    optimizer = RatedOptimizer(init if undecayed else made.init, made.update)
    optimizer.learning_rate = learning_rate
    return optimizer


def learning_rate_of_update(learning_rate: float | Function, update: int) -> float:
    """The learning rate of an update by its number, from 1: optax counts those made before it.

    >>> learning_rate_of_update(0.5, 3), learning_rate_of_update(lambda count: 0.5 * count, 3)
    (0.5, 1.0)
    """
    if not callable(learning_rate):
        return float(learning_rate)
    with jax.numpy_dtype_promotion("standard"):  # as in the step
        return float(learning_rate(jnp.int32(update - 1)))


def make_schedule(
    name: str, learning_rate: float | Function | None = None, **options: object
) -> Callable[[ArrayLike], Any]:
    """optax's schedule `name`: a function from the number of updates made to the learning rate.

    >>> rate = make_schedule("linear_schedule", 0.1, end_value=0.0, transition_steps=10)
    >>> float(rate(0)) > float(rate(5)) > float(rate(10))
    True
    """
    factory = _find("schedule", name, _schedules())
    if learning_rate is not None:
        if callable(learning_rate):
            raise ValueError(f"schedule '{name}' needs a number as learning_rate, not a function")
        _check_rate(learning_rate)
        main = next((o for o in MAIN_RATE if o in inspect.signature(factory).parameters), None)
        if main is None or main in options:
            given = f"its options give {main}" if main else "it takes its rates from its options"
            raise ValueError(f"schedule '{name}' takes no learning_rate: {given}")
        options = {main: learning_rate, **options}
    # Keys of a TOML table are strings; boundaries are numbers of updates.
    boundaries = options.get("boundaries_and_scales")
    if isinstance(boundaries, dict):
        options["boundaries_and_scales"] = {int(k): v for k, v in boundaries.items()}
    return _make("schedule", name, factory, options)


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Every public function of optax that takes a learning rate and gives a transformation.

    >>> "adamw" in _optimizers(), "scale_by_adam" in _optimizers(), "chain" in _optimizers()
    (True, False, False)
    """
    kinds = (optax.GradientTransformation, optax.GradientTransformationExtraArgs)
    return {
        name: function
        for name, (function, signature) in _public_functions().items()
        if signature.return_annotation in kinds
        and _rate_option(function) is not None
        and not name.startswith("scale_by_")
    }


def _schedules() -> dict[str, Callable[..., optax.Schedule]]:
    """Every public function of optax that gives a schedule and is not made from other schedules."""
    return {
        name: function
        for name, (function, signature) in _public_functions().items()
        if signature.return_annotation == optax.Schedule and "schedules" not in signature.parameters
    }


def _public_functions() -> dict[str, tuple[Function, inspect.Signature]]:
    """Those of optax, and of its contributions all but the schedule-free ones.

    These evaluate other params than they train, which their state alone knows.
    """
    contributed = {n: f for n, f in vars(contrib).items() if not n.startswith("schedule_free")}
    every = {**contributed, **vars(optax)}
    functions = {n: f for n, f in every.items() if inspect.isfunction(f) and n[0] != "_"}
    return {name: (f, inspect.signature(f)) for name, f in functions.items()}


def _decay_mask(name: str, factory: Function) -> str:
    """The option that says what an optimizer's weight decay leaves out."""
    parameters = inspect.signature(factory).parameters
    mask = next((o for o in ("weight_decay_mask", "mask") if o in parameters), None)
    if mask is None or "weight_decay" not in parameters:
        raise ValueError(f"optimizer '{name}' has no weight decay that undecayed could leave out")
    return mask


def _rate_option(factory: Function) -> str | None:
    parameters = inspect.signature(factory).parameters
    return next((o for o in ("learning_rate", "max_learning_rate") if o in parameters), None)


def _find(kind: str, name: str, known: Mapping[str, Callable[..., Made]]) -> Callable[..., Made]:
    if name in known:
        return known[name]
    hint = _hint(str(name), known)
    raise ValueError(f"unknown {kind} '{name}'{hint} optax has {', '.join(sorted(known))}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f": did you mean '{near}'?" if near else ":"


def _make(
    kind: str, name: str, factory: Callable[..., Made], options: Mapping[str, object]
) -> Made:
    parameters = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in parameters:
            hint = _hint(option, parameters)
            accepted = ", ".join(parameters)
            raise ValueError(
                f"{kind} '{name}' takes no option '{option}'{hint} it takes {accepted}"
            )
        _check_number(f"{kind} '{name}': option '{option}'", value, parameters[option].default)
    missing = [o for o, p in parameters.items() if p.default is p.empty and o not in options]
    if missing:
        raise ValueError(f"{kind} '{name}' needs {', '.join(missing)}")
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        reason = first_line(error)
        raise ValueError(f"{kind} '{name}' cannot be made: {reason}") from error


def _check_number(what: str, value: object, default: object) -> None:
    """An option whose default is a number takes numbers; optax notices only when it computes."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{what} must be true or false, found {value!r}")
    elif isinstance(default, int | float) and (
        isinstance(value, bool | str | list | dict) or value is None
    ):
        raise ValueError(f"{what} must be a number, found {value!r}")


def _check_rate(rate: object) -> None:
    if callable(rate):
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ValueError(f"learning_rate must be a number, found {rate!r}")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate must be finite and not negative, found {rate!r}")


def _check_positive(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{what} must be a number above 0, found {value!r}")
