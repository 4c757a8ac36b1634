"""A table as splits: what is fitted to its columns is fitted to the training rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from funcnn.data.cutting import cut_rows
from funcnn.data.dataset import DataError, Dataset, Split


def make_table(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    columns: Sequence[str],
    numbers: Sequence[bool],
    labels: tuple[str, ...] = (),
    standardise: bool = False,
    seed: int = 0,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    read: Callable[[Path], np.ndarray] | None = None,
) -> Dataset:
    """A table x (N, D), NaN where a value is missing, and its target y (N,), cut into splits.

    With `labels` y are classes, and each is in each split in its share; without, y are numbers and
    become float32. A missing value is the mean of its column; with `standardise`, a column that
    `numbers` (D,) calls one has its mean taken off and is divided by its standard deviation, or by
    1 where that is 0. Means and deviations are those of the training rows alone. `read` takes x of
    further rows (M, D) from a file, which are then treated as these.

    Raises `DataError` for a column, called as in `columns`, with no value in the training rows, and
    what `cut` raises.

    >>> x, y = np.arange(20.0)[:, None], np.arange(20.0)
    >>> data = make_table("rows", x, y, columns=["a"], numbers=[True], standardise=True)
    >>> data.train.x.shape, data.train.x.dtype, abs(data.train.x.mean().item()) < 1e-6
    ((16, 1), dtype('float32'), True)
    """
    with np.errstate(over="ignore"):  # an infinity is named by its row, as any other
        y = y.astype(np.int32 if labels else np.float32)
    rows = cut_rows(name, y, seed, test_fraction, validation_fraction, bool(labels))
    seen = x[rows["train"]]  # (n, D)
    known = ~np.isnan(seen)
    for column, any_known in zip(columns, np.any(known, axis=0).tolist(), strict=True):
        if not any_known:
            raise DataError(
                f"{name}: {column} has no value in any of the {len(seen)} rows to train"
            )
    mean, deviation = np.nanmean(seen, axis=0), np.nanstd(seen, axis=0)  # (D,)
    scaled = np.logical_and(standardise, numbers)  # (D,)
    shift = np.where(scaled, mean, 0.0)
    scale = np.where(scaled & (deviation != 0), deviation, 1.0)

    def treated(x: np.ndarray) -> np.ndarray:
        x = np.where(np.isnan(x), mean, x)
        with np.errstate(over="ignore"):
            return ((x - shift) / scale).astype(np.float32)

    x = treated(x)
    splits = {split: Split(x=x[index], y=y[index]) for split, index in rows.items()}
    train, test, validation = splits["train"], splits["test"], splits.get("validation")
    further = None if read is None else lambda path: treated(read(path))
    classes, fitted = len(labels) or None, further is not None
    return Dataset(train, test, name, validation, classes, labels, read=further, fitted=fitted)


def bundled_table(
    name: str, standardise: bool, seed: int, test_fraction: float, validation_fraction: float
) -> Dataset:
    """One of the tables that come with scikit-learn, as `load_{name}` has it, unscaled.

    >>> bundled_table("wine", False, 0, 0.2, 0.0).labels
    ('class_0', 'class_1', 'class_2')
    """
    from sklearn import datasets

    unscaled = {"scaled": False} if name == "diabetes" else {}
    table = getattr(datasets, f"load_{name}")(**unscaled)
    return make_table(
        name,
        table.data,
        table.target,
        columns=list(table.feature_names),
        numbers=[True] * table.data.shape[1],
        labels=tuple(map(str, getattr(table, "target_names", ()))),
        standardise=standardise,
        seed=seed,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
    )
