"""What `census` found: rules, what they keep, how far off they are, as text and as JSON lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from funcnn.report import Report, Section, counted, plain, table
from funcnn.report.program_sections import census_section
from funcnn.report.rows import whole


@dataclasses.dataclass(frozen=True)
class CensusRow:
    """One rule at operands of one kind; errors in units of the last place (ulps).

    Attributes:
        name: of the rule or, for a foreign one, of the function that it wraps.
        kind: "custom_vjp" or "custom_jvp".
        source: file and line of that function.
        operands: their dtypes and shapes.
        sites: how many places of the program call it so.
        compared: at how many of them it was held against a truth.
        calls: how often one run of the program calls it; a loop of unknown length counts once.
        path: the layer of the site with the largest error.
        aliased: bytes kept for the backward pass that are arguments or results of the rule.
        extra: bytes kept beside these, at one call.
        dead: of the extra bytes, what the backward pass does not use.
        automatic_extra: the extra bytes that autodiff keeps in its place.
        manual, automatic: the error of the rule, and of autodiff in its place, at the elements that
            stand on no kink or tie.
        floor: the noise floor.
        verdict: "MANUAL" or "AUTO", whichever is more accurate, "TIE", "WRONG", "INCONCLUSIVE", or
            "SURROGATE" where it was declared one.
        note: what is wrong, or why nothing can be said.
    """

    name: str
    kind: str
    source: str
    operands: str
    sites: int
    compared: int
    calls: int
    path: str
    aliased: float
    extra: float
    dead: float
    automatic_extra: float
    manual: float
    automatic: float
    floor: float
    verdict: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Census(Report):
    """What `census` found; `str()` is the report.

    Attributes:
        rules: one for each rule and kind of operands, in the order of the program.

    >>> print(Census(()))
    NOT COMPARED: 0 hand-written rules found
    """

    rules: tuple[CensusRow, ...]

    @property
    def ok(self) -> bool:
        """Whether something was compared, and no rule is wrong at the operands that flow there."""
        return self._judged > 0 and all(row.verdict != "WRONG" for row in self.rules)

    @property
    def _judged(self) -> int:
        """At how many sites a rule was held against a truth that is not zero."""
        return sum(row.compared for row in self.rules)

    def rows(self) -> list[dict[str, Any]]:
        """The key "kind" says what a row is; what was not measured, or is infinite, is None.

        - "rule": the attributes of `CensusRow`, whose own kind is under "made_by";
        - "census", once, last: ok, rules, sites (how many there are), jax (its version).
        """
        rows: list[dict[str, Any]] = []
        for row in self.rules:
            fields = dataclasses.asdict(row)
            rows.append({"kind": "rule", "made_by": fields.pop("kind"), **fields})
        rules, sites = self._counts()
        last = {"ok": self.ok, "rules": rules, "sites": sites, "jax": jax.__version__}
        return [plain(row) for row in (*rows, {"kind": "census", **last})]

    def sections(self) -> Sequence[Section]:
        """Its rules, what they keep, and where they are defined."""
        return [census_section([dataclasses.asdict(row) for row in self.rules])]

    def _counts(self) -> tuple[int, int]:
        return len({(r.name, r.source) for r in self.rules}), sum(r.sites for r in self.rules)

    def _details(self) -> Iterable[str]:
        columns = [_shown(row) for row in self.rules]
        lines = [table(columns)] if columns else []
        lines += [f"{r.name}: {r.source}" for r in _first_of_each(self.rules) if r.source]
        lines += [f"{row.verdict} {_where(row)}: {row.note}" for row in self.rules if row.note]
        return lines

    def conclusion(self) -> str:
        """OK, FAILED or NOT COMPARED, and how many rules and sites there are."""
        rules, sites = self._counts()
        if not rules:
            return "NOT COMPARED: 0 hand-written rules found"
        wrong = [_where(row) for row in self.rules if row.verdict == "WRONG"]
        by_value = [_where(row) for row in self.rules if row.verdict == "SURROGATE"]
        compared = self._judged - sum(r.compared for r in self.rules if r.verdict == "SURROGATE")
        text = (
            f"{counted(rules, 'hand-written rule')} at {counted(sites, 'site')}, "
            f"{compared} of them compared with float64 truth"
        )
        if by_value:
            text += f"; by their value alone, as declared surrogates: {', '.join(by_value)}"
        if wrong:
            return f"FAILED: {text}; wrong: {', '.join(wrong)}"
        others = [_where(row) for row in self.rules if row.compared < row.sites]
        head = f"{'OK' if self.ok else 'NOT COMPARED'}: {text}"
        return f"{head}; not compared: {', '.join(others)}" if others else head


def _where(row: CensusRow) -> str:
    return f"{row.name} in {row.path}" if row.path else row.name


def _first_of_each(rows: Sequence[CensusRow]) -> list[CensusRow]:
    return list({(row.name, row.source): row for row in reversed(rows)}.values())[::-1]


def _shown(row: CensusRow) -> dict[str, Any]:
    return {
        "rule": row.name,
        "operands": row.operands,
        "sites": row.sites,
        "calls": row.calls,
        "extra bytes": whole(row.extra),
        "autodiff's": whole(row.automatic_extra),
        "aliased": whole(row.aliased),
        "dead": whole(row.dead),
        "manual, ulps": row.manual,
        "automatic, ulps": row.automatic,
        "verdict": row.verdict,
    }
