"""Operands that no tie survives, and what a derivative does there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn.gradient.program.float64 import is_float, raised
from funcnn.types import ArrayLike

# Ties and kinks are broken by a shake of this relative size. An element of a derivative that moves
# by more than _JUMP of itself, and by more than ten shakes of the whole, stands on one, and any
# rule may then take either side.
_SHAKE, _JUMP = 1e-9, 1e-3


def rms(leaves: list[Any]) -> float:
    """The root of the mean square of what is finite in the floating-point leaves, 1 where all is 0.

    >>> rms([np.array([3.0, -3.0, -np.inf])])
    3.0
    """
    finite = [np.asarray(x)[np.isfinite(x)] for x in leaves if is_float(x)]
    squares = [np.mean(np.square(x)) for x in finite if x.size]
    return math.sqrt(float(np.mean(squares))) if any(squares) else 1.0


def shake(leaves: list[Any], seed: int, size: float | None = None) -> list[Any]:
    """Float64 leaves with noise of their own size, or of a given one, which no tie survives.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     x, = shake([np.ones(2)], seed=0)
    >>> bool(x[0] == x[1])
    False
    """
    random = np.random.default_rng(seed)
    scales = [_SHAKE * (rms([x]) if size is None else size) for x in leaves]
    return [
        raised(np.asarray(x) + scale * random.normal(size=x.shape)) if is_float(x) else x
        for x, scale in zip(leaves, scales, strict=True)
    ]


def smooth_elements(truth: ArrayLike, shaken: ArrayLike) -> np.ndarray:
    """Where a derivative does not jump under a shake.

    >>> smooth_elements(np.array([0.0, 1.0]), np.array([1.0, 1.0 + 1e-9]))
    array([False,  True])
    """
    truth, shaken = np.asarray(truth), np.asarray(shaken)
    by = np.abs(shaken - truth)
    itself = _JUMP * np.maximum(np.abs(truth), np.abs(shaken))
    return ~((by > itself) & (by > 10 * _SHAKE * rms([truth])))  # NaN is no jump
