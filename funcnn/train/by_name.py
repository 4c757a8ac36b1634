"""Functions of optax by name, with options; a wrong name or option is one line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import optax
from optax import contrib

from funcnn.core.errors import first_line
from funcnn.spelling import nearest
from funcnn.train.ranges import check_option
from funcnn.types import Function

Made = TypeVar("Made")


def public_functions() -> dict[str, tuple[Function, inspect.Signature]]:
    """Those of optax and of its contributions, with their signatures.

    >>> "adam" in public_functions(), "muon" in public_functions()
    (True, True)
    """
    every = {**vars(contrib), **vars(optax)}
    functions = {n: f for n, f in every.items() if inspect.isfunction(f) and n[0] != "_"}
    return {name: (f, inspect.signature(f)) for name, f in functions.items()}


def find(kind: str, name: str, known: Mapping[str, Callable[..., Made]]) -> Callable[..., Made]:
    """The function of that name among those known; ValueError, one line, where there is none.

    >>> find("schedule", "zigzag", {"constant_schedule": optax.constant_schedule})
    Traceback (most recent call last):
    ValueError: unknown schedule 'zigzag': optax has constant_schedule
    """
    if name in known:
        return known[name]
    hint = _hint(str(name), known)
    raise ValueError(f"unknown {kind} '{name}'{hint} optax has {', '.join(sorted(known))}")


def make(kind: str, name: str, factory: Callable[..., Made], options: Mapping[str, object]) -> Made:
    """What the function makes of the options; ValueError, one line, where it cannot.

    >>> make("schedule", "constant_schedule", optax.constant_schedule, {})
    Traceback (most recent call last):
    ValueError: schedule 'constant_schedule' needs value
    """
    parameters = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in parameters:
            hint = _hint(option, parameters)
            accepted = ", ".join(parameters)
            raise ValueError(
                f"{kind} '{name}' takes no option '{option}'{hint} it takes {accepted}"
            )
        default = parameters[option].default
        check_option(f"{kind} '{name}': option '{option}'", option, value, default)
    missing = [o for o, p in parameters.items() if p.default is p.empty and o not in options]
    if missing:
        raise ValueError(f"{kind} '{name}' needs {', '.join(missing)}")
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        reason = first_line(error)
        raise ValueError(f"{kind} '{name}' cannot be made: {reason}") from error


def check_rate(rate: object) -> None:
    """Raise ValueError where that can be no learning rate.

    >>> check_rate(-0.1)
    Traceback (most recent call last):
    ValueError: learning_rate must be finite and not negative, found -0.1
    """
    if callable(rate):
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ValueError(f"learning_rate must be a number, found {rate!r}")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate must be finite and not negative, found {rate!r}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f": did you mean '{near}'?" if near else ":"
