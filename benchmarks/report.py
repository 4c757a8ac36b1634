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
IN_SHORT = ("cnn_step", "max_pool_3", "depthwise_128", "scanned_stack", "linear_cross_entropy")
COLOURS = {"autodiff": "#D55E00", "Flax NNX": "#009E73", "Equinox": "#8A5A83", "PyTorch": "#444444"}


def read(path=RESULTS):
    """(machine, rows)."""
    first, *rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return first["machine"], rows


def table(machine, rows):
    """Five works by hand and by autodiff as a table in Markdown."""
    found = {(row["work"], row["arm"]): row for row in rows}
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; jax {machine['jax']}.",
        "",
        "| work | by hand, ms | autodiff, ms | autodiff takes | by hand, MB | autodiff, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for work in IN_SHORT:
        ours, theirs = found[work, "funcnn"], found[work, "autodiff"]
        low, high = theirs["ratio_low"], theirs["ratio_high"]
        cells = [
            f"`{work}`: {describe(work).rstrip('.')}",
            *(f"{row['median']:.3g}" for row in (ours, theirs)),
            f"{theirs['ratio']:.2f} ({low:.2f} to {high:.2f}) times",
            *(f"{row['temporary_bytes'] / 1e6:,.1f}" for row in (ours, theirs)),
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
