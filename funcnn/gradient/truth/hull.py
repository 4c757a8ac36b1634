"""Whether a gradient at ties is a mean of the gradients beside the point.

Each way to break a tie has its own gradient, and their means are right at the tie: those of first
wins, of last wins, of equal shares. They are looked for about the point, and towards what they do
not make up yet.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from funcnn.gradient.truth.contested import Contested
from funcnn.gradient.truth.ties import STEP, TiedPoint

_APART = 16  # ties that have nothing to do with each other
_TOGETHER = 64  # elements of one
_DRAWS = 32  # points beside, and as many times the points towards what is open
_MADE_UP = 1e-6  # relative
_APART_BY = 1e-3  # relative: gradients that differ by less are those of a smooth function
_STRAIGHT = 1e-3  # of the change of the value: what its slope beside the point may leave open


def is_of_the_points_beside(one: Contested) -> bool:
    """Whether some points beside have gradients of which this is a mean, tie by tie.

    >>> import jax
    >>> from funcnn.gradient.case.pullbacks import Subject
    >>> x, f = np.ones(3), lambda x: [jax.numpy.sort(x)[1]]
    >>> def beside(manual):
    ...     with jax.enable_x64(True):
    ...         one = Subject(("x",), (x,), f, f, False)
    ...         truth = np.array([0.0, 1.0, 0.0])
    ...         return is_of_the_points_beside(
    ...             Contested(one, (x,), [1.0], 0, manual, truth, 1e-9 * x)
    ...         )
    >>> beside(np.array([1.0, 0.0, 0.0])), beside(x / 3), beside(x / 2), beside(-x)
    (True, True, False, False)
    """
    point = TiedPoint.of(one)
    start = sum(np.size(leaf) for leaf in one.x[: one.leaf])
    left = np.isin(np.arange(point.truth.size), start + one.off)
    for _ in range(_APART):
        if not np.any(left):
            return True
        tied = point.partners(int(np.argmax(left)))
        if np.sum(tied) > _TOGETHER or not _is_mean(point, tied):
            return False
        left &= ~tied
    return False


def _is_mean(point: TiedPoint, tied: np.ndarray) -> bool:
    random = np.random.default_rng(0)
    target = (point.truth + point.own + point.others)[tied]
    beside: list[np.ndarray] = []
    towards = np.zeros(target.size)
    for i in range(2 * _DRAWS):
        size = np.max(np.abs(towards))
        draw = random.normal(size=target.size)
        draw = draw if i < _DRAWS or not size else (-1) ** i * (towards / size + draw / 16)
        gradient = _beside(point, tied, draw)
        if gradient is None:
            continue
        beside.append(gradient)
        if i >= _DRAWS - 1:
            jump = np.max(np.ptp(np.stack(beside), axis=0))
            if jump <= _APART_BY * np.max(np.abs(target)):
                return False
            towards = target - _mean_next_to(target, beside)
            if np.all(np.abs(towards) <= point.allowed[tied] + _MADE_UP * np.max(np.abs(target))):
                return True
    return False


def _beside(point: TiedPoint, tied: np.ndarray, draw: np.ndarray) -> np.ndarray | None:
    """The gradient at a point beside; None where the function is not straight on the way there."""
    direction = np.zeros(tied.size)
    direction[tied] = draw
    step = STEP * point.size(direction) * direction / np.max(np.abs(draw))
    value, gradient = point.moved(step)
    gap = abs(value - point.one.value - float(gradient @ step))
    straight = _STRAIGHT * float(np.abs(gradient) @ np.abs(step))
    return gradient[tied] if gap <= straight + point.one.value_noise else None


def _mean_next_to(target: np.ndarray, beside: list[np.ndarray]) -> np.ndarray:
    """The mean, with weights that are not negative, that is next to it."""
    vectors = np.stack(beside, 1)
    sizes = max(float(np.max(np.abs(vectors))), float(np.max(np.abs(target))), 1e-300)
    matrix = np.vstack([vectors / sizes, np.full(len(beside), 1e3)])
    weights = nnls(matrix, np.append(target / sizes, 1e3))[0]
    return vectors @ (weights / max(np.sum(weights), 1e-300))
