"""Data of the user's own, in whatever form a function returns it, as a `Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnn.data.dataset import Batches, DataError, Dataset, Split, cut
from funcnn.data.iterables import batches_of

_FORMS = (
    "a funcnn.data.Dataset, a dict of arrays such as {'x': ..., 'y': ...}, or a dict with 'train' "
    "and 'test', each of them such a dict, and 'train' also a function of the step or an iterable "
    "of batches"
)


def as_dataset(built: Any, name: str, *, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """What a function returned, as a data set; one dict of arrays is cut in two.

    Arrays that are labels are cut so that each class is in both; `classes` is one more than the
    largest of the training labels.

    Raises:
        DataError: it is in none of the forms, or the arrays do not fit together.

    >>> made = as_dataset({"x": np.zeros((10, 3)), "y": np.arange(10) % 2}, "mine")
    >>> made.train.rows, made.test.rows, made.classes
    (8, 2, 2)
    >>> rows = {"x": np.zeros((4, 3)), "y": np.ones(4)}
    >>> as_dataset({"train": [rows, rows], "test": rows}, "loaded").stream(7)["x"].shape
    (4, 3)
    """
    if isinstance(built, Dataset):
        return built
    if not isinstance(built, Mapping) or not built:
        raise DataError(f"returned a {type(built).__name__}, and must return {_FORMS}")
    if "train" not in built:
        whole = _split(built)
        train, test = cut(whole, test_fraction, seed, by="y" if _is_label(whole) else None)
        return Dataset(train, test, name, classes=_classes(train))
    if "test" not in built:
        raise DataError(f"returned 'train' without 'test', and must return {_FORMS}")
    if others := [key for key in built if key not in ("train", "validation", "test")]:
        raise DataError(f"returned {others[0]!r} beside 'train' and 'test'; and it is {_FORMS}")
    stream = _stream(built["train"])
    train = _split(built["train"] if stream is None else stream(0))
    validation = _split(built["validation"]) if "validation" in built else None
    classes = _classes(train if stream is None else _split(built["test"]))
    return Dataset(train, _split(built["test"]), name, validation, classes, stream=stream)


def _stream(train: Any) -> Batches | None:
    """Batches by the step, where these are no rows that are all known."""
    if isinstance(train, Mapping):  # a Split is one, too
        return None
    stream: Any = train if callable(train) else batches_of(train)
    return stream


def _split(arrays: Any) -> Split:
    if isinstance(arrays, Split):
        return arrays
    if not isinstance(arrays, Mapping):
        raise DataError(f"a split is a dict of arrays, found a {type(arrays).__name__}")
    return Split(**{str(name): _single(array) for name, array in arrays.items()})


def _single(array: Any) -> np.ndarray:
    """As JAX takes it: float32 for float64, int32 for int64."""
    array = np.asarray(array)
    narrower = {"float64": np.float32, "int64": np.int32}.get(str(array.dtype))
    return array if narrower is None else array.astype(narrower)


def _is_label(split: Split) -> bool:
    return "y" in split and split["y"].ndim == 1 and split["y"].dtype.kind in "iu"


def _classes(split: Split) -> int | None:
    labels = split.get("y")
    return int(labels.max()) + 1 if labels is not None and labels.dtype.kind in "iu" else None
