"""Whether a gradient at ties is one that no way to break them explains.

Each element of a tie may lie between its own two slopes, and their sum be wrong: where max(x, y)
gives dy to both. What is moved along with its partners does not break the tie; where the function
is smooth in such a direction there is one slope, and every gradient has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcnn.gradient.truth.contested import TINY, Contested

_ROUNDS = 8  # directions that are tried
_STEP = 2.0**-27  # relative: a power of 2, so that what ties is rounded alike
_GRID = 2.0**20  # elements of a direction that are equal but for rounding are made equal
_EXPLAINED = 1e-4  # relative
_COMPARABLE = 1e-4  # of the largest element that is moved
_CLEAR = 1e-2  # of what is judged: what may be unclear about the function


def misses_a_tie(one: Contested) -> bool:
    """Whether some direction along which the function is smooth has another slope than this says.

    The gradients beside the point, one for each way to break the ties, are looked for in the
    direction of what they do not explain yet. None of them there: it is no other side's gradient.

    >>> import jax
    >>> from funcnn.gradient.case.pullbacks import Subject
    >>> x, half = np.ones(2), np.full(2, 0.5)
    >>> def misses(manual):
    ...     f = lambda x: [jax.numpy.max(x)]
    ...     with jax.enable_x64(True):
    ...         one = Subject(("x",), (x,), f, f, False)
    ...         return misses_a_tie(Contested(one, (x,), [1.0], 0, manual, half, 1e-9 * x))
    >>> misses(np.array([1.0, 0.0])), misses(np.array([0.3, 0.7])), misses(np.ones(2))
    (False, False, True)
    """
    truth = _flat(one.pulled(one.x)[1])
    own, others = _excess(one, truth)
    allowed = _flat(_put(one, [1e-9 * np.abs(t) for t in _parts(one, truth)], one.allowed))
    beside: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        reached = np.any([np.abs(g) > allowed for g in beside], axis=0)
        excess = own + np.where(reached, others, 0.0)
        rest = _unexplained(excess, beside)
        largest = float(np.max(np.abs(rest)))
        if np.all(np.abs(rest) <= allowed + _EXPLAINED * np.max(np.abs(excess))):
            return False
        direction = np.round(rest / largest * _GRID) / _GRID
        step = _STEP * _size(one, direction)
        (left, g), (right, h) = (_moved(one, sign * step * direction) for sign in (-1, 1))
        if max(np.max(np.abs(g - truth)), np.max(np.abs(h - truth))) > _CLEAR * largest:
            beside += [g - truth, h - truth]
            continue
        slope, noise = (right - left) / (2 * step), one.value_noise / step
        by = abs(float((truth + excess) @ direction) - slope)
        unclear = abs(float(truth @ direction) - slope) + noise
        slack = float(allowed @ np.abs(direction))
        return bool(by > slack and unclear <= _CLEAR * by)
    return False


def _excess(one: Contested, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the gradient has beyond the truth, in this leaf, and in the others.

    Theirs is what the rule says in float64: it counts where they take part in a tie.
    """
    own = np.zeros(one.truth.size)
    own[one.off] = np.ravel(one.manual - one.truth)[one.off]
    zeros = [np.zeros(np.shape(leaf)) for leaf in one.x]
    others = np.zeros(truth.size)
    if len(one.x) > 1:
        try:
            (exact,) = one.subject.shaken_manual(2.0**-52, 0)
            pulled = [np.asarray(d) for d in exact(one.x, list(one.w))]
            others = _flat(_put(one, pulled, zeros[one.leaf])) - _flat(
                _put(one, _parts(one, truth), zeros[one.leaf])
            )
        except Exception:  # what the rule does in float64: then this leaf is judged by itself
            pass
    return _flat(_put(one, zeros, own)), others


def _unexplained(excess: np.ndarray, beside: list[np.ndarray]) -> np.ndarray:
    """What is left of it beside all that those gradients, without the truth, can make up."""
    columns = [g / np.linalg.norm(g) for g in beside if np.any(g)]
    if not columns:
        return excess
    matrix = np.stack(columns, 1)
    return excess - matrix @ np.linalg.lstsq(matrix, excess, rcond=1e-6)[0]


def _moved(one: Contested, by: np.ndarray) -> tuple[float, np.ndarray]:
    """The value and the gradients of all leaves at another point."""
    x = tuple(leaf + step for leaf, step in zip(one.x, _parts(one, by), strict=True))
    value, pulled = one.pulled(x)
    return value, _flat(pulled)


def _size(one: Contested, direction: np.ndarray) -> float:
    """The power of 2 below the smallest element that is moved, among those that are comparable."""
    sizes = np.abs(_flat(one.x))[direction != 0]
    sizes = sizes[sizes > TINY]
    if not sizes.size:
        return 1.0
    return 2.0 ** np.floor(np.log2(max(np.min(sizes), _COMPARABLE * np.max(sizes))))


def _put(one: Contested, leaves: Sequence[Any], own: Any) -> list[Any]:
    return [*leaves[: one.leaf], own, *leaves[one.leaf + 1 :]]


def _parts(one: Contested, flat: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum([np.size(leaf) for leaf in one.x])[:-1]
    parts = zip(np.split(flat, ends), one.x, strict=True)
    return [part.reshape(np.shape(leaf)) for part, leaf in parts]


def _flat(leaves: Sequence[Any]) -> np.ndarray:
    """One vector of all of them; what is not finite takes no part."""
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
    return np.where(np.isfinite(flat), flat, 0.0)
