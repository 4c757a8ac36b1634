"""What `fnn.hunt` finds in rules that are wrong, and in rules that are right.

    python benchmarks/hunting.py measure SET --out FILE [--budget S]
    python benchmarks/hunting.py table FILE ...

A SET is one of the catalogues of tests/gradient: `wrong`, rules with a mistake that ordinary
arguments show; `somewhere`, rules that are right there and wrong elsewhere; and of right rules
`rules`, those of funcnn, `right`, `mended`, those of `somewhere` without their mistakes, `foreign`
and `public`. `measure` appends a line for each rule and leaves out those that the file has already;
`table` counts, and writes what stands in docs/laboratory.md between its two comments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

import funcnn as fnn
from funcnn.gradient.hunt.hunt import HuntReport, hunt

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "laboratory.md"
BEGIN, END = "<!-- table of the hunts -->\n", "<!-- end of the table -->"


@dataclasses.dataclass(frozen=True)
class Target:
    """A rule, or a function with arguments, and what is wrong with it."""

    name: str
    kind: str
    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    reference: Any = None
    devices: int = 1


def wrong() -> Iterator[Target]:
    from catalogue_wrong import VALUE, WRONG

    for name, one in WRONG.items():
        kind = "a derivative" if one.checks & VALUE else ", ".join(sorted(one.checks))
        yield Target(name, kind, one.make, devices=one.needs)


def somewhere() -> Iterator[Target]:
    from catalogue_somewhere import SOMEWHERE

    for name, one in SOMEWHERE.items():
        yield Target(name, one.kind, lambda one=one: (one.f, one.args))


def mended() -> Iterator[Target]:
    from catalogue_somewhere import SOMEWHERE

    for name, one in SOMEWHERE.items():
        yield Target(name, one.kind, lambda one=one: (one.right, one.args))


def rules() -> Iterator[Target]:
    for name, one in fnn.registered_rules().items():
        yield Target(name, "", lambda one=one: (one, ()))


def right() -> Iterator[Target]:
    from catalogue_right import RIGHT

    for name, one in RIGHT.items():
        if one.options.get("intent") != "surrogate":
            yield Target(name, "", one.make, one.options.get("reference"))


def foreign() -> Iterator[Target]:
    from catalogue_foreign import FOREIGN

    for name, one in FOREIGN.items():
        f, args, options = one.make()
        if options.get("intent") != "surrogate":
            yield Target(name, "", lambda f=f, args=args: (f, args), options.get("reference"))


def public() -> Iterator[Target]:
    from catalogue_public import PUBLIC

    for name, one in PUBLIC.items():
        if not one.says:  # what `check` says is wrong may be found
            yield Target(name, "", lambda one=one: (one.f, one.args))


SETS: Mapping[str, Callable[[], Iterator[Target]]] = {
    f.__name__: f for f in (wrong, somewhere, rules, right, mended, foreign, public)
}


def measure(of: str, path: Path, budget: float) -> None:
    """Append a line for each rule of a set that the file does not hold yet."""
    known = {(row["set"], row["name"]) for row in read(path)} if path.exists() else set()
    jax.config.update("jax_num_cpu_devices", 2)
    for target in SETS[of]():
        if (of, target.name) in known or target.devices > jax.device_count():
            continue
        f, args = target.make()
        report = hunt(f, *args, budget=budget, reference=target.reference)
        row = {"set": of, "name": target.name, "kind": target.kind, "budget": budget}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | said(report) | {"jax": jax.__version__}) + "\n")
        jax.clear_caches()  # of three hundred rules the programs would take gigabytes


def said(report: HuntReport) -> dict[str, Any]:
    """What a line keeps of a report."""
    row: dict[str, Any] = {
        "found": report.found is not None,
        "seconds": round(report.seconds, 2),
        "trials": report.trials,
        "compared": report.compared,
        "why": report.why,
    }
    if report.found is None:
        return row
    numbers = [np.asarray(leaf) for leaf in jax.tree.leaves(report.found.arguments)]
    return row | {
        "elements": report.found.elements,
        "digits": max((digits(x) for leaf in numbers for x in leaf.flat), default=0),
        "dtype": report.found.dtype,
        "note": report.found.note,
        "program": report.found.program,
    }


def digits(x: Any) -> int:
    """How many a number is written with, in the shortest way that says which it is.

    >>> digits(np.float32(0.1)), digits(np.float32(-1.25)), digits(np.int32(40)), digits(0.0)
    (1, 3, 1, 1)
    """
    if isinstance(x, np.complexfloating):
        return max(digits(x.real), digits(x.imag))
    if not isinstance(x, np.floating):
        return max(1, len(str(abs(int(x))).rstrip("0")))
    if not np.isfinite(x):
        return 0
    held = x if x.dtype in (np.float16, np.float32, np.float64) else np.float32(x)
    return len(np.format_float_scientific(abs(held), trim="-").partition("e")[0].replace(".", ""))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


SHOWN = {
    "wrong": "wrong at ordinary arguments",
    "somewhere": "right there, wrong elsewhere",
    "rules": "right: the rules of funcnn",
    "right": "right: rules that a poor checker takes for wrong ones",
    "mended": "right: those wrong elsewhere, mended",
    "foreign": "right: as other people write them",
    "public": "right: of JAX, Flax, Equinox, Optax, Haiku",
}
KINDS = {
    "primal": "the value alone",
    "contract": "a dtype, a shape or a tree",
    "contract, primal": "what it closes over",
    "edge": "a NaN that is lost",
    "second_order": "the second derivative",
    "context": "the matmul precision",
    "kink, truth": "a kink",
}
HEAD = (
    *("rules", "how many", "seconds allowed", "found", "seconds taken, median"),
    *("numbers in the example, median and most", "digits, median", "trials compared, median"),
)


def table(paths: Sequence[Path]) -> str:
    """The counts as a table in Markdown."""
    rows = [row for path in paths for row in read(path) if not row["why"]]
    versions = ", ".join(sorted({row["jax"] for row in rows}))
    lines = [
        f"jax {versions}, on two cores that had ten other programs to run.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{' --- |' * len(HEAD)}",
    ]
    for name, text in SHOWN.items():
        of = [row for row in rows if row["set"] == name]
        kinds = list(dict.fromkeys(row["kind"] for row in of)) if name == "wrong" else []
        for kind in kinds:
            lines.append(
                _line(
                    f"{text}: {KINDS.get(kind, kind)}", [row for row in of if row["kind"] == kind]
                )
            )
        if of and not kinds:
            lines.append(_line(text, of))
    return "\n".join(lines) + "\n"


def _line(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    found = [row for row in rows if row["found"]]
    elements, lengths = ([row[key] for row in found] for key in ("elements", "digits"))
    budgets = sorted({row["budget"] for row in rows})
    cells = [
        text,
        str(len(rows)),
        " or ".join(f"{budget:g}" for budget in budgets),
        str(len(found)),
        f"{median(row['seconds'] for row in found):.0f}" if found else "",
        f"{median(elements):.0f}, {max(elements)}" if found else "",
        f"{median(lengths):.0f}" if found else "",
        f"{median(row['compared'] for row in rows):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def write_table(paths: Sequence[Path]) -> None:
    """Put the table where it stands in the documentation."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table(paths)}{END}{after}", "utf-8")


def main() -> int:
    """Measure a set, or write the table."""
    parser = argparse.ArgumentParser(description="What `fnn.hunt` finds.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("set", choices=SETS)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--budget", type=float, default=60.0)
    commands.add_parser("table").add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        write_table(options.files)
        return 0
    sys.path.insert(0, str(ROOT / "tests" / "gradient"))
    measure(options.set, options.out, options.budget)
    return 0


if __name__ == "__main__":
    sys.exit(main())
