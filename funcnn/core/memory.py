"""What a layer keeps of the places before, so that a sequence may be given in pieces.

The layers that look at other places than their own say here how they go on: attention keeps keys
and values, a recurrent layer its carry. How a whole model goes on is in caching.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from funcnn.types import Array, Params, PyTree


class Piece(NamedTuple):
    """Which places a piece of each sequence has.

    Attributes:
        positions: (B, T), counted from the beginning of the sequence.
        lengths: (B,), how many of the T there are; what stands behind them is padding.
    """

    positions: Array
    lengths: Array


class SeesAhead(ValueError):
    """A layer sees what comes after its own place, which no cache holds.

    >>> issubclass(SeesAhead, ValueError)
    True
    """


class Memory(NamedTuple):
    """How a layer begins, and how it goes on.

    Attributes:
        start: `(params, x, length) -> cache` of nothing, for `length` places like those of x; a
            SeesAhead where the layer cannot go on, since it sees what comes after.
        go_on: `(params, x, cache, piece) -> (y, cache)`.
        most: `(params) -> how many places there are at most`, or None for any number.
    """

    start: Callable[[Params, PyTree, int], PyTree]
    go_on: Callable[[Params, PyTree, PyTree, Piece], tuple[PyTree, PyTree]]
    most: Callable[[Params], int] | None = None


class Beside(NamedTuple):
    """Params with the caches of the same layers, which go through a flow together."""

    params: Params
    cache: PyTree


def of_part(params: PyTree, name: str, call: str | None = None) -> PyTree:
    """What belongs to the part called `name`; a cache belongs to one call of it.

    >>> of_part(Beside({"a": {"w": 1}}, {"a:1": {"k": 2}}), "a", "a:1")
    Beside(params={'w': 1}, cache={'k': 2})
    >>> of_part({"a": {"w": 1}}, "b")
    {}
    """
    if not isinstance(params, Beside):
        return params.get(name, {})
    return Beside(params.params.get(name, {}), (params.cache or {}).get(call or name))
