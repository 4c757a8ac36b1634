"""Batches from somewhere else: any iterable of them, asked for by the step."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from funcnn.data.dataset import DataError
from funcnn.data.optional import said

Tree = Any  # nested dicts, tuples and lists of arrays, or of what becomes one
Item = TypeVar("Item", covariant=True)


@runtime_checkable
class Indexed(Protocol[Item]):
    """What has its batches at numbers, as a list or a `grain.MapDataset`.

    >>> isinstance([], Indexed), isinstance(iter([]), Indexed)
    (True, False)
    """

    def __getitem__(self, index: int, /) -> Item: ...

    def __len__(self) -> int: ...


def batches_of(
    iterable: Iterable[object] | Indexed[object], names: Sequence[str] = ("x", "y")
) -> Callable[..., dict[str, Any]]:
    """`batches(step[, count])`, as of `make_batches`, from batches that are made elsewhere.

    A batch is a dict, a tuple or list of as many parts as there are `names`, or, with one name, a
    part alone. A part is an array, or a nested dict, tuple or list of arrays; what NumPy can read
    becomes an array of NumPy, as a tensor of PyTorch does, or a list of numbers.

    What has its batches at numbers, a list or a `grain.MapDataset`, is asked for `iterable[step]`,
    and where it raises `IndexError`, begins again: its batches depend on the step alone. Of all
    else, as a `DataLoader` of PyTorch or a generator, batches are taken one after the other, and
    where they end, from the beginning. There a step that was passed, or the first step of a run
    that goes on, is reached by starting again and passing over those before it: exactly, only if
    the iterable repeats itself. An iterator cannot start again: it gives each step once, in order,
    the last answer as often as wanted.

    Raises `DataError` where this is asked of an iterator or it ends, for a batch of another form,
    and for several steps whose batches differ in shape; `ValueError` as `make_batches`.

    >>> batches = batches_of([(np.ones((4, 2)), np.zeros(4)), (np.full((4, 2), 2.0), np.ones(4))])
    >>> batches(3)["x"][0].tolist(), batches(0, 2)["y"].shape
    ([2.0, 2.0], (2, 4))
    >>> once = batches_of(iter([{"x": [1, 2]}, {"x": [3, 4]}]))
    >>> once(1), once(0)
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: step 0 was asked for after step 1: an iterator cannot go back...
    """
    if isinstance(iterable, Mapping | str | bytes):
        raise DataError(f"give an iterable of batches, found one {type(iterable).__name__}")
    take = _by_number(iterable) if isinstance(iterable, Indexed) else _in_turn(iterable)

    @functools.lru_cache(maxsize=1)  # who asks first what shapes a batch has asks for it again
    def found_at(step: int, count: int | None) -> dict[str, Any]:
        if count is None:
            return _named(take(step), names, step)
        found = [_named(take(each), names, each) for each in range(step, step + count)]
        return _stacked(found, f"steps {step} to {step + count - 1}")

    def batches(step: int, count: int | None = None) -> dict[str, Any]:
        step = int(step)
        if step < 0 or (count is not None and count < 1):
            raise ValueError(
                f"no batches for {1 if count is None else count} steps from step {step}"
            )
        return found_at(step, count)

    return batches


def _by_number(sequence: Indexed[object]) -> Callable[[int], object]:
    if not len(sequence):
        raise DataError("there is no batch: the sequence is empty")

    def take(step: int) -> object:
        try:
            return sequence[step]
        except IndexError:
            return sequence[step % len(sequence)]

    return take


def _in_turn(iterable: Iterable[object]) -> Callable[[int], object]:
    """Batches by their step, from one that is iterated: what it remembers is where it stands."""
    if not isinstance(iterable, Iterable):
        kind = type(iterable).__name__
        raise DataError(f"give an iterable of batches, found {kind}, which cannot be iterated")
    place = _Place(iterable)

    def take(step: int) -> object:
        if step < place.step:
            place.start(step)
        while place.step < step:
            place.advance(step)
        return place.batch

    return take


class _Place:
    """Where an iterable stands: at the batch of a step, -1 before the first."""

    def __init__(self, iterable: Iterable[object]):
        self.iterable = iterable
        self.iterator: Iterator[object] = iter(iterable)
        self.repeats = self.iterator is not iterable
        self.step, self.batch = -1, None

    def start(self, wanted: int) -> None:
        if not self.repeats:
            raise DataError(
                f"step {wanted} was asked for after step {self.step}: an iterator cannot go back; "
                "give what can be iterated again, as a list, a DataLoader or a class with __iter__"
            )
        self.iterator, self.step = iter(self.iterable), -1

    def advance(self, wanted: int) -> None:
        end = object()
        batch = next(self.iterator, end)
        if batch is end:
            if not self.repeats:
                raise DataError(
                    f"the iterator ended after {self.step + 1} batches, and step {wanted} needs "
                    "another; give what can be iterated again, as a list or a DataLoader"
                )
            self.iterator = iter(self.iterable)
            batch = next(self.iterator, end)
        if batch is end:
            raise DataError("there is no batch: the iterable is empty")
        self.step, self.batch = self.step + 1, batch


def _named(batch: object, names: Sequence[str], step: int) -> dict[str, Any]:
    where = f"the batch of step {step}"
    if isinstance(batch, Mapping):
        parts = {str(name): part for name, part in batch.items()}
    elif len(names) == 1 and not (isinstance(batch, tuple | list) and len(batch) == 1):
        parts = {names[0]: batch}
    elif isinstance(batch, tuple | list) and len(batch) == len(names):
        parts = dict(zip(names, batch, strict=True))
    else:
        kind = type(batch).__name__
        found = f"{kind} of {len(batch)}" if isinstance(batch, tuple | list) else kind
        raise DataError(f"{where} must be a dict, or have {', '.join(names)}; found {found}")
    return {name: _arrays(part, f"{where}: {name}") for name, part in parts.items()}


def _arrays(part: Tree, where: str) -> Tree:
    if isinstance(part, Mapping):
        return {name: _arrays(each, f"{where}/{name}") for name, each in part.items()}
    if isinstance(part, tuple | list) and not all(isinstance(n, numbers.Real) for n in part):
        parts = [_arrays(each, f"{where}/{place}") for place, each in enumerate(part)]
        if isinstance(part, list):
            return parts
        return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)
    try:
        array = np.asarray(part)
    except Exception as error:  # of whatever package it is: on another device, with a gradient
        raise DataError(f"{where}: makes no array of NumPy: {said(error)}") from None
    if array.dtype.kind in "OUSMm":
        kind = f"a {type(part).__name__}, {array.dtype} for NumPy"
        raise DataError(f"{where} must be numbers, found {kind}")
    return array


def _stacked(parts: Sequence[Tree], where: str) -> Tree:
    """Trees of arrays as one, each array with a leading axis for the steps."""
    first = parts[0]
    if isinstance(first, np.ndarray) and all(isinstance(part, np.ndarray) for part in parts):
        shapes = list(dict.fromkeys(part.shape for part in parts))
        if len(shapes) > 1:
            raise DataError(
                f"{where}: shapes {shapes[0]} and {shapes[1]} cannot be stacked; leave out a last "
                "batch that is smaller"
            )
        return np.stack(parts)
    alike = all(type(part) is type(first) for part in parts)
    keys = [list(p) if isinstance(p, Mapping) else len(p) for p in parts] if alike else []
    if not alike or any(each != keys[0] for each in keys):
        raise DataError(f"{where}: the batches have different parts")
    if isinstance(first, Mapping):
        return {name: _stacked([p[name] for p in parts], f"{where}: {name}") for name in first}
    columns = [_stacked(column, where) for column in zip(*parts, strict=True)]
    if isinstance(first, list):
        return columns
    return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
