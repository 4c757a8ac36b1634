"""Arms that compute the same, timed in turn: medians, spread, and how sure their ratio is."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.gradient.cost.timing import in_turn

_SHORTEST = 2e-3  # seconds; a shorter call is repeated
# Seconds before each arm: the threads of a library go on waiting for work, at full speed, for a
# while after a call, and would take the cores from the arm behind it.
PAUSE = 0.05
ENOUGH = 6  # rounds for a 95 % interval of a median
_AGREEMENT = 2e-3  # relative, of what the arms compute: other orders of summation, nothing else


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to do a piece of work.

    Attributes:
        name: "funcnn", "autodiff", "Flax NNX", ...
        call: does it once, and returns when it is done.
        values: what it computes, to be held against the other arms before anything is timed.
        steps: how many steps of the work a call does; times are given for one.
        temporary_bytes: the peak of what the compiler allocates; NaN where nobody says.
        flops: of a step, counted on the jaxpr; NaN where there is none.
    """

    name: str
    call: Callable[[], Any]
    values: Callable[[], Any]
    steps: int = 1
    temporary_bytes: float = math.nan
    flops: float = math.nan


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one arm; times in milliseconds a step.

    Attributes:
        work, arm: what, and how.
        median, low, high: of the times.
        ratio: the median over the rounds of this arm's time to the first arm's, from call to call;
            above 1 the first arm is faster.
        ratio_low, ratio_high: the 95 % interval of that median; of fewer than ENOUGH rounds the
            lowest and the highest ratio.
        rounds: how many there were.
        temporary_bytes, flops: as in `Arm`.
        note: why there are no times, or "".
    """

    work: str
    arm: str
    median: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ratio: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan
    rounds: int = 0
    temporary_bytes: float = math.nan
    flops: float = math.nan
    note: str = ""


def measure(
    work: str, arms: Sequence[Arm], rounds: int, absent: Mapping[str, str] | None = None
) -> list[Row]:
    """A row for each arm; one that computes something else than the first is refused.

    Args:
        work: its name.
        arms: the first is the one that the others are compared with.
        rounds: how often each is timed; in every round each arm is called once.
        absent: arms that cannot run here, with the reason.

    >>> arms = [Arm(name, lambda: sum(range(9)), lambda: [1.0]) for name in ("a", "b")]
    >>> [(row.arm, row.rounds) for row in measure("sum", arms, rounds=5)]
    [('a', 5), ('b', 5)]
    >>> measure("sum", [arms[0], Arm("c", arms[0].call, lambda: [2.0])], rounds=5)[1].note
    'refused: computes [2.] where a computes [1.]'
    """
    expected = np.asarray(arms[0].values())
    refused: dict[str, str] = {}
    for arm in arms[1:]:
        values = np.asarray(arm.values())
        scale = float(np.max(np.abs(expected)))
        if not np.allclose(values, expected, rtol=_AGREEMENT, atol=_AGREEMENT * scale):
            refused[arm.name] = (
                f"refused: computes {values} where {arms[0].name} computes {expected}"
            )
    calls = {arm.name: arm.call for arm in arms if arm.name not in refused}
    seconds = in_turn(calls, rounds, rest=PAUSE, shortest=_SHORTEST)
    first = seconds[arms[0].name]
    rows = []
    for arm in arms:
        if arm.name in refused:
            rows.append(Row(work, arm.name, note=refused[arm.name]))
            continue
        times = [1e3 * s / arm.steps for s in seconds[arm.name]]
        ratios = [
            s * arms[0].steps / arm.steps / f for s, f in zip(seconds[arm.name], first, strict=True)
        ]
        rows.append(
            Row(
                *(work, arm.name, statistics.median(times), min(times), max(times)),
                *(statistics.median(ratios), *interval(ratios), rounds),
                *(arm.temporary_bytes, arm.flops),
            )
        )
    return rows + [Row(work, name, note=why) for name, why in (absent or {}).items()]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median, between two of the values themselves.

    As many values below the interval as above it, so few that a fair coin says so in at most 5 of
    100 cases. Fewer than ENOUGH values cannot tell: then it is all of them.

    Source: Conover, Practical Nonparametric Statistics, 1999, 3.2.

    >>> interval(list(range(15)))
    (3, 11)
    """
    n, ordered = len(values), sorted(values)
    below, outside = 0.5**n, 0
    while below <= 0.025:
        outside += 1
        below += math.comb(n, outside) * 0.5**n
    first = max(0, outside - 1)
    return ordered[first], ordered[n - 1 - first]


def machine() -> dict[str, Any]:
    """The hardware and the versions that a result belongs to.

    >>> machine()["jax"] == jax.__version__
    True
    """
    packages = ("jax", "jaxlib", "flax", "equinox", "torch", "numpy", "funcnn")
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "cores": cores,
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    except OSError:
        return platform.processor() or platform.machine()
    widest = next((f for f in ("avx512f", "avx2", "avx") if f in named.get("flags", "")), "")
    return " ".join(filter(None, [named.get("model name", platform.machine()), widest]))
