"""The checks of several rules as one report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from funcnn.gradient.verdict.results import CheckReport
from funcnn.gradient.verdict.sections import check_sections
from funcnn.report import Report, Section, counted


@dataclasses.dataclass(frozen=True)
class CheckReports(Report):
    """The checks of several rules as one report, in one table.

    Attributes:
        reports: one for each rule or function; at least one.

    >>> from funcnn.gradient.verdict.results import Result
    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> print(CheckReports((report,)))
    OK f: 1 comparison passed, 0 failed, 0 inconclusive, 0 skipped; 1 hand-written rule
    OK: 1 of 1 is right; 1 comparison passed, 0 failed, 0 inconclusive, 0 skipped.
    """

    reports: tuple[CheckReport, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of each."""
        return [row for report in self.reports for row in report.rows()]

    def conclusion(self) -> str:
        """OK where each is right, or FAILED, and how many comparisons there were in all."""
        n, right = len(self.reports), sum(report.ok for report in self.reports)
        total = Counter[str]()
        for report in self.reports:
            total.update(report.counts)
        passed = counted(total["pass"], "comparison")
        return (
            f"{'OK' if right == n else 'FAILED'}: {right} of {n} "
            f"{'is' if right == 1 else 'are'} right; {passed} passed, "
            f"{total['fail']:,} failed, {total['inconclusive']:,} inconclusive, "
            f"{total['skip']:,} skipped."
        )

    def sections(self) -> Sequence[Section]:
        """Rules down, checks across; their failures, and what was not settled."""
        return check_sections(self.reports)

    def _details(self) -> Iterable[str]:
        return (report.text() for report in self.reports)
