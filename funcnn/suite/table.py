"""What was found, as it is printed and as JSON lines."""

from __future__ import annotations

import dataclasses
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from funcnn.report import counted, table

# From what has to be said first to what need not be said.
VERDICTS = ("WRONG", "no answer", "not settled", "not checked", "right")
_RANK = {verdict: rank for rank, verdict in enumerate(VERDICTS)}
_FINDINGS = {"WRONG", "no answer"}
_GROUPS = ("", "others'", "JAX's")
_SHOWN = 20  # rules that are right, and that no test reaches


@dataclasses.dataclass(frozen=True)
class Row:
    """The calls of one rule with operands of one kind, and what a check of them found.

    Attributes:
        name: of the rule: of the function that it differentiates.
        kind: "custom_vjp" or "custom_jvp".
        source: file and line of its derivative.
        values: what its functions close over.
        operands: their dtypes and shapes, and the static values.
        x64: whether float64 was enabled.
        group: 0 a rule of the project, 1 of another package, 2 of JAX.
        calls: how many there were.
        differentiated: in how many of these a derivative was taken.
        test: the first test that called it.
        how: the operands of the check: "called", "fetched" or "drawn"; "" where there was none.
        verdict: one of `VERDICTS`.
        diagnosis: the usual mistake that explains it, or by how much it is off.
        note: why it is not settled, or not checked.
        details: a line for each check that failed.
        seconds: that its checks took.
    """

    name: str
    kind: str
    source: str
    values: str
    operands: str
    x64: bool
    group: int
    calls: int
    differentiated: int
    test: str
    how: str = ""
    verdict: str = "not checked"
    diagnosis: str = ""
    note: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """What makes it another row, the same in each process."""
        parts = (self.name, self.kind, self.source, self.values, self.operands, str(self.x64))
        return " | ".join(parts)

    @property
    def is_finding(self) -> bool:
        """Whether something is wrong here."""
        return self.verdict in _FINDINGS

    def outranks(self, other: Row) -> bool:
        """Whether it says more about these calls than another check of them."""
        if not other.how:
            return True
        if "not checked" in (self.verdict, other.verdict):
            return other.verdict == "not checked"
        return _RANK[self.verdict] < _RANK[other.verdict]

    @property
    def again(self) -> str:
        """The command that repeats the check."""
        only = f"--gradients-only={shlex.quote(self.name)}"
        test = [shlex.quote(self.test)] if self.test else []
        return " ".join(["python -m pytest --gradients", only, *test])


