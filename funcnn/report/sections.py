"""The sections of a page about gradients: rows in, a `Section` out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from funcnn.report.figures import bars, curves, dots
from funcnn.report.html import Section, escape, html_table

Row = Mapping[str, Any]

# A sign or a letter beside the colour. The first one present colours a cell: a check that passes
# wherever it can be decided has passed.
_SIGNS = {
    "fail": "\N{MULTIPLICATION X}",
    "pass": "\N{CHECK MARK}",
    "inconclusive": "?",
    "skip": "s",
}
_NOTES = 6  # in what a cell shows when it is pointed at
_PREFIXES = ("", "k", "M", "G", "T", "P")


def matrix_section(rows: Sequence[Row]) -> Section:
    """Rules down, checks across, in each cell how many results there are of each verdict.

    Args:
        rows: with the keys rule, check, case, leaf, verdict and note.

    >>> row = {"rule": "relu", "check": "truth", "case": "kink", "leaf": "x", "note": ""}
    >>> "<td class=pass" in matrix_section([{**row, "verdict": "pass"}]).body
    True
    """
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["rule"], row["check"]), []).append(row)
    rules = dict.fromkeys(row["rule"] for row in rows)
    checks = dict.fromkeys(row["check"] for row in rows)
    head = "".join(f"<th><span>{escape(check)}</span></th>" for check in checks)
    lines = [
        f"<tr><th>{escape(rule)}</th>"
        + "".join(_matrix_cell(cells.get((rule, check), [])) for check in checks)
        + "</tr>"
        for rule in rules
    ]
    how = (
        f"Each cell counts the results of one check of one rule: {_SIGNS['pass']} passed, "
        f"{_SIGNS['fail']} failed, {_SIGNS['inconclusive']} inconclusive, {_SIGNS['skip']} skipped "
        "with a reason; red where any failed, else blue where any passed, else yellow or grey, and "
        "empty where the check was not run."
    )
    body = (
        f"<div class=wide><table class=matrix><thead><tr><th>rule</th>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )
    return Section("Rules and checks", how, body)


def _matrix_cell(rows: list[Row]) -> str:
    counts = Counter(row["verdict"] for row in rows)
    present = [verdict for verdict in _SIGNS if counts[verdict]]
    if not present:
        return "<td></td>"
    text = " ".join(f"{_SIGNS[verdict]}{counts[verdict]}" for verdict in present)
    ordered = sorted(rows, key=lambda row: present.index(row["verdict"]))
    told = [_told(row) for row in ordered if row["verdict"] != "pass"]
    notes = list(dict.fromkeys(told))
    if len(notes) > _NOTES:
        notes = [*notes[:_NOTES], f"and {len(notes) - _NOTES} more"]
    title = f' title="{escape(chr(10).join(notes))}"' if notes else ""
    return f"<td class={present[0]}{title}>{escape(text)}</td>"


def _told(row: Row) -> str:
    where = ", ".join(filter(None, [row["case"], row["leaf"]]))
    return f"{row['verdict']} {where}: {row['note']}"


def failures_section(messages: Mapping[str, Sequence[str]]) -> Section:
    """What is wrong: for each rule a summary, and every single failure below it.

    >>> "<pre>FAIL relu</pre>" in failures_section({"FAIL relu": []}).body
    True
    """
    parts = []
    for summary, failures in messages.items():
        parts.append(f"<pre>{escape(summary)}</pre>")
        if failures:
            listed = "".join(f"<pre>{escape(failure)}</pre>" for failure in failures)
            head = f"<summary>all {len(failures)} failures</summary>"
            parts.append(f"<details>{head}{listed}</details>")
    how = "Each failure names rule, leaf and case, the worst element, and the command to repeat it."
    return Section("Failures", how, "\n".join(parts) or "<p>There are none.</p>")


def unsettled_section(rows: Sequence[Row]) -> Section:
    """What was skipped or is inconclusive, with the reasons, for each rule.

    >>> row = {"rule": "relu", "check": "dot", "case": "kink", "leaf": "", "verdict": "skip"}
    >>> "at a kink" in unsettled_section([{**row, "note": "at a kink"}]).body
    True
    """
    by_rule: dict[str, Counter[tuple[str, str, str]]] = {}
    for row in rows:
        if row["verdict"] in {"inconclusive", "skip"}:
            reason = (row["verdict"], row["check"], row["note"])
            by_rule.setdefault(row["rule"], Counter())[reason] += 1
    parts = []
    for rule, reasons in by_rule.items():
        listed = html_table(
            [
                {"verdict": verdict, "check": check, "results": n, "reason": note}
                for (verdict, check, note), n in sorted(reasons.items())
            ]
        )
        summary = f"<summary>{escape(rule)}: {reasons.total()}</summary>"
        parts.append(f"<details>{summary}{listed}</details>")
    how = "What proves nothing is counted with its reason; open a rule to read them."
    body = "\n".join(parts) or "<p>Everything was settled.</p>"
    return Section("Inconclusive and skipped", how, body)


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
        values = {row["name"]: _number(row[key]) for row in rows}
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


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


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


def mutation_section(rows: Sequence[Row]) -> Section:
    """Which mistakes the checks would have noticed.

    Args:
        rows: with the keys rule, mutants, killed, survived, equivalent, score (from 0 to 1),
            smallest_scale and survivors (a list of texts).

    >>> row = {"rule": "relu", "mutants": 9, "killed": 7, "survived": 1, "equivalent": 1}
    >>> "87.5 %" in mutation_section([{**row, "score": 7 / 8, "smallest_scale": 1e-9,
    ...                                "survivors": ["drop the mask"]}]).body
    True
    """
    listed = [
        {
            "rule": row["rule"],
            "mutants": row["mutants"],
            "killed": row["killed"],
            "survived": row["survived"],
            "equivalent": row["equivalent"],
            "score": f"{100 * row['score']:.1f} %",
            "smallest noticed scale": float(row["smallest_scale"]),
        }
        for row in rows
    ]
    survivors = [f"{row['rule']}: {text}" for row in rows for text in row["survivors"]]
    body = html_table(listed) + "".join(f"<pre>{escape(text)}</pre>" for text in survivors)
    how = (
        "Each rule's backward pass was broken in many ways: killed are those that a check noticed, "
        "equivalent those that change no result; every survivor is listed."
    )
    return Section("Mutants", how, body)


def table_section(title: str, how: str, rows: Sequence[Row]) -> Section:
    """Any rows as a table.

    >>> "conv" in table_section("Sites", "One line a site.", [{"rule": "conv"}]).body
    True
    """
    return Section(title, how, html_table(rows) if rows else "<p>There is nothing to show.</p>")
