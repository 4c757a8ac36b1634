"""What each rule gains, from benchmarks/results/: the files that the benchmarks have written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

# The works of `funcnn bench` and of benchmarks/absent_gpu.py in which a rule does the most.
WORKS = {
    "conv": ("depthwise_32", "depthwise_128", "cnn_step"),
    "max_pool": ("max_pool_2", "max_pool_3", "cnn_step"),
    "linear": ("mlp_step",),
    "gelu": ("scanned_stack",),
    "linear_cross_entropy": ("linear_cross_entropy",),
    "lstm": ("lstm",),
}


@dataclasses.dataclass(frozen=True)
class Gain:
    """One measurement: of what, the rival, how many times the rule's time it takes, and memory."""

    work: str
    rival: str
    time: str
    memory: str
    machine: str


def _lines(name: str, folder: Path) -> list[dict[str, Any]]:
    path = folder / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _object(name: str, folder: Path) -> dict[str, Any]:
    path = folder / name
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _megabytes(number: float | None) -> str:
    return "" if number is None else f"{number / 1e6:,.2f} MB".replace(".00", "")


def machine(host: dict[str, Any]) -> str:
    """A machine in words.

    >>> machine({"processor": "AMD EPYC", "cores": 2, "jax": "0.10.2"})
    'AMD EPYC, 2 cores, jax 0.10.2'
    """
    if "processor" in host:
        return f"{host['processor']}, {host['cores']} cores, jax {host['jax']}"
    return ", ".join(str(host[k]) for k in ("device", "machine") if k in host) + (
        f", jax {host['jax']}" if "jax" in host else ""
    )


def _bench(rule: str, folder: Path) -> list[Gain]:
    from funcnn.bench.suite import describe

    rows = _lines("bench_cpu.jsonl", folder)
    if not rows:
        return []
    where = machine(rows[0]["machine"])
    gains = []
    for work in WORKS.get(rule, ()):
        arms = {row["arm"]: row for row in rows[1:] if row["work"] == work}
        ours = arms.get("funcnn")
        for arm, row in arms.items():
            if ours is None or row["median"] is None or not arm.startswith("autodiff"):
                continue
            memory = [_megabytes(r["temporary_bytes"]) for r in (row, ours)]
            gains.append(
                Gain(
                    describe(work).rstrip("."),
                    arm,
                    f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
                    " against ".join(memory) if all(memory) else "",
                    where,
                )
            )
    return gains


def _absent(rule: str, folder: Path) -> list[Gain]:
    rows = _lines("absent_h200.jsonl", folder)
    if not rows:
        return []
    where = f"{rows[0]['device']}: compiled, not run; jax {rows[0]['jax']}"
    gains = []
    for work in WORKS.get(rule, ()):
        arms = {row["arm"]: row for row in rows[1:] if row["work"] == work}
        gains += [
            Gain(
                f"{work}, temporary bytes",
                arm,
                "",
                f"{_megabytes(row['temporary_bytes'])} against "
                f"{_megabytes(arms['by hand']['temporary_bytes'])}",
                where,
            )
            for arm, row in arms.items()
            if arm != "by hand" and "by hand" in arms
        ]
    return gains


def _recurrent(rule: str, folder: Path) -> list[Gain]:
    results = _object("recurrent_cpu.json", folder)
    rows = [row for row in results.get("rows", ()) if row["rule"] == rule]
    ratios = [row["best_automatic_over_manual"] for row in rows]
    if not ratios:
        return []
    steps = sorted({row["T"] for row in rows})
    what = f"forward and backward, {len(rows)} shapes of {steps[0]} to {steps[-1]} steps"
    middle = results[f"{rule}_best_automatic_over_manual"]["median"]
    time = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f} over the shapes)"
    return [Gain(what, "the fastest of several automatic forms", time, "", machine(results))]


def _sweep(rule: str, folder: Path) -> list[Gain]:
    results = _object("conv_sweep_cpu.json", folder)
    if rule != "conv" or not results:
        return []
    gains = []
    for part, what in (("all", "y, dx and dw"), ("dx", "dx alone"), ("dw", "dw alone")):
        for kind, place in (("plain", ""), ("loop", ", inside a lax.scan")):
            ratios = sorted(
                row[part][kind]["ratio"]["median"]
                for row in results["rows"].values()
                if kind in row[part]
            )
            if ratios:
                middle = ratios[len(ratios) // 2]
                time = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} over the shapes)"
                gains.append(
                    Gain(
                        f"{what}, {len(ratios)} shapes{place}",
                        "autodiff",
                        time,
                        "",
                        machine(results),
                    )
                )
    return gains


def gains(rule: str, folder: Path = RESULTS) -> list[Gain]:
    """Everything that the benchmarks say of a rule; empty where they say nothing."""
    sources = (_bench, _sweep, _recurrent, _absent)
    return [gain for source in sources for gain in source(rule, folder)]


def bench_rows(folder: Path = RESULTS) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(machine, rows) of `funcnn bench`."""
    first, *rows = _lines("bench_cpu.jsonl", folder)
    return first["machine"], [row for row in rows if row["median"] is not None]
