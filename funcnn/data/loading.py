"""A data set by its name, as a config has it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from funcnn.data.cutting import cut_of
from funcnn.data.dataset import DataError, Dataset, OptionError, SplitError, check_finite
from funcnn.names import files, named
from funcnn.spelling import did_you_mean

SETS = "funcnn.data.sets"
# What every run says, and a source takes where it has a use for it.
GENERAL = ("seed", "test_fraction", "validation_fraction")


def load(
    name: str,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    **options: object,
) -> Dataset:
    """A data set by the name of its file in `funcnn/data/sets/`, with the options that it takes.

    `test_fraction` matters where the data come in one piece. `validation_fraction` of the rows that
    are then for training are set apart, each class in its share; where the order of rows matters,
    or something is fitted to them, the source does that itself.

    Raises `DataError`, one line: for an unknown name, an option that the source does not take or
    that is of the wrong type, one that it needs, for what the source finds, and for a number that
    is not finite.

    >>> data = load("digits", seed=1, validation_fraction=0.1)
    >>> {name: split.rows for name, split in data.splits().items()}
    {'train': 1293, 'validation': 144, 'test': 360}
    >>> load("idx", paht="mnist")
    Traceback (most recent call last):
    funcnn.data.dataset.OptionError: data "idx" takes no paht (did you mean path?); it takes ...
    """
    known = files(SETS)
    if name not in known:
        hint = did_you_mean(name, known, quote='"')
        raise DataError(f'unknown data "{name}"{hint}; known: {", ".join(known)}')
    source: Callable[..., Dataset] = named(SETS, name)
    given = _checked(name, source, options)
    general = dict(zip(GENERAL, (seed, test_fraction, validation_fraction), strict=True))
    takes = inspect.signature(source).parameters
    dataset = source(**given, **{key: value for key, value in general.items() if key in takes})
    own = "validation_fraction" in takes
    return finished(dataset, 0.0 if own else validation_fraction, seed)


def finished(dataset: Dataset, validation_fraction: float, seed: int) -> Dataset:
    """With that share of the training rows set apart, and without a number that is not finite.

    Raises:
        DataError: the rows cannot be cut, or there is a NaN or an infinity.

    >>> import numpy as np
    >>> from funcnn.data.dataset import Split
    >>> split = Split(x=np.zeros((10, 3), np.float32))
    >>> finished(Dataset(split, split, "zeros"), 0.2, seed=0).watched.rows
    2
    """
    if validation_fraction:
        dataset = _with_validation(dataset, validation_fraction, seed)
    check_finite(dataset)
    return dataset


def _checked(
    name: str, source: Callable[..., Dataset], options: Mapping[str, object]
) -> dict[str, object]:
    """The options, each of the type that the source says."""
    from pydantic import TypeAdapter, ValidationError

    takes = {
        key: value
        for key, value in inspect.signature(source).parameters.items()
        if key not in GENERAL
    }
    for key in options:
        if key not in takes:
            what = f"it takes {', '.join(takes)}"
            message = f'data "{name}" takes no {key}{did_you_mean(key, takes)}; {what}'
            raise OptionError(key, message)
    for key, parameter in takes.items():
        if parameter.default is parameter.empty and key not in options:
            raise OptionError(key, f'data "{name}" needs {key}')
    types, checked = get_type_hints(source), {}
    for key, value in options.items():
        try:
            checked[key] = TypeAdapter(types[key]).validate_python(value, strict=True)
        except ValidationError:
            message = f"{key} = {value!r}: expected {' or '.join(_told(types[key]))}"
            raise OptionError(key, f'data "{name}": {message}') from None
    return checked


_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def _told(hint: object) -> list[str]:
    """What values of a type are called in a config, which has neither None nor paths.

    >>> _told(int | list[str] | None)
    ['an integer', 'a list, each a text']
    """
    kind, inside = get_origin(hint), get_args(hint)
    if kind is Literal:
        return [", ".join(map(repr, inside))]
    if kind in (Union, UnionType):
        return [word for each in inside for word in _told(each)]
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return [f"a list, each {' or '.join(_told(inside[0]))}"]
    return [_WORDS[hint]] if isinstance(hint, type) and hint in _WORDS else []


def _with_validation(dataset: Dataset, size: float, seed: int) -> Dataset:
    if dataset.validation is not None:
        raise DataError(
            f"{dataset.name}: has a validation split of its own; leave validation_fraction at 0"
        )
    by = "y" if dataset.classes and "y" in dataset.train and dataset.train.y.ndim == 1 else None
    try:
        train, validation = cut_of(f"{dataset.name}: validation", dataset.train, size, seed, by)
    except SplitError as error:
        error.key = "validation_fraction"
        raise
    return dataclasses.replace(dataset, train=train, validation=validation)
