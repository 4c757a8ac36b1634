"""Which images a step sees: a function of the seed and the step, and of nothing else."""

import functools
from collections.abc import Callable

import numpy as np

from funcnn.data.dataset import DataError, Split


def make_batches(
    split: Split, batch_size: int, seed: int, steps_per_call: int = 1
) -> Callable[..., dict[str, np.ndarray]]:
    """The batches of a run: `batches(step)` -> {"x": (B, H, W, C) float32, "y": (B,) int32}.

    Each epoch is a permutation of all images, drawn from (seed, epoch); the epochs make one stream
    and a batch is the next `batch_size` of it, so that every batch is full and no image is left
    out. `batches(step, count)` has the batches of `count` steps from `step` on, stacked: (count, B,
    ...); count is `steps_per_call` where that is more than 1 and no count is given. A stopped run
    needs nothing but its seed and step to go on with the very batches it would have seen.

    Raises `DataError` for a batch larger than the data, `ValueError` for a negative step or a count
    below 1.

    >>> split = Split(np.zeros((10, 8, 8, 1), np.float32), np.arange(10, dtype=np.int32))
    >>> batches = make_batches(split, batch_size=5, seed=0)
    >>> sorted(batches(0)["y"].tolist() + batches(1)["y"].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> batches(0, 3)["x"].shape
    (3, 5, 8, 8, 1)
    """
    size = len(split.y)
    if not 1 <= batch_size <= size:
        raise DataError(f"batch_size must be between 1 and the {size} images, found {batch_size}")
    if steps_per_call < 1:
        raise ValueError(f"steps_per_call must be at least 1, found {steps_per_call}")

    @functools.lru_cache(maxsize=2)  # a batch touches one epoch, or two at their border
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(size)  # (N,)

    def rows(start: int, stop: int) -> np.ndarray:
        """The images at the positions start to stop of the stream."""
        epochs = range(start // size, (stop - 1) // size + 1)
        parts = [order(e)[max(start - e * size, 0) : stop - e * size] for e in epochs]
        return np.concatenate(parts)

    def batches(step: int, count: int | None = None) -> dict[str, np.ndarray]:
        stacked = count is not None or steps_per_call > 1
        count = steps_per_call if count is None else count
        if step < 0 or count < 1:
            raise ValueError(f"no batches for {count} steps from step {step}")
        index = rows(int(step) * batch_size, (int(step) + count) * batch_size)
        index = index.reshape((count, batch_size) if stacked else (batch_size,))
        return {"x": split.x[index], "y": split.y[index]}  # (B, H, W, C), (B,)

    return batches
