"""Numbers for each row."""

from __future__ import annotations

from funcnn.task.task import Task, check_numbers


def regression() -> Task:
    """x -> numbers of the shape of y, (B,) or (B, ...); (B, 1) for y (B,) will do.

    >>> regression().loss
    'squared_error'
    """
    return Task(loss="squared_error", metrics=("mse", "mae", "r2"), check=check_numbers)
