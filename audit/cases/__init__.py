"""What each site is audited with: public functions that reach it, with arguments of our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import mpmath
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of a function that reaches a site.

    Attributes:
        label: "ordinary", "difficult", ...
        f: the function; where `exact` or `truth` is given it works element by element.
        args: arrays of floating point are differentiated, anything else is passed on.
        exact: the same function of mpmath numbers, one for each of those arrays.
        truth: instead, the true derivatives of the sum of what f returns: of the arrays, one array
            for each.
        draws: whether f draws random numbers, which are others in float64.
        elementwise: judge each element by itself; else the norm over each leaf.
        level: of fnn.check, where the function itself does not return for what more would try.
        surrogate: why the derivative is not the function's on purpose, or "".
    """

    label: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    exact: Callable[..., Any] | None = None
    truth: Callable[..., Any] | None = None
    elementwise: bool = False
    surrogate: str = ""
    level: str = ""
    draws: bool = False

    @staticmethod
    def is_float(leaf: Any) -> bool:
        """Whether a leaf is differentiated."""
        return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"

    @property
    def arrays(self) -> list[Any]:
        """The leaves that are differentiated."""
        return [leaf for leaf in jax.tree.leaves(self.args) if self.is_float(leaf)]


def points(
    f: Callable[..., Any],
    exact: Callable[..., Any],
    ordinary: Sequence[Any],
    difficult: Sequence[Any] = (),
) -> list[Case]:
    """Two cases of a function that works element by element, at single points or tuples of them."""
    named = {"ordinary": ordinary, "difficult": difficult}
    return [
        Case(label, f, columns(chosen), exact, elementwise=True)
        for label, chosen in named.items()
        if len(chosen)
    ]


def columns(rows: Sequence[Any]) -> tuple[Any, ...]:
    """Points, each a number or a tuple of numbers, as one float32 array for each coordinate."""
    table = [row if isinstance(row, tuple) else (row,) for row in rows]
    return tuple(np.array(column, np.float32) for column in zip(*table, strict=True))


def by_mpmath(total: Callable[..., Any]) -> Callable[..., list[Any]]:
    """The `truth` of a case, from the sum of its outputs as a function of arrays of mpmath numbers.

    By central differences at 60 digits, for functions of whole arrays where float64 is too short.
    """

    def slope(arrays: list[Any], leaf: int, at: Any) -> float:
        ends = []
        step = (abs(arrays[leaf][at]) or mpmath.mpf(1)) * mpmath.mpf(10) ** -15
        for sign in (1, -1):
            moved = [array.copy() for array in arrays]
            moved[leaf][at] += sign * step
            ends.append(total(*moved))
        return float((ends[0] - ends[1]) / (2 * step))

    def truth(*arrays: Any) -> list[Any]:
        with mpmath.workdps(60):
            exact = [np.vectorize(mpmath.mpf, otypes=[object])(x.astype(float)) for x in arrays]
            return [
                np.array([slope(exact, i, at) for at in np.ndindex(x.shape)]).reshape(x.shape)
                for i, x in enumerate(arrays)
            ]

    return truth


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    """A float32 array drawn from the normal distribution."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)
