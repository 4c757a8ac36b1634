"""funcnn bench: side by side with autodiff and other libraries, on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from funcnn.bench.measure import ENOUGH, Row, machine
from funcnn.bench.steps import compare_steps_per_call, recommended
from funcnn.bench.suite import BENCHMARKS, describe, run
from funcnn.commands.platform import choose_platform
from funcnn.commands.target import check_writable
from funcnn.config import Config, ConfigError
from funcnn.experiment import build_experiment
from funcnn.report import plain, table, write_json_lines
from funcnn.report.rows import whole
from funcnn.spelling import did_you_mean
from funcnn.train import keep_freed_memory


def bench(
    names: Sequence[str], *, rounds: int, out: str | None = None, as_json: bool = False
) -> int:
    """Run benchmarks by name, the usual ones where none is given. 1 where an arm was refused.

    Raises:
        ConfigError: an unknown name, or a file that cannot be written.
    """
    for name in names:
        if name not in BENCHMARKS:
            hint = did_you_mean(name, BENCHMARKS)
            what = f"unknown benchmark {name or repr(name)}{hint}"
            raise ConfigError([f"bench: {what}; known: {', '.join(BENCHMARKS)}"])
    check_writable("--out", out)
    keep_freed_memory()  # the arms of all libraries run in this process
    here = machine()
    if not as_json:
        print(", ".join(f"{name} {value}" for name, value in here.items()))
    measured: list[Row] = []
    for rows in run(names, rounds):
        measured += rows
        _show(rows, as_json)
    if out is not None:
        # In place of what was measured before.
        write_json_lines(out, [{"machine": here}, *map(dataclasses.asdict, measured)])
    return 1 if any(row.note.startswith("refused") for row in measured) else 0


def advise_steps_per_call(config: Config, *, rounds: int, as_json: bool = False) -> int:
    """Time a config's training by steps a call, and say which number it should have."""
    choose_platform(config.run.platform)
    keep_freed_memory()
    experiment = build_experiment(config)
    batches = experiment.batches()
    rows = compare_steps_per_call(experiment.step, experiment.first_state, batches, rounds)
    best, now = recommended(rows), config.train.steps_per_call
    if as_json:
        for row in rows:
            print(json.dumps(plain(dataclasses.asdict(row))))
        print(json.dumps({"work": "steps_per_call", "recommended": best, "config": now}))
    else:
        print(_table(rows))
        so_far = "as it has" if best == now else f"it has {now}"
        print(f"recommended: train.steps_per_call = {best} ({so_far})")
    return 1 if any(row.note for row in rows) else 0


def _show(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(plain(dataclasses.asdict(row))), flush=True)
        return
    print(f"\n{rows[0].work}: {describe(rows[0].work)}")
    print(_table(rows), flush=True)
    for row in rows:
        if row.note:
            print(f"{row.arm}: {row.note}", file=sys.stderr)


def _table(rows: Sequence[Row]) -> str:
    """The rows of one work, with the time of each arm over that of the first."""
    first, rounds = rows[0].arm, rows[0].rounds
    sure = rounds >= ENOUGH
    low, high = ("95 % from", "to") if sure else ("lowest ratio", "highest ratio")
    text = table(
        [
            {
                "arm": row.arm,
                "median, ms": row.median,
                "fastest": row.low,
                "slowest": row.high,
                f"time / {first}": row.ratio,
                low: row.ratio_low,
                high: row.ratio_high,
                "rounds": row.rounds,
                "temporary bytes": whole(row.temporary_bytes),
                "FLOPs": row.flops,
            }
            for row in rows
        ]
    )
    return text if sure else f"{text}\nfor a 95 % interval of the ratio: --rounds {ENOUGH} or more"
