"""Every rule stands on a page of the documentation."""

import re
from pathlib import Path

import funcnn as fnn

PAGES = Path(fnn.__file__).parent.parent / "docs" / "rules"
ROOM = "funcnn.rules."


def without_a_page(pages, rules):
    lines = [line for text in pages for line in re.findall(r"^```{rules} (.*)$", text, re.M)]
    listed = {ROOM + name for line in lines for name in line.split()}
    return [rule.name for rule in rules if rule.reference.__module__ not in listed]


def test_every_rule_has_a_page():
    rules = fnn.registered_rules().values()
    ours = [rule for rule in rules if rule.reference.__module__.startswith(ROOM)]
    pages = [page.read_text("utf-8") for page in PAGES.glob("*.md")]
    assert len(ours) > 30
    assert without_a_page(pages, ours) == []
    others = [page for page in pages if "{rules} softmax" not in page]
    assert "softmax" in without_a_page(others, ours)
