"""Checks of several rules as sections of a page: rules down, checks across."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from funcnn.report import Section
from funcnn.report.sections import failures_section, matrix_section, unsettled_section

if TYPE_CHECKING:
    from funcnn.gradient.verdict.results import CheckReport, Result


def check_sections(reports: Sequence[CheckReport]) -> list[Section]:
    """What passed in one matrix, what failed in full, and what was not settled.

    >>> from funcnn.gradient.verdict.results import CheckReport, Result
    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> [section.title for section in check_sections([report])]
    ['Rules and checks', 'Failures', 'Notes, inconclusive and skipped']
    """
    rows = [_shown_row(r, r.check in report.laws) for report in reports for r in report.results]
    wrong = dict(report.why_not_ok() for report in reports if not report.ok)
    return [matrix_section(rows), failures_section(wrong), unsettled_section(rows)]


def _shown_row(result: Result, law: bool) -> dict[str, Any]:
    """What a case declares shares a column, all laws of all rules."""
    return {
        **dataclasses.asdict(result),
        "check": "laws" if law else result.check.replace("_", " "),
        "case": f"{result.case} {result.dtype}".strip(),
        "note": f"{result.check}: {result.note}" if law else result.note,
    }
