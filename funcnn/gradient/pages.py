"""What the gradient tools found, as rows and as one HTML page."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from funcnn.gradient.verdict.results import CheckReport
from funcnn.report import Section, write_html
from funcnn.report.program_sections import (
    accuracy_section,
    census_section,
    cost_section,
    curves_section,
    sites_section,
)
from funcnn.report.sections import (
    failures_section,
    matrix_section,
    mutation_section,
    unsettled_section,
)
from funcnn.version import __version__

if TYPE_CHECKING:
    from funcnn.gradient.comparison.compare import Comparison
    from funcnn.gradient.comparison.training import TrainingComparison
    from funcnn.gradient.mutation.score import MutationScore
    from funcnn.gradient.sites.census import Census

# Every other name of a check, its underscores as spaces, is that of a law, which a case declares.
CHECKS = frozenset(
    (
        *("contract", "primal", "live", "truth", "zero", "homogeneity", "dot", "rounding"),
        *("transforms", "finite differences", "edge", "kink", "residuals", "residuals in a loop"),
        *("second order", "context", "sizes", "native", "mutation", "cost"),
    )
)


def check_rows(reports: Iterable[CheckReport]) -> list[dict[str, Any]]:
    """One row for each result, and one for each report; the key "kind" says which.

    >>> from funcnn.gradient.verdict.results import Result
    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> [(row["kind"], row.get("verdict", row.get("ok"))) for row in check_rows([report])]
    [('result', 'pass'), ('report', True)]
    """
    rows: list[dict[str, Any]] = []
    for report in reports:
        rows += [{"kind": "result", **dataclasses.asdict(r)} for r in report.results]
        rows.append(
            {
                "kind": "report",
                "target": report.target,
                "ok": report.ok,
                **report.counts,
                "not_compared": list(report.uncovered),
                "not_run": list(report.unreached),
                "rules": report.rules,
                "source": report.source,
            }
        )
    return rows


def score_row(score: MutationScore) -> dict[str, Any]:
    """A mutation score as a row.

    >>> from funcnn.gradient.mutation.score import MutationScore
    >>> score_row(MutationScore("loss", (), {}))["killed"]
    0
    """
    return {
        "kind": "mutation",
        "rule": score.rule,
        "mutants": len(score.fates),
        "killed": len(score.killed),
        "survived": len(score.survived),
        "equivalent": len(score.equivalent),
        "score": score.score,
        "smallest_scale": score.smallest_scale,
        "survivors": [str(fate) for fate in score.survived],
    }


def write_page(
    path: str | os.PathLike[str],
    *,
    reports: Sequence[CheckReport] = (),
    comparison: Comparison | None = None,
    training: TrainingComparison | None = None,
    census: Census | None = None,
    scores: Sequence[MutationScore] = (),
    title: str = "funcnn: gradients",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write what was found as one HTML file, whole or not at all.

    Args:
        path: the file.
        reports: of `fnn.check`, one for each rule or function.
        comparison: of `fnn.compare`.
        training: of `fnn.compare_training`.
        census: of `fnn.census`.
        scores: of `fnn.mutation_score`.
        title: of the page.
        facts: how it was made, beside the versions and the device: level, seed, config.

    Raises:
        ValueError: nothing was given.

    >>> import pathlib, tempfile
    >>> from funcnn.gradient.verdict.results import Result
    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> file = pathlib.Path(tempfile.mkdtemp(), "page.html")
    >>> write_page(file, reports=[report])
    >>> "OK: 1 of 1 is right" in file.read_text(encoding="utf-8")
    True
    """
    sections = [*_of_reports(reports)]
    head = [_conclusion(reports)] if reports else []
    if comparison is not None:
        head.append(str(comparison).splitlines()[-1])
        sections += _of_comparison(comparison)
    if census is not None:
        head.append(str(census).splitlines()[-1])
        sections.append(census_section([dataclasses.asdict(row) for row in census.rows]))
    if training is not None:
        head.append(str(training).splitlines()[-1])
        sections.append(_of_training(training))
    if scores:
        head.append(_score_of(scores))
        sections.append(mutation_section([score_row(score) for score in scores]))
    if not sections:
        raise ValueError("write_page: nothing to show; give reports, a comparison, scores, ...")
    write_html(path, title, head, sections, {**_versions(), **(facts or {})})


def _of_reports(reports: Sequence[CheckReport]) -> list[Section]:
    if not reports:
        return []
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


def _conclusion(reports: Sequence[CheckReport]) -> str:
    right = sum(report.ok for report in reports)
    counts = [report.counts for report in reports]
    total = {name: sum(c[name] for c in counts) for name in counts[0]}
    return (
        f"{'OK' if right == len(reports) else 'FAILED'}: {right} of {len(reports)} "
        f"{'is' if right == 1 else 'are'} right; {total['pass']:,} comparisons passed, "
        f"{total['fail']:,} failed, {total['inconclusive']:,} inconclusive, "
        f"{total['skip']:,} skipped."
    )


def _of_comparison(comparison: Comparison) -> list[Section]:
    sections = [accuracy_section([dataclasses.asdict(row) for row in comparison.rows])]
    if comparison.site_rows:
        sites = [{**vars(row), "site": str(row.site)} for row in comparison.site_rows]
        sections.append(sites_section(sites))
    if comparison.arms:
        sections.append(cost_section([dataclasses.asdict(arm) for arm in comparison.arms]))
    return sections


def _of_training(training: TrainingComparison) -> Section:
    rows = [
        {"arm": arm.name, "step": step, "loss": loss, "distance": distance}
        for arm in training.arms
        for step, (loss, distance) in enumerate(zip(arm.losses, arm.distances, strict=True))
    ]
    return curves_section(rows)


def _score_of(scores: Sequence[MutationScore]) -> str:
    killed = sum(len(score.killed) for score in scores)
    different = killed + sum(len(score.survived) for score in scores)
    share = 100 * killed / different if different else 0.0
    return f"{killed:,} of {different:,} mutants of {len(scores)} rules killed ({share:.1f} %)."


def _versions() -> dict[str, str]:
    return {
        "funcnn": __version__,
        "jax": jax.__version__,
        "Python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
