"""funcnn census: the custom rules of a program."""

from __future__ import annotations

from funcnn.commands.gradients import Subject, show
from funcnn.gradient.pages import write_page


def take_census(subject: Subject, *, as_json: bool = False, html: str | None = None) -> int:
    """Every custom rule in the program. 1 where one is wrong."""
    from funcnn.gradient.sites.census import census

    report = census(subject.function, *subject.args)
    show(report, f"custom rules in {subject.told}", as_json)
    if html is not None:
        write_page(html, census=report, title=f"funcnn: custom rules in {subject.told}")
    return 0 if report.ok else 1
