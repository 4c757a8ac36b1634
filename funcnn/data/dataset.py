"""What a data set is: named arrays with one row for each example, in splits that share no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

# `batches(step)` -> {name: (B, ...)}; `batches(step, count)`: those of `count` steps, stacked.
Batches: TypeAlias = Callable[..., dict[str, np.ndarray]]


class DataError(ValueError):
    """Data that cannot be used; one line: where, what is wrong, what would be right.

    >>> raise DataError("train-labels-idx1-ubyte: label 12 is not one of the 10 classes (0 to 9)")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: train-labels-idx1-ubyte: label 12 is not one of the 10 ...
    """


class SplitError(DataError):
    """Rows that cannot be cut into splits of the sizes wanted.

    >>> raise SplitError("cannot be split: 60 rows of 10 classes, test_size 0.01: ...")
    Traceback (most recent call last):
    funcnn.data.dataset.SplitError: cannot be split: 60 rows of 10 classes, test_size 0.01: ...
    """

    key = "test_fraction"  # of a config, which asks for these sizes


class OptionError(DataError):
    """An option that does not fit the data; `option` is its name, which a config has.

    >>> raise OptionError("target", "pets.csv: no column pett")
    Traceback (most recent call last):
    funcnn.data.dataset.OptionError: pets.csv: no column pett
    """

    def __init__(self, option: str, message: str):
        super().__init__(message)
        self.option = option


class Split(Mapping[str, np.ndarray]):
    """Named arrays of numbers with one leading axis, the rows: a batch is some rows of each.

    Most have `x`, what a model is given, and `y`, what it is to say. An array may be a memory map
    or a view: a batch takes rows by their index and nothing else. Raises `DataError` where an array
    holds no numbers, or there are not as many rows of each, or none.

    >>> split = Split(x=np.zeros((5, 8, 8, 1), np.float32), y=np.zeros(5, np.int32))
    >>> split.rows, list(split), split["x"].shape
    (5, ['x', 'y'], (5, 8, 8, 1))
    """

    def __init__(self, **arrays: np.ndarray):
        for name, array in arrays.items():
            if not hasattr(array, "dtype") or array.dtype.kind not in "biuf" or not array.ndim:
                raise DataError(
                    f"{name} must be an array of numbers with rows, found {_kind(array)}"
                )
        rows = {name: len(array) for name, array in arrays.items()}
        if len(set(rows.values())) != 1:
            raise DataError(f"a split needs as many rows of each of its arrays, found {rows}")
        self._arrays = arrays
        self.rows: int = next(iter(rows.values()))

    @property
    def x(self) -> np.ndarray:
        """What a model is given, by its usual name."""
        return self["x"]

    @property
    def y(self) -> np.ndarray:
        """What it is to say, by its usual name."""
        return self["y"]

    def take(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The rows at an index of any shape: a batch.

        >>> Split(y=np.arange(5)).take(np.array([[0, 4], [2, 2]]))
        {'y': array([[0, 4],
               [2, 2]])}
        """
        return {name: np.asarray(array[index]) for name, array in self.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _kind(array: Any) -> str:
    if not hasattr(array, "dtype"):
        return f"a {type(array).__name__}"
    found = np.asarray(array)
    return f"{found.dtype} {found.shape}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits that share no row, and what is known of their values.

    Attributes:
        train: what a step sees.
        test: what is looked at once, at the end.
        name: for messages.
        validation: what training looks at on its way; None where nothing was set apart.
        classes: how many classes `y` tells apart, 0 to `classes` - 1; None where it tells none.
        labels: the names of the classes, where they have any.
        vocabulary: what each token stands for, where the rows are text.
        read: reads the inputs of further rows from a file, as those of the data were read; None
            where the data have no such files.
        fitted: whether `read` treats them by what these rows are: their categories, their mean.
        stream: the batches themselves, where they are a function of the step and not rows that are
            all known; `train` then has the rows of the first one.

    >>> split = Split(x=np.zeros((5, 8, 8, 1), np.float32), y=np.zeros(5, np.int32))
    >>> Dataset(split, split, "zeros", classes=10).classes
    10
    """

    train: Split
    test: Split
    name: str
    validation: Split | None = None
    classes: int | None = None
    labels: tuple[str, ...] = ()
    vocabulary: Sequence[str] = ()
    stream: Batches | None = None
    read: Callable[[Path], np.ndarray] | None = None
    fitted: bool = False

    @property
    def watched(self) -> Split:
        """The split that training looks at: that for validation, or else the test."""
        return self.test if self.validation is None else self.validation

    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def check_finite(dataset: Dataset) -> None:
    """Raise `DataError` naming the split and the row that holds the first NaN or infinity.

    >>> x, y = np.zeros((3, 8, 8, 1), np.float32), np.zeros(3, np.int32)
    >>> check_finite(Dataset(Split(x=x, y=y), Split(x=x / np.inf, y=y), "zeros"))
    >>> check_finite(Dataset(Split(x=x, y=y), Split(x=x + np.nan, y=y), "gaps"))
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: gaps: test row 0: x holds nan at 0, 0, 0; numbers must be finite
    """
    for split_name, split in dataset.splits().items():
        for name, array in split.items():
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            row, *place = map(int, np.argwhere(~np.isfinite(array))[0])
            where = f" at {', '.join(map(str, place))}" if place else ""
            raise DataError(
                f"{dataset.name}: {split_name} row {row}: {name} holds {array[(row, *place)]}"
                f"{where}; numbers must be finite"
            )


def cut(split: Split, size: int | float, seed: int, by: str | None = None) -> tuple[Split, Split]:
    """Cut one split in two, shuffled by `seed`: the second has `size` rows, or that share of them.

    With `by`, the name of an array of classes (N,), each class is in both in its share. Raises
    `DataError` where a class cannot be in both, `SplitError` where other sizes would do.

    >>> split = Split(x=np.zeros((20, 8, 8, 1)), y=np.arange(20) % 2)
    >>> train, test = cut(split, 0.2, seed=0, by="y")
    >>> np.bincount(train.y).tolist(), np.bincount(test.y).tolist()
    ([8, 8], [2, 2])
    """
    from sklearn.model_selection import train_test_split

    classes = None if by is None else split[by]
    of_classes = ""
    if classes is not None:
        labels, counts = np.unique(classes, return_counts=True)
        of_classes = f" of {labels.size} classes"
        if counts.size == 0 or counts.min() < 2:
            rare = (
                f"class {labels[counts.argmin()]} has 1 row" if counts.size else "there is no row"
            )
            raise DataError(f"cannot be split: {rare}, and each class needs 2 or more")
    try:
        first, second = train_test_split(
            np.arange(split.rows), test_size=size, stratify=classes, random_state=seed
        )
    except ValueError as error:
        message = f"{split.rows} rows{of_classes}, a share of {size}: {error}"
        raise SplitError(f"cannot be split: {message}") from None
    return Split(**split.take(np.asarray(first))), Split(**split.take(np.asarray(second)))
