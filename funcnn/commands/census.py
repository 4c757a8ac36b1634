"""funcnn census: the custom rules of a program."""

from __future__ import annotations

from funcnn.commands.gradients import Subject, show


def take_census(subject: Subject, *, as_json: bool = False, html: str | None = None) -> int:
    """Every custom rule in the program. 1 where one is wrong."""
    from funcnn.gradient.sites.census import census

    report = census(subject.function, *subject.args)
    show(report, f"custom rules in {subject.title}", as_json)
    if html is not None:
        report.to_html(html, title=f"funcnn: custom rules in {subject.title}")
    return 0 if report.ok else 1
