"""Times of several functions in turn, in one process, so that all of them see the same machine."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

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

    def call(f: Function) -> Callable[[], PyTree]:
        return lambda: jax.block_until_ready(f(*args))

    return in_turn({name: call(f) for name, f in functions.items()}, rounds)


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    rest: float = 0.0,
    shortest: float = 0.0,
) -> dict[str, list[float]]:
    """The seconds of one call of each, round by round, after one call of each to warm up.

    Args:
        calls: each does a piece of work, and returns when it is done.
        rounds: how often each is timed.
        rest: seconds of sleep before each; the rounds then have orders of their own.
        shortest: seconds; a shorter call is repeated, so that the clock does not matter.

    >>> {name: len(taken) for name, taken in in_turn({"a": dict, "b": list}, 3).items()}
    {'a': 3, 'b': 3}
    """
    repeats = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        call()
        if shortest:
            repeats[name] = max(1, math.ceil(shortest / max(seconds(call), 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)) if rest else calls:
            if rest:
                time.sleep(rest)
                calls[name]()  # wakes its own threads, and has the caches for itself
            taken[name].append(seconds(calls[name], repeats[name]))
    return taken


def seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """The seconds of one call, the mean over so many.

    >>> seconds(dict) < 1
    True
    """
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