@dataclasses.dataclass(frozen=True)
class Found:
    """What the plugin found in a suite.

    Attributes:
        rows: one for each rule and kind of operands.
        never: of each rule of the project that nobody called the name, the line of its derivative
            and the line of its function.
        seconds: that all checks took.
        failures: what went wrong while calls were noted, which is a mistake of this tool.
        blind: why nothing was seen of the operands inside compiled programs, or "".
    """

    rows: tuple[Row, ...]
    never: tuple[tuple[str, str, str], ...] = ()
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    blind: str = ""

    @property
    def findings(self) -> list[Row]:
        """The rows with something wrong."""
        return [row for row in self.rows if row.is_finding]

    def lines(self) -> Iterator[str]:
        """The table, then each finding in full, what no test reaches, and the conclusion.

        >>> who = ("cube", "custom_vjp", "a.py:7", "", "float32[3]", False, 0, 2, 0, "model.py::t")
        >>> row = Row(*who, how="called", verdict="WRONG", diagnosis="manual = 7 x truth")
        >>> print(*list(Found((row,)).lines())[-5:-1], sep=chr(10))
        WRONG cube: manual = 7 x truth
          at: float32[3], as called by model.py::t
          derivative: a.py:7
          again: python -m pytest --gradients --gradients-only=cube model.py::t
        """
        rules = self._by_rule()
        if rules:
            yield table([_in_short(rows) for rows in rules])
        for row in sorted(self.findings, key=lambda row: (row.group, row.source)):
            yield from _in_full(row)
        if any(row.verdict == "WRONG" for row in self.rows):
            yield "one that differs from the derivative on purpose: --gradients-surrogate=RULE"
        for why, names in self._unsettled().items():
            yield f"{why}: {', '.join(names)}"
        if self.never:
            shown = [f"{name} ({source})" for name, source, _ in self.never[:_SHOWN]]
            more = len(self.never) - len(shown)
            yield f"no test reaches it: {', '.join(shown)}" + (f", and {more} more" if more else "")
        if self.blind:
            yield f"operands inside compiled programs are not seen, and drawn: {self.blind}"
        for failure in dict.fromkeys(self.failures):
            yield f"a call could not be noted: {failure}"

    def conclusion(self) -> str:
        """One line: how many rules, and what was found.

        >>> Found(()).conclusion()
        'no hand-written rule was called'
        """
        rules = self._by_rule()
        if not rules:
            return "no hand-written rule was called"
        checked = [row for row in self.rows if row.verdict not in {"not checked", "no answer"}]
        silent = sum(row.verdict == "no answer" for row in self.rows)
        parts = [
            f"{counted(len(rules), 'hand-written rule')} called",
            f"{len(checked)} of {counted(len(self.rows), 'kind')} of calls checked",
            self.counted_findings() if self.findings else "nothing wrong",
        ]
        parts += [f"{silent} without an answer"] if silent else []
        unsettled = sum(row.verdict == "not settled" for row in self.rows)
        parts += [f"{unsettled} not settled"] if unsettled else []
        parts += [f"{len(self.never)} that no test reaches"] if self.never else []
        return f"{', '.join(parts)}; {self.seconds:.0f} s"

    def counted_findings(self) -> str:
        """How many rules with something wrong; a rule counts for each value that it closes over.

        >>> Found(()).counted_findings()
        '0 findings'
        """
        return counted(len({(row.source, row.values) for row in self.findings}), "finding")

    def json_rows(self) -> list[dict[str, Any]]:
        """The key "kind" says what a row is: "call", "never called", or "suite", once, last."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            fields = dataclasses.asdict(row)
            rows.append({"kind": "call", "made_by": fields.pop("kind"), **fields})
        rows += [{"kind": "never called", "name": n, "source": s} for n, s, _ in self.never]
        counts = {v: sum(row.verdict == v for row in self.rows) for v in VERDICTS}
        last = {"rules": len(self._by_rule()), "findings": len(self.findings), **counts}
        return [*rows, {"kind": "suite", **last, "seconds": round(self.seconds, 1)}]

    def _by_rule(self) -> list[list[Row]]:
        """The rows of each rule, the worst first; the project's own first, and the wrong."""
        rules: dict[Any, list[Row]] = defaultdict(list)
        for row in self.rows:
            rules[row.name, row.source].append(row)
        for rows in rules.values():
            rows.sort(key=lambda row: _RANK[row.verdict])
        place = {id(rows): (not rows[0].is_finding, rows[0].group) for rows in rules.values()}
        return sorted(rules.values(), key=lambda rows: (*place[id(rows)], rows[0].source))

    def _unsettled(self) -> dict[str, list[str]]:
        """What there is to say of rows that came to no verdict, and the rules of which it holds."""
        reasons: dict[str, dict[str, None]] = defaultdict(dict)
        for row in self.rows:
            if row.verdict in {"not settled", "not checked"} and row.group < 2:
                reasons[f"{row.verdict}, {row.note}"][row.name] = None
        return {why: list(names) for why, names in reasons.items()}


def _in_short(rows: Sequence[Row]) -> dict[str, Any]:
    worst = rows[0]
    checked = [row for row in rows if row.how]
    at = f"{worst.operands} ({worst.how})" if worst.how else "-"
    more = f"; {len(checked)} of {len(rows)} kinds" if len(rows) > 1 else ""
    return {
        "rule": f"{worst.name} ({_GROUPS[worst.group]})" if worst.group else worst.name,
        "derivative": _inside(worst.source),
        "calls": sum(row.calls for row in rows),
        "checked at": at + more,
        "verdict": worst.verdict,
        "diagnosis": worst.diagnosis or worst.note,
    }


def _in_full(row: Row) -> Iterator[str]:
    yield f"{row.verdict} {row.name}: {row.diagnosis or row.note}"
    yield from (f"  {line}" for line in row.details)
    how = {
        "called": "as called by",
        "fetched": "fetched from a program of",
        "drawn": "drawn, as no number was to be seen in",
    }
    by = row.test or "the import of a module"
    yield f"  at: {row.operands}, {how.get(row.how, '')} {by}"
    if row.values:
        yield f"  with: {row.values}"
    yield f"  derivative: {row.source}"
    yield f"  again: {row.again}"


def _inside(source: str) -> str:
    """A path from the folder of packages on, or from its last three parts."""
    tail = source.rpartition("site-packages/")[2]
    return "/".join(tail.split("/")[-3:])
