"""A table in a file of values separated by commas: one column is the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from funcnn.data.columns import (
    Column,
    Rows,
    check_columns,
    read_column,
    read_known_column,
    read_rows,
)
from funcnn.data.dataset import DataError, Dataset, OptionError
from funcnn.data.tables import make_table
from funcnn.spelling import did_you_mean

Missing = Literal["error", "drop", "mean"]
Encoding = Literal["one_hot", "codes"]


def csv(
    path: str | Path,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    encoding: Encoding = "one_hot",
    missing: Missing = "error",
    standardise: bool = False,
    separator: str = ",",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """The rows of a table with a header: `x` float32 (N, D), and `y` (N,) of the column `target`.

    Args:
        path: the file, UTF-8.
        target: a column of categories, `y` int32 with their names as `labels`, or of numbers, `y`
            float32. It is needed; the error without it names the columns that there are.
        columns: those that `x` has, in this order; without it, all but the target.
        categorical: columns whose numbers are names: their values are categories. A column that
            holds no number has categories anyway.
        encoding: of K categories in `x`: "one_hot", K columns with one 1 in each row, or "codes",
            one column of the numbers from 0 to K - 1. They are those of all rows, in the order of
            the alphabet, or of their numbers where all are.
        missing: what a missing value is (an empty field, NA, N/A, NaN, null, None or ?): "error";
            "drop", the row is left out; "mean", the mean of its column in the training rows, but an
            error for a category and for the target.
        standardise: whether the columns of numbers have mean 0 and standard deviation 1 in the
            training rows, and are moved and scaled in the others as in these.
        separator: one character.
        test_fraction, validation_fraction: of the rows, and of those that are left; drawn by
            `seed`, each class in its share.

    Raises `DataError`, one line with the file and the line.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "pets.csv"
    >>> _ = path.write_text("kind,weight,name\\n" + "cat,4.5,a\\ndog,30,b\\n" * 10)
    >>> data = csv(path, target="kind", columns=["weight"])
    >>> data.train.x.shape, data.labels, data.classes
    ((16, 1), ('cat', 'dog'), 2)
    """
    _check_choice(path, "missing", missing, ("error", "drop", "mean"))
    _check_choice(path, "encoding", encoding, ("one_hot", "codes"))
    rows = read_rows(Path(path), separator)
    if target is None:
        raise OptionError("target", f"{path}: needs target, one of {rows.names()}")
    names = _features(rows, target, columns)
    check_columns(rows, "categorical", *categorical)
    if missing == "drop":
        rows = rows.without_missing([*names, target])
    features = {name: read_column(rows, name, name in categorical) for name in names}
    wanted = read_column(rows, target, target in categorical)
    _check_missing(rows, {**features, target: wanted}, missing, target)
    _check_target(path, target, wanted)
    one_hot = encoding == "one_hot"
    encoded = {name: c.encoded(one_hot) for name, c in features.items()}

    def read(path: Path) -> np.ndarray:
        return _further(path, separator, features, one_hot, missing == "mean")

    return make_table(
        str(path),
        np.concatenate(list(encoded.values()), axis=1),  # (N, D)
        wanted.values,
        columns=[name for name, array in encoded.items() for _ in range(array.shape[1])],
        numbers=[not features[n].categories for n, a in encoded.items() for _ in range(a.shape[1])],
        labels=wanted.categories,
        standardise=standardise,
        seed=seed,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        read=read,
    )


def _further(
    path: Path, separator: str, features: dict[str, Column], one_hot: bool, fills: bool
) -> np.ndarray:
    """x (M, D) of the rows in another file, which need no target."""
    rows = read_rows(path, separator)
    check_columns(rows, "columns", *features)
    columns = {name: read_known_column(rows, name, like) for name, like in features.items()}
    for name, column in columns.items():
        gap = np.isnan(column.values)
        if gap.any() and (column.categories or not fills):
            raise DataError(f"{rows.place(int(gap.argmax()))}: {name} is missing")
    return np.concatenate([c.encoded(one_hot) for c in columns.values()], axis=1)


def _check_choice(path: str | Path, option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = did_you_mean(value, known, quote='"')
        message = f'{path}: {option} = "{value}"{hint} is none of {", ".join(known)}'
        raise OptionError(option, message)


def _features(rows: Rows, target: str, columns: Sequence[str] | None) -> list[str]:
    """The names of the columns of x."""
    check_columns(rows, "target", target)
    check_columns(rows, "columns", *(columns or ()))
    names = [name for name in rows.columns if name != target] if columns is None else list(columns)
    if target in names or not names:
        wrong = f"{target} is the target" if names else "there is none beside the target"
        raise OptionError("columns", f"{rows.path}: columns: {wrong}")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise OptionError("columns", f"{rows.path}: columns: {twice} stands there twice")
    return names


def _check_target(path: str | Path, target: str, wanted: Column) -> None:
    if len(wanted.categories) == 1:
        raise DataError(f"{path}: target: {target} is {wanted.categories[0]!r} in every row")


def _check_missing(rows: Rows, columns: dict[str, Column], missing: str, target: str) -> None:
    """Raise `DataError` where a value is missing that does not become the mean of its column."""
    drop = 'missing = "drop" leaves such rows out'
    for name, column in columns.items():
        gap = np.isnan(column.values)
        why = ", and a category has no mean" if column.categories else ""
        why = ", and it is the target" if name == target else why
        if gap.any() and (missing == "error" or why):
            cure = drop if why else f'{drop}, "mean" takes that of the training rows'
            where = rows.place(int(gap.argmax()))
            wrong = f"{name} is missing{why if missing == 'mean' else ''}"
            raise OptionError("missing", f"{where}: {wrong}: {cure}")
