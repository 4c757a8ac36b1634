"""What the options of optax's optimizers and schedules may be: optax itself takes any number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import NamedTuple


class Range(NamedTuple):
    """Numbers that an option may be, and how a message calls them."""

    words: str
    holds: Callable[[float], bool]


_ANY = Range("finite", lambda x: True)
_SHARE = Range("from 0 to below 1", lambda x: 0 <= x < 1)
_NOT_NEGATIVE = Range("0 or more", lambda x: x >= 0)
_COUNT = Range("a whole number from 1", lambda x: x >= 1 and x == math.floor(x))
_COUNT_OR_NONE = Range("a whole number from 0", lambda x: x >= 0 and x == math.floor(x))

# By the names that optax gives them: how much stays of what was before, and rates.
_SHARES = ("adam_b1", "adam_b2", "b1", "b2", "b3", "beta", "beta3", "betas")
_OTHER_SHARES = ("decay", "momentum", "rho")
_RATES = ("alpha", "decay_rate", "end_value", "init_value", "max_learning_rate", "peak_value")
_BY_NAME = {
    **dict.fromkeys((*_SHARES, *_OTHER_SHARES), _SHARE),
    **dict.fromkeys((*_RATES, "adam_learning_rate", "boundaries_and_scales"), _NOT_NEGATIVE),
    **dict.fromkeys(("learning_rate", "scale", "value", "weight_decay_rate"), _NOT_NEGATIVE),
    **dict.fromkeys(("decay_steps", "ns_steps", "transition_steps"), _COUNT),
    **dict.fromkeys(("transition_begin", "warmup_steps"), _COUNT_OR_NONE),
}
# These hold several numbers.
_MANY = ("betas", "boundaries_and_scales", "cosine_kwargs", "ns_coeffs")


def check_option(what: str, option: str, value: object, default: object) -> None:
    """Raise ValueError where an option is no number, or none that it may be.

    A momentum or a decay is from 0 to below 1, a rate or what is added to something is not
    negative, a number of updates is whole; all are finite. An option whose default is a number
    takes numbers: optax notices only when it computes, or computes NaN.

    Args:
        what: how a message calls the option.
        option: its name.
        value: what it is given; a function of the step is let through, as are arrays.
        default: what it is otherwise.

    >>> check_option("optimizer 'adam': option 'b1'", "b1", 1.0, 0.9)
    Traceback (most recent call last):
    ValueError: optimizer 'adam': option 'b1' must be from 0 to below 1, found 1.0
    """
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{what} must be true or false, found {value!r}")
    elif option in _MANY and isinstance(value, Mapping):
        for key, inside in value.items():
            name = str(key) if str(key) in _BY_NAME else option
            check_option(f"{what}: {key}", name, inside, 0.0)
    elif option in _MANY and isinstance(value, list | tuple):
        for inside in value:
            check_option(what, option, inside, None)
    elif not (value is None and default is None):
        _check_number(what, _range_of(option, default), value, _is_number(default))


def _check_number(what: str, wanted: Range, value: object, numeric: bool) -> None:
    is_none = value is None or isinstance(value, bool | str | list | dict)
    if is_none and (numeric or wanted is not _ANY):
        raise ValueError(f"{what} must be a number, found {value!r}")
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{what} must be finite, found {value!r}")
        if not wanted.holds(number):
            raise ValueError(f"{what} must be {wanted.words}, found {value!r}")


def _range_of(option: str, default: object) -> Range:
    if option == "beta" and default == 1.0:  # of optimistic_gradient_descent: a factor
        return _NOT_NEGATIVE
    if option in _BY_NAME:
        return _BY_NAME[option]
    if option.startswith(("eps", "weight_decay", "adam_eps", "adam_weight_decay")):
        return _ANY if option.endswith("mask") else _NOT_NEGATIVE
    return _ANY


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
