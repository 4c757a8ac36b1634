"""Batches whose rows go on where those of the batch before stopped: for a carried state."""

from __future__ import annotations

import numpy as np

from funcnn.data.batches import Batches
from funcnn.data.dataset import DataError, Split

FIRST = "first"


def make_streams(
    split: Split, batch_size: int, steps_per_call: int = 1, rows: np.ndarray | None = None
) -> Batches:
    """The batches of truncated backpropagation through time: `batches(step)` -> {name: (B, ...)}.

    The rows of the split are windows that follow each other, as those of the data "text" and
    "tokens". They are cut into B = `batch_size` streams of N // B rows; row i of each batch is the
    next of stream i, and after the last all streams begin anew. `first` bool (B,) says which rows
    begin their stream: there a state that is carried from batch to batch must start again. Rows
    beyond B (N // B) are left out.

    As of `make_batches`, `batches(step, count)` has those of `count` steps, stacked: (count, B,
    ...); count is `steps_per_call` where that is more than 1 and no count is given. A batch is a
    function of the step alone. With `rows` each has these of its rows alone, and no other is read.

    Raises `DataError` for more streams than rows and for an array called `first`; `ValueError` for
    a negative step or a count below 1.

    >>> from funcnn.data.windows import windows
    >>> batches = make_streams(windows(np.arange(25), length=4), batch_size=2)
    >>> for step in range(4):
    ...     batch = batches(step)
    ...     print(batch["x"].tolist(), batch["first"].tolist())
    [[0, 1, 2, 3], [12, 13, 14, 15]] [True, True]
    [[4, 5, 6, 7], [16, 17, 18, 19]] [False, False]
    [[8, 9, 10, 11], [20, 21, 22, 23]] [False, False]
    [[0, 1, 2, 3], [12, 13, 14, 15]] [True, True]
    """
    if not 1 <= batch_size <= split.rows:
        there = f"the {split.rows} rows"
        raise DataError(f"batch_size must be between 1 and {there}, found {batch_size}")
    if FIRST in split:
        raise DataError(f"streams add an array {FIRST!r}, and the data has one: rename it")
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call must be at least 1, found {steps_per_call}")
    each = split.rows // batch_size
    begin = each * np.arange(batch_size)[slice(None) if rows is None else rows]  # (B,)

    def batches(step: int, count: int | None = None) -> dict[str, np.ndarray]:
        stacked = count is not None or steps_per_call > 1
        count = steps_per_call if count is None else count
        if step < 0 or count < 1:
            raise ValueError(f"no batches for {count} steps from step {step}")
        place = np.arange(int(step), int(step) + count)[:, None] % each  # (count, 1)
        index, first = begin + place, np.repeat(place == 0, begin.size, axis=1)  # (count, B)
        batch = split.take(index if stacked else index[0])
        batch[FIRST] = first if stacked else first[0]
        return batch

    return batches
