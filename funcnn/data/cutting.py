"""What a source cuts off for the test and for validation, with its name on the error."""

from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError, Split, cut


def cut_of(
    where: str | Path, split: Split, size: int | float, seed: int, by: str | None = None
) -> tuple[Split, Split]:
    """As `cut`, with `where`, a file or a data set, at the head of an error.

    >>> cut_of("rows.csv", Split(y=np.array([0, 1, 1])), 0.5, seed=0, by="y")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: rows.csv: cannot be split: class 0 has 1 row, and each ...
    """
    try:
        return cut(split, size, seed, by)
    except DataError as error:
        raise type(error)(f"{where}: {error}") from None


def cut_rows(
    where: str | Path,
    y: np.ndarray,
    seed: int,
    test: float,
    validation: float = 0.0,
    classes: bool = True,
) -> dict[str, np.ndarray]:
    """The rows (n,) of "train", "test" and, where its share is not 0, "validation".

    `test` is a share of all rows, `validation` of the rest; with `classes` each class of y (N,) is
    in each in its share.

    >>> rows = cut_rows("abc", np.arange(40) % 2, 0, 0.25, 0.2)
    >>> {name: index.size for name, index in rows.items()}
    {'train': 24, 'test': 10, 'validation': 6}
    """
    by = "y" if classes else None
    train, tested = cut_of(where, Split(row=np.arange(len(y)), y=y), test, seed, by)
    rows = {"test": tested["row"]}
    if validation:
        train, watched = cut_of(f"{where}: validation", train, validation, seed, by)
        rows["validation"] = watched["row"]
    return {"train": train["row"], **rows}
