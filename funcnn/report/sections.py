"""The sections of a page about checks of rules: rows in, a `Section` out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from funcnn.report.html import Section, escape, html_table
from funcnn.report.rows import counted

Row = Mapping[str, Any]

# A sign or a letter beside the colour. The first one present colours a cell: a check that passes
# wherever it can be decided has passed.
_SIGNS = {
    "fail": "\N{MULTIPLICATION X}",
    "pass": "\N{CHECK MARK}",
    "note": "n",
    "inconclusive": "?",
    "skip": "s",
}
_NOTES = 6  # in what a cell shows when it is pointed at


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
        f"{_SIGNS['fail']} failed, {_SIGNS['note']} would fail in another setting than was asked "
        f"for, {_SIGNS['inconclusive']} inconclusive, {_SIGNS['skip']} skipped with a reason; red "
        "where any failed, else blue where any passed, else yellow or grey, and empty where the "
        "check was not run."
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
    worse = [row for row in ordered if row["verdict"] != "pass"]
    notes = list(dict.fromkeys(map(_note, worse)))
    if len(notes) > _NOTES:
        notes = [*notes[:_NOTES], f"and {len(notes) - _NOTES} more"]
    title = f' title="{escape(chr(10).join(notes))}"' if notes else ""
    return f"<td class={present[0]}{title}>{escape(text)}</td>"


def _note(row: Row) -> str:
    where = ", ".join(filter(None, [row["case"], row["leaf"]]))
    return f"{row['verdict']} {where}: {row['note']}"


def failures_section(messages: Mapping[str, Sequence[str]]) -> Section:
    """What is wrong: of each rule the first failures and, to be opened, the others.

    >>> "<pre>FAIL relu</pre>" in failures_section({"FAIL relu": []}).body
    True
    """
    parts = []
    for first, others in messages.items():
        parts.append(f"<pre>{escape(first)}</pre>")
        if others:
            listed = "".join(f"<pre>{escape(failure)}</pre>" for failure in others)
            head = f"<summary>{counted(len(others), 'more failure')}</summary>"
            parts.append(f"<details>{head}{listed}</details>")
    how = (
        "Each names rule, leaf and case, the worst element and, of a rule, how to repeat it; of "
        "each check the first are shown, open the line below them for the others."
    )
    return Section("Failures", how, "\n".join(parts) or "<p>There are none.</p>")


def unsettled_section(rows: Sequence[Row]) -> Section:
    """What is a note, was skipped or is inconclusive, with the reasons, for each rule.

    >>> row = {"rule": "relu", "check": "dot", "case": "kink", "leaf": "", "verdict": "skip"}
    >>> "at a kink" in unsettled_section([{**row, "note": "at a kink"}]).body
    True
    """
    by_rule: dict[str, Counter[tuple[str, str, str]]] = {}
    for row in rows:
        if row["verdict"] in {"note", "inconclusive", "skip"}:
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
    return Section("Notes, inconclusive and skipped", how, body)


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
