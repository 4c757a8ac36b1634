"""What a source cuts off for the test and for validation, with its name on the error."""

from pathlib import Path

from funcnn.data.dataset import DataError, Split, cut


def cut_of(
    where: str | Path, split: Split, size: int | float, seed: int, by: str | None = None
) -> tuple[Split, Split]:
    """As `cut`, with `where`, a file or a data set, at the head of an error.

    >>> import numpy as np
    >>> cut_of("rows.csv", Split(y=np.array([0, 1, 1])), 0.5, seed=0, by="y")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: rows.csv: cannot be split: class 0 has 1 row, and each ...
    """
    try:
        return cut(split, size, seed, by)
    except DataError as error:
        raise type(error)(f"{where}: {error}") from None
