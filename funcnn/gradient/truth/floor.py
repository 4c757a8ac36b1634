"""What changes of the inputs in their last place do to a truth: the noise floor.

A tie that they break turns a choice, and its jump is no rounding: it would hide any error as large.
It is as large where the inputs are changed far less, and what rounding does is not. So the truth is
taken at two distances in one direction, a last place apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from funcnn.gradient.program.float64 import perturbed
from funcnn.types import ArrayLike

_NEAR = 2.0**-45  # relative: far below the last place of float32; that of float64 is smaller still

Gradients = TypeVar("Gradients")


def distances(unit: float) -> tuple[float, float]:
    """How far the inputs are changed, relative, where their last place is twice the unit.

    >>> far, near = distances(2.0**-25)
    >>> far - near == 2.0**-25, near < 1e-5 * far
    (True, True)
    """
    near = min(_NEAR, 2 * unit)
    return near + unit, near


def draws(
    gradient: Callable[[list[Any]], Gradients],
    x: Sequence[Any],
    truth: Gradients,
    unit: float,
    count: int,
) -> list[Gradients]:
    """The truth, as often as asked, changed by what a last place of the inputs does to it.

    Args:
        gradient: of the inputs, in float64; it is called twice for each draw.
        x: the inputs, in float64.
        truth: the gradient there.
        unit: half of a last place of the inputs, relative.
        count: how many.

    >>> slope, = draws(lambda x: np.cos(x[0]), [np.float64(1.0)], np.cos(1.0), 2.0**-25, 1)
    >>> bool(0 < abs(slope - np.cos(1.0)) < 2.0**-24)
    True
    """

    def changed(distance: float, seed: int) -> Gradients:
        return gradient(perturbed(x, distance, seed))

    return [
        without_jumps(truth, *(changed(by, seed) for by in distances(unit)))
        for seed in range(count)
    ]


def without_jumps(truth: Gradients, far: Gradients, near: Gradients) -> Gradients:
    """The truth, changed by what lies between two points on one side of each tie.

    Args:
        truth: arrays in float64, in any tree.
        far, near: the same at inputs that are changed by those distances in one direction.

    >>> def gradient(x):
    ...     return np.array([x[0] >= x[1], x[0] ** 2])
    >>> far, near = (gradient([1 + by, 1 - by]) for by in distances(2.0**-10))
    >>> without_jumps(np.array([0.5, 1.0]), far, near) - [0.5, 1.0]
    array([0.        , 0.00195408])
    """
    return jax.tree.map(_without_jumps, truth, far, near)


def _without_jumps(truth: ArrayLike, far: ArrayLike, near: ArrayLike) -> np.ndarray:
    truth, far, near = np.asarray(truth), np.asarray(far), np.asarray(near)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isfinite(near), truth + (far - near), far)
