"""The sections of a page about a whole program: its rules, their errors, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funcnn.report.figures import bars, curves, dots
from funcnn.report.html import Section, html_table
from funcnn.report.rows import finite

Row = Mapping[str, Any]

_PREFIXES = ("", "k", "M", "G", "T", "P")


def accuracy_section(rows: Sequence[Row]) -> Section:
    """The error of both gradients, leaf by leaf.

    Args:
        rows: with the keys leaf, shape, dtype, manual, automatic, floor (these in ulps), verdict
            and note.

    >>> row = {"leaf": "w", "shape": (2,), "dtype": "float32", "manual": 0.5, "automatic": 3.0}
    >>> accuracy_section([{**row, "floor": 0.2, "verdict": "MANUAL", "note": ""}]).title
    'Errors in ulps'
    """
    series = ("manual", "automatic", "floor")
    values = {row["leaf"]: {name: float(row[name]) for name in series} for row in rows}
    wrong = [row["leaf"] for row in rows if row["verdict"] == "WRONG"]
    listed = [
        {
            "leaf": row["leaf"],
            "shape": "x".join(map(str, row["shape"])) or "scalar",
            "dtype": row["dtype"],
            **{f"{name}, ulps": float(row[name]) for name in series},
            "verdict": row["verdict"],
            "note": row["note"],
        }
        for row in rows
    ]
    how = (
        "The distance of either gradient to float64 truth, in units in the last place of the "
        "leaf's dtype: further left is better, and what stands left of the floor is rounding of "
        "the inputs."
    )
    figure = dots(values, "error, ulps (logarithmic)", marked=wrong)
    return Section("Errors in ulps", how, figure + html_table(listed))


def sites_section(rows: Sequence[Row]) -> Section:
    """Where an error begins.

    Args:
        rows: with the keys site, contributed, inherited, floor (these in ulps), verdict and note.

    >>> row = {"site": "relu in relu_0", "contributed": 0.4, "inherited": 1.0, "floor": 0.5}
    >>> "relu_0" in sites_section([{**row, "verdict": "TIE"}]).body
    True
    """
    how = (
        "At each hand-written rule, the error that it adds to a true cotangent (contributed) and "
        "the one that reaches it from above (inherited), in ulps: the first site that contributes "
        "more than its floor is where to look."
    )
    return Section("Errors by site", how, html_table(rows))


def cost_section(rows: Sequence[Row]) -> Section:
    """What each arm costs.

    Args:
        rows: with the keys name, flops, bytes_accessed, temporary_bytes, residual_bytes,
            compile_seconds, seconds_median, seconds_low, seconds_high and note; None where a
            number was not measured.

    >>> names = ("flops", "bytes_accessed", "temporary_bytes", "residual_bytes")
    >>> names += ("compile_seconds", "seconds_median", "seconds_low", "seconds_high")
    >>> arm = {"name": "manual", "note": "", **dict.fromkeys(names, 2048)}
    >>> "2.05 kB" in cost_section([arm]).body
    True
    """
    quantities = {
        "residual_bytes": ("residuals kept for the backward pass", "B"),
        "temporary_bytes": ("temporary memory at its peak", "B"),
        "bytes_accessed": ("bytes read and written", "B"),
        "flops": ("floating-point operations", ""),
        "seconds_median": ("time of a gradient, median", "s"),
    }
    figures = []
    for key, (title, unit) in quantities.items():
        values = {row["name"]: finite(row[key]) for row in rows}
        if any(value is not None for value in values.values()):
            texts = {name: _with_unit(v, unit) for name, v in values.items() if v is not None}
            figures.append(bars(values, title, texts))
    columns = {
        "name": "arm",
        "compile_seconds": "compile, s",
        "seconds_median": "median, s",
        "seconds_low": "fastest, s",
        "seconds_high": "slowest, s",
        "note": "note",
    }
    listed = html_table([{head: row[key] for key, head in columns.items()} for row in rows])
    how = "A bar for each arm, on one scale within a figure: shorter is better."
    return Section("Memory, work and time", how, "".join(figures) + listed)


def _with_unit(value: float, unit: str) -> str:
    if 0 < value < 1:
        return f"{1e3 * value:.3g} m{unit}"
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}".rstrip()


def curves_section(rows: Sequence[Row]) -> Section:
    """The arms trained side by side.

    Args:
        rows: with the keys arm, step, loss and distance (to the parameters of the first arm).

    >>> row = {"arm": "manual", "step": 1, "loss": 2.0, "distance": 0.0}
    >>> "<svg" in curves_section([row, {**row, "step": 2, "loss": 1.0}]).body
    True
    """
    losses: dict[str, list[tuple[float, float]]] = {}
    distances: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        losses.setdefault(row["arm"], []).append((row["step"], row["loss"]))
        distances.setdefault(row["arm"], []).append((row["step"], row["distance"]))
    # The arm from which the others are measured is at 0, which a logarithmic axis does not show.
    apart = {arm: points if any(d for _, d in points) else [] for arm, points in distances.items()}
    body = curves(losses, "loss", "step")
    if any(apart.values()):
        body += curves(apart, "relative distance of the parameters", "step")
    how = (
        "All arms start alike and see the same batches: the losses should lie on each other; where "
        "one arm is changed in the last place only, the others should part no faster than it does."
    )
    return Section("Training", how, body)


def census_section(rows: Sequence[Row]) -> Section:
    """Every hand-written rule that a program calls.

    Args:
        rows: with the keys name, source, operands, sites, calls, path, aliased, extra, dead,
            automatic_extra (bytes), manual, automatic (ulps), verdict and note.

    >>> numbers = dict.fromkeys(("sites", "calls", "aliased", "dead", "manual", "automatic"), 1)
    >>> row = {"name": "relu", "operands": "float32[3]", "source": "a.py:1", "path": "", "note": ""}
    >>> row |= {**numbers, "extra": 0, "automatic_extra": 3000, "verdict": "TIE"}
    >>> "3 kB" in census_section([row]).body
    True
    """
    how = (
        "One line for each rule and kind of operands: what one call keeps for its backward pass "
        "beside its arguments and results, what autodiff keeps in its place, and both errors at "
        "the operands that flow there, in ulps."
    )
    if not rows:
        return Section("Hand-written rules", how, "<p>The program calls none.</p>")
    columns = {
        **{name: name for name in ("verdict", "operands", "sites", "calls")},
        "extra": "extra bytes",
        "automatic_extra": "autodiff's",
        **{name: name for name in ("manual", "automatic", "aliased", "dead", "note")},
    }
    listed = html_table(
        [{"rule": row["name"], **{head: row[key] for key, head in columns.items()}} for row in rows]
    )
    kept: dict[str, float | None] = {}
    for row in rows:
        for key, arm in (("extra", "by hand"), ("automatic_extra", "autodiff")):
            label, size = f"{row['name']}, {arm}", finite(row[key])
            kept.setdefault(label, None)
            if size is not None:
                kept[label] = (kept[label] or 0.0) + size * row["calls"]
    texts = {label: _with_unit(v, "B") for label, v in kept.items() if v is not None}
    figure = bars(kept, "extra bytes of all calls of one run", texts)
    sources = dict.fromkeys((row["name"], row["source"]) for row in rows)
    where = html_table([{"rule": name, "defined at": at} for name, at in sources])
    return Section("Hand-written rules", how, listed + figure + where)
