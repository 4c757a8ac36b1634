"""funcnn plan: what a config's training step takes on devices that are not here."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence

import jax

from funcnn.commands.platform import choose_platform
from funcnn.config import Config
from funcnn.experiment import build_experiment
from funcnn.plan.chips import CHIPS, Chip
from funcnn.plan.figures import Plan
from funcnn.plan.planning import plan
from funcnn.report import plain, table
from funcnn.report.rows import counted
from funcnn.runs.folder import version


def plan_step(
    config: Config,
    *,
    device: str,
    counts: Sequence[int],
    batch_per_device: int | None = None,
    memory: float | None = None,
    as_json: bool = False,
) -> int:
    """A plan for each count, of GiB of `memory` where that is given. 1 where one does not fit.

    Raises:
        ConfigError: the config is wrong, or what compiles for the device is not installed.
    """
    chip = CHIPS[device]
    if memory is not None:
        chip = chip._replace(memory=memory * 2**30)
    if chip.platform == "cpu":
        _cpu_devices(max(counts))
    choose_platform("cpu")  # a GPU that is here is not asked
    experiment = build_experiment(config, draw=False)
    plans: list[Plan] = []
    for count in counts:
        found = plan(experiment, chip, count, rows_per_device=batch_per_device, progress=_say)
        plans.append(found)
        if as_json:
            print(json.dumps(plain({**found.row(), **_versions()})), flush=True)
    if not as_json:
        _show(chip, plans)
    return 1 if any(found.fits is False for found in plans) else 0


def _cpu_devices(count: int) -> None:
    """A CPU plays as many devices as it is told to, before JAX starts."""
    with contextlib.suppress(RuntimeError):  # it has started; what is there is looked at later
        jax.config.update(
            "jax_num_cpu_devices", max(count, jax.config._read("jax_num_cpu_devices"))
        )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("jax", "jaxlib")}


def _say(line: str) -> None:
    print(f"compiled: {line}", file=sys.stderr, flush=True)


def _show(chip: Chip, plans: Sequence[Plan]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    print(f"a training step on {chip.title}; {versions}")
    columns = {f"{found.count:,}": _column(found) for found in plans}
    names = next(iter(columns.values()))
    print(table([{"devices": n, **{c: v[n] for c, v in columns.items()}} for n in names]))
    print("Memory is the compiler's. Times are lower bounds of a step, no predictions.")
    for found in plans:
        for line in _below(found):
            print(f"{found.count:,}: {line}")


def _column(found: Plan) -> dict[str, str]:
    """The figures of one count, by name."""
    memory, limit, seconds = found.memory, found.chip.memory, found.seconds
    share = "" if limit is None else f", {memory.peak / limit:.1%}"
    return {
        "nodes": f"{found.count // found.per_node:,} of {found.per_node}",
        "rows, of each device": f"{found.setting.rows // found.setting.parts(found.count):,}",
        "arguments": size(memory.arguments),
        "outputs": size(memory.outputs),
        "of them in place": size(memory.aliased),
        "temporary": size(memory.temporary),
        "peak": f"{size(memory.peak)}{share}",
        "fits": {None: "unknown", True: "yes", False: "NO"}[found.fits],
        "FLOPs": f"{found.flops:.4g}",
        "bytes moved, at least": size(found.bytes),
        "bytes over links": size(sum(t.link for t in found.traffic)),
        "bytes over the network": size(sum(t.network for t in found.traffic)),
        **{f"{name}, at least": _time(s) for name, s in seconds.items()},
        "bound": found.bound or "unknown",
    }


def _below(found: Plan) -> list[str]:
    """What does not go into a column: the collectives, the notes, and what would fit."""
    lines = [
        f"{counted(round(t.times), t.kind)} of {t.group:,} devices a step, {size(t.bytes)}"
        for t in found.traffic
    ]
    lines += found.notes
    if found.fits is not False:
        return lines
    lines += [f"does not fit either: {change}" for change in found.tried]
    if found.remedy is None:
        return [*lines, "nothing that was tried fits"]
    peak, bound = size(found.remedy.memory.peak), found.remedy.bound
    least = _time(max(s or 0.0 for s in found.remedy.seconds.values()))
    times = f", at least {least} ({bound})" if bound else ""
    return [*lines, f"fits, at a peak of {peak}{times}: {found.remedy.change}"]


def size(number: float) -> str:
    """Bytes in words, of powers of 1,000.

    >>> size(0), size(1234), size(150_754_820_096)
    ('0 B', '1.234 kB', '150.8 GB')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while abs(number) >= 999.95 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.4g} {units[power]}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds * 1e3:.4g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.4g} us"
