"""Finite differences in float64 that say how far they can be trusted.

Central differences at halved steps, extrapolated to a step of zero (Richardson, Romberg). What the
last column of the table still changes, and what rounding does to it, is the error bar.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import Array, ArrayLike, Function

HALVINGS = 5
_EPS = float(np.finfo(np.float64).eps)


def unit_direction(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """A random direction of length 1 with no component below 0.1 / sqrt(n): nothing is unseen.

    >>> v = unit_direction((3, 5), np.random.default_rng(0))
    >>> round(float(np.linalg.norm(v)), 12), bool(np.all(np.abs(v) >= 0.1 / 15**0.5))
    (1.0, True)
    """
    magnitudes = random.uniform(0.3, 1.0, shape)  # over their root mean square, at most 1
    v = magnitudes * random.choice([-1.0, 1.0], shape)
    return v / max(float(np.linalg.norm(v)), 1e-300)


def steps_from(largest: float, halvings: int = HALVINGS) -> np.ndarray:
    """The steps of a table: the largest, and its halves.

    >>> steps_from(1.0, 3)
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    return largest * 0.5 ** np.arange(halvings + 1)


def along(f: Callable[..., list[Any]], compile_: Callable[[Function], Function]) -> Function:
    """One compiled program `(x, v, factors) -> values`, (K, M), of f at K points x + c v.

    Args:
        f: from the leaves of x to a list of outputs, M numbers in all.
        compile_: `jax.jit`, or a quicker compiler.

    The factors are (K, L), one for each of the L leaves.

    >>> with jax.enable_x64(True):
    ...     program = along(lambda a: [a * a], jax.jit)
    ...     np.asarray(program((np.array([3.0]),), (np.array([1.0]),), np.array([[-1.0], [1.0]])))
    array([[ 4.],
           [16.]])
    """

    def values(x: Sequence[Array], v: Sequence[Array], factors: Array) -> Array:
        def at(row: Array) -> Array:
            point = [xi + row[i] * vi for i, (xi, vi) in enumerate(zip(x, v, strict=True))]
            return jnp.concatenate([jnp.ravel(y) for y in f(*point)])  # (M,)

        return jax.lax.map(at, factors)  # (K, M)

    return compile_(values)


def central(right: np.ndarray, left: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(f(x + h v) - f(x - h v)) / 2h from the values at +h and at -h of every step, (K, M) each.

    >>> central(np.array([[4.0], [2.25]]), np.array([[0.0], [0.25]]), np.array([1.0, 0.5]))
    array([[2.],
           [2.]])
    """
    return (right - left) / (2 * steps[:, None])


def extrapolated(table: Sequence[Any] | np.ndarray, order: int = 2) -> tuple[Any, Any]:
    """The differences at halved steps extrapolated to zero, and what the last column changed.

    Args:
        table: differences at h, h/2, h/4, ...
        order: 2 for central differences, whose error has the powers 2, 4, 6, ... of h; 1 for
            one-sided ones, with 1, 2, 3, ...

    >>> def slope(h):
    ...     return (np.exp(h) - np.exp(-h)) / (2 * h)
    >>> value, change = extrapolated([slope(h) for h in steps_from(0.1)])
    >>> bool(abs(value - 1) < 1e-12), bool(change < 1e-12)
    (True, True)
    """
    column = [np.asarray(t, np.float64) for t in table]
    change = np.full_like(column[0], np.inf)
    for power in range(1, len(table)):
        factor = 2.0 ** (order * power) - 1
        finer = [b + (b - a) / factor for a, b in itertools.pairwise(column)]
        change = np.abs(finer[-1] - column[-1])
        column = finer
    return column[-1], change


def jumps(right: np.ndarray, left: np.ndarray, middle: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How much the slope of each output seems to change at once near x, step by step: (K - 1, M).

    Five points, -2h, -h, 0, h, 2h: a parabola through three of them misses the other two. Where f
    is smooth the miss falls at least fourfold with each halved step, at a kink it stays.

    Args:
        right, left: the values at +h and at -h for each of the K steps, (K, M).
        middle: the value at x, (M,).
        steps: (K,), halved each time.

    >>> h = steps_from(0.1, 2)[:, None]
    >>> jumps(np.abs(h), np.abs(-h), np.array([0.0]), h[:, 0]).round(6)
    array([[2.],
           [2.]])
    >>> jumps(np.sin(h), np.sin(-h), np.array([0.0]), h[:, 0]).round(6)
    array([[0.007495],
           [0.001875]])
    """
    second = right - 2 * middle + left
    even = np.abs(second[:-1] - 4 * second[1:]) / (2 * steps[1:, None])
    slopes = central(right, left, steps)
    return np.maximum(even, 6 * np.abs(slopes[:-1] - slopes[1:]))


def rounding_noise(values: ArrayLike, weights: ArrayLike = 1.0) -> float:
    """What rounding may do to the weighted sum of the values, once.

    >>> rounding_noise(np.array([1.0, -3.0])) == 4 * 2.0**-52
    True
    """
    return _EPS * float(np.sum(np.abs(np.asarray(weights) * np.asarray(values))))
