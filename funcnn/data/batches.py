"""Which rows a step sees: a function of the seed and the step, and of nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from funcnn.data.dataset import Batches, DataError, Split

# What becomes of the rows at the end of an epoch that fill no batch.
Last: TypeAlias = Literal["fill", "drop", "pad", "error"]
MASK = "mask"


def make_batches(
    split: Split,
    batch_size: int,
    seed: int,
    steps_per_call: int = 1,
    last: Last = "fill",
    rows: np.ndarray | None = None,
) -> Batches:
    """The batches of a run: `batches(step)` -> {name: (B, ...)}, some rows of each array.

    Each epoch is a permutation of all rows, drawn from (seed, epoch). Where their number is no
    multiple of `batch_size`, `last` says what becomes of the rest: "fill", a batch is filled up
    with the first rows of the next epoch, so that every batch is full and no row is left out;
    "drop", it is left out of this epoch; "pad", it is a batch filled up with copies, and every
    batch has a `mask` bool (B,), True for rows that count; "error", it is one.

    `batches(step, count)` has the batches of `count` steps from `step` on, stacked: (count, B,
    ...); count is `steps_per_call` where that is more than 1 and no count is given. A stopped run
    needs nothing but its seed and step to go on with the very batches it would have seen. With
    `rows` each batch has these of its rows alone, and no other row of the data is read.

    Raises `DataError` for a batch larger than the data, for rows that fill no batch where that is
    an error, and for an array called `mask` where one is added; `ValueError` for a negative step or
    a count below 1.

    >>> split = Split(x=np.zeros((10, 8, 8, 1), np.float32), y=np.arange(10, dtype=np.int32))
    >>> batches = make_batches(split, batch_size=5, seed=0)
    >>> sorted(batches(0)["y"].tolist() + batches(1)["y"].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> batches(0, 3)["x"].shape
    (3, 5, 8, 8, 1)
    >>> make_batches(split, batch_size=4, seed=0, last="pad")(2)["mask"]
    array([ True,  True, False, False])
    """
    _check(split, batch_size, last)
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call must be at least 1, found {steps_per_call}")
    stream = _positions(split.rows, batch_size, last)

    @functools.lru_cache(maxsize=2)  # a batch touches one epoch, or two at their border
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(split.rows)  # (N,)

    def batches(step: int, count: int | None = None) -> dict[str, np.ndarray]:
        stacked = count is not None or steps_per_call > 1
        count = steps_per_call if count is None else count
        if step < 0 or count < 1:
            raise ValueError(f"no batches for {count} steps from step {step}")
        epoch, position = stream(np.arange(int(step), int(step) + count))  # (count, B) each
        if rows is not None:
            epoch, position = epoch[:, rows], position[:, rows]
        known = {int(e): order(int(e)) for e in np.unique(epoch)}
        index = np.empty_like(position)
        for e, permutation in known.items():
            index[epoch == e] = permutation[position[epoch == e] % split.rows]
        batch = split.take(index if stacked else index[0])
        if last == "pad":
            mask = position < split.rows
            batch[MASK] = mask if stacked else mask[0]
        return batch

    return batches


def _positions(
    rows: int, size: int, last: Last
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Steps (n,) -> the epoch of each row of their batches, and its place in it, both (n, B)."""

    def of_stream(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = steps[:, None] * size + np.arange(size)  # (n, B)
        return place // rows, place % rows

    def of_epochs(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        in_one = rows // size if last == "drop" else -(-rows // size)
        place = steps[:, None] % in_one * size + np.arange(size)  # (n, B)
        return np.broadcast_to(steps[:, None] // in_one, place.shape), place

    return of_stream if last == "fill" else of_epochs


def _check(split: Split, batch_size: int, last: Last) -> None:
    rows = split.rows
    if not 1 <= batch_size <= rows:
        raise DataError(f"batch_size must be between 1 and the {rows} rows, found {batch_size}")
    if last == "error" and rows % batch_size:
        raise DataError(
            f"batch_size {batch_size} leaves {rows % batch_size} of the {rows} rows over, and "
            f"last = 'error' allows none: 'fill', 'drop' or 'pad'"
        )
    if last == "pad" and MASK in split:
        raise DataError(f"last = 'pad' adds an array {MASK!r}, and the data has one: rename it")
