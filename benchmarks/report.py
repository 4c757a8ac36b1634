"""Draw what `funcnn bench --out` kept, and write the table of README.md anew.

funcnn bench --out benchmarks/results/bench_cpu.jsonl && python benchmarks/report.py
"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from funcnn.bench.suite import describe

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bench_cpu.jsonl"
BEGIN, END = "<!-- table of the benchmarks -->", "<!-- end of the table -->"
COLOURS = {"autodiff": "#D55E00", "Flax NNX": "#009E73", "Equinox": "#8A5A83", "PyTorch": "#444444"}


def read(path=RESULTS):
    """(machine, rows)."""
    first, *rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return first["machine"], rows


def table(machine, rows):
    """The rows as a table in Markdown, funcnn's own among them."""
    libraries = ("jax", "flax", "equinox", "torch")
    versions = ", ".join(f"{name} {machine[name]}" for name in libraries if name in machine)
    where = f"{machine['processor']}, {machine['cores']} cores"
    columns = (
        *("work", "arm", "ms a step, median (fastest to slowest)"),
        *("times funcnn's (95 % interval)", "temporary bytes"),
    )
    lines = [
        f"{where}; Python {machine['python']}, {versions}.",
        "",
        f"| {' | '.join(columns)} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["median"] is None:
            continue
        ours = row["arm"] == "funcnn"
        work = f"`{row['work']}`: {describe(row['work']).rstrip('.')}; {row['rounds']} rounds"
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        memory = row["temporary_bytes"]
        cells = [
            work if ours else "",
            row["arm"],
            f"{row['median']:.3g} ({row['low']:.3g} to {row['high']:.3g})",
            "" if ours else ratio,
            "" if memory is None else f"{memory / 1e6:,.2f} MB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows, path):
    """How many times funcnn's time each arm takes, on a logarithmic axis, with its interval."""
    shown = [r for r in rows if r["median"] is not None and r["arm"] != "funcnn"]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(shown) + 1.2))
    for i, row in enumerate(shown):
        colour = next((c for name, c in COLOURS.items() if row["arm"].startswith(name)), "#444444")
        axes.plot([row["ratio_low"], row["ratio_high"]], [i, i], color=colour, linewidth=3)
        axes.plot(row["ratio"], i, "o", color=colour)
        axes.text(row["ratio_high"] * 1.06, i, f"{row['ratio']:.2f}", va="center", fontsize=8)
    axes.set_yticks(
        range(len(shown)), [f"{row['work']}: {row['arm']}" for row in shown], fontsize=8
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=2 * max(row["ratio_high"] for row in shown))  # room for the last number
    axes.axvline(1, color="#0072B2")
    axes.set_xlabel("time of a step, times funcnn's (right of the line funcnn is faster)")
    figure.tight_layout()
    figure.savefig(path)


def main():
    machine, rows = read()
    draw(rows, RESULTS.with_suffix(".svg"))
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{table(machine, rows)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
