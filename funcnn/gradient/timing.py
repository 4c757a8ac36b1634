"""Paired times: the two arms in turn, in one process, so that both see the same machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


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

    def __str__(self) -> str:
        return (
            f"gradient: manual {self.manual * 1e3:.3g} ms, "
            f"automatic {self.automatic * 1e3:.3g} ms, "
            f"automatic / manual {self.ratio:.2f} ({self.low:.2f} to {self.high:.2f}, "
            f"{self.pairs} pairs, {jax.devices()[0].device_kind})"
        )


def time_pairs(
    manual: Callable[..., Any], automatic: Callable[..., Any], *args: Any, pairs: int
) -> Timing:
    """Call both functions in turn, once to warm up and then `pairs` times.

    >>> import jax.numpy as jnp
    >>> time_pairs(jnp.sin, jnp.cos, jnp.ones(2), pairs=3).pairs
    3
    """
    jax.block_until_ready((manual(*args), automatic(*args)))
    seconds = [(_seconds(manual, args), _seconds(automatic, args)) for _ in range(pairs)]
    ratios = [a / m for m, a in seconds]
    return Timing(
        statistics.median(m for m, _ in seconds),
        statistics.median(a for _, a in seconds),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        pairs,
    )


def _seconds(f: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start
