"""Times of several functions in turn, in one process, so that all of them see the same machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from funcnn.types import Function, PyTree


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of two functions, called in turn.

    Attributes:
        manual, automatic: the median seconds of either.
        ratio: the median over the pairs of automatic / manual; above 1 manual is faster.
        low, high: the smallest and largest of these ratios.
        pairs: how many there were.
    """

    manual: float
    automatic: float
    ratio: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, manual: Sequence[float], automatic: Sequence[float]) -> Timing:
        """The paired figures from the seconds of both, call by call.

        >>> Timing.of([1.0, 2.0, 1.0], [4.0, 4.0, 8.0]).ratio
        4.0
        """
        ratios = [a / m for m, a in zip(manual, automatic, strict=True)]
        medians = statistics.median(manual), statistics.median(automatic)
        return cls(*medians, statistics.median(ratios), min(ratios), max(ratios), len(ratios))

    def __str__(self) -> str:
        return (
            f"gradient: manual {self.manual * 1e3:.3g} ms, "
            f"automatic {self.automatic * 1e3:.3g} ms, "
            f"automatic / manual {self.ratio:.2f} ({self.low:.2f} to {self.high:.2f}, "
            f"{self.pairs} pairs, {jax.devices()[0].device_kind})"
        )


def time_in_turn(
    functions: Mapping[str, Function], *args: PyTree, rounds: int
) -> dict[str, list[float]]:
    """The seconds of each function, all called in turn: once to warm up and then `rounds` times.

    >>> import jax.numpy as jnp
    >>> seconds = time_in_turn({"sin": jnp.sin, "cos": jnp.cos}, jnp.ones(2), rounds=3)
    >>> {name: len(taken) for name, taken in seconds.items()}
    {'sin': 3, 'cos': 3}
    """
    jax.block_until_ready(tuple(f(*args) for f in functions.values()))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, f in functions.items():
            seconds[name].append(_seconds(f, args))
    return seconds


def _seconds(f: Function, args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start
