"""funcnn hunt: arguments at which a hand-written gradient is wrong, rule after rule."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from typing import Any

from funcnn.commands.target import answered, check_writable, subjects
from funcnn.gradient.case.memory import MEGABYTES
from funcnn.gradient.hunt.hunt import HuntReport, hunt
from funcnn.gradient.program.answering import NoAnswer, end_with
from funcnn.report import write_page


def hunt_rules(
    names: Sequence[str],
    *,
    budget: float,
    seed: int = 0,
    seconds_each: float = 30.0,
    megabytes: float = MEGABYTES,
    target: str | None = None,
    arguments: str | None = None,
    as_json: bool = False,
    html: str | None = None,
) -> int:
    """Hunt in registered rules, all of them where none is named, or in one target. 1 where found.

    Raises:
        ConfigError: as `subjects` does; what the function does not take.
    """
    check_writable("--html", html)
    chosen, args = subjects("hunt", names, target, arguments)
    options = {"budget": budget, "seed": seed, "megabytes": megabytes}
    reports: list[HuntReport] = []
    for path, subject in chosen:
        report = _hunted(path, subject, args, seconds_each, **options)
        reports.append(report)
        for text in map(json.dumps, report.rows()) if as_json else [str(report)]:
            print(text, flush=True)
    if html is not None:
        write_page(html, reports, facts={"budget": f"{budget:g} s", "seed": str(seed)})
    wrong = [report.target for report in reports if not report.ok]
    if wrong:
        print(f"wrong or not compared: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _hunted(
    path: str, subject: Any, args: tuple[Any, ...], seconds_each: float, **options: Any
) -> HuntReport:
    run = functools.partial(hunt, **options)
    try:
        return answered("hunt", path, subject, args, seconds_each, run)
    except NoAnswer as error:
        end_with(1)
        return HuntReport(path, seed=options["seed"], why=str(error))
