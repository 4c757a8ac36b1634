"""Checks of several rules as sections of a page: rules down, checks across."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from funcnn.report import Section
from funcnn.report.sections import failures_section, matrix_section, unsettled_section

if TYPE_CHECKING:
    from funcnn.gradient.verdict.results import CheckReport

# Every other name of a check, its underscores as spaces, is that of a law, which a case declares.
CHECKS = frozenset(
    (
        *("contract", "primal", "live", "truth", "zero", "homogeneity", "dot", "rounding"),
        *("transforms", "finite differences", "edge", "kink", "residuals", "residuals in a loop"),
        *("second order", "context", "sizes", "native", "mutation", "cost"),
    )
)


def check_sections(reports: Sequence[CheckReport]) -> list[Section]:
    """What passed in one matrix, what failed in full, and what was not settled.

    >>> from funcnn.gradient.verdict.results import CheckReport, Result
    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> [section.title for section in check_sections([report])]
    ['Rules and checks', 'Failures', 'Inconclusive and skipped']
    """
    rows = [_shown_row(dataclasses.asdict(r)) for report in reports for r in report.results]
    wrong = {str(r): [str(failure) for failure in r.failures] for r in reports if not r.ok}
    return [matrix_section(rows), failures_section(wrong), unsettled_section(rows)]


def _shown_row(row: dict[str, Any]) -> dict[str, Any]:
    check = row["check"].replace("_", " ")
    law = check not in CHECKS
    return {
        **row,
        "check": "laws" if law else check,
        "case": f"{row['case']} {row['dtype']}".strip(),
        "note": f"{row['check']}: {row['note']}" if law else row["note"],
    }
