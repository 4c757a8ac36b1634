"""Every rule stands on a page of the documentation, with all of its code beside its derivation."""

import ast
import re
from pathlib import Path

import listing
import public_names

import funcnn as fnn

DOCS = Path(fnn.__file__).parent.parent / "docs"
PAGES = DOCS / "rules"
ROOM = "funcnn.rules."
STYLE = (DOCS / "_static" / "site.css").read_text("utf-8")
REM = 16  # pixels


def without_a_page(pages, rules):
    lines = [line for text in pages for line in re.findall(r"^```{rules} (.*)$", text, re.M)]
    listed = {ROOM + name for line in lines for name in line.split()}
    return [rule.name for rule in rules if rule.reference.__module__ not in listed]


def rules_of_the_package():
    rules = fnn.registered_rules().values()
    return [rule for rule in rules if rule.reference.__module__.startswith(ROOM)]


def test_every_rule_has_a_page():
    ours = rules_of_the_package()
    pages = [page.read_text("utf-8") for page in PAGES.glob("*.md")]
    assert len(ours) > 30
    assert without_a_page(pages, ours) == []
    others = [page for page in pages if "{rules} softmax" not in page]
    assert "softmax" in without_a_page(others, ours)


def names_without_a_page(pages):
    """As the site checks its public names, read off the sources of its pages."""
    lines = [line for text in pages for line in re.findall(r"^```{api} (.*)$", text, re.M)]
    listed = {("api", name.removeprefix("fnn.")) for line in lines for name in line.split()}
    rules = {("rule", name) for name in fnn.registered_rules()}
    return public_names.missing(listed | rules)


def test_every_public_name_has_a_page():
    pages = [page.read_text("utf-8") for page in DOCS.rglob("*.md")]
    assert names_without_a_page(pages) == []
    others = [page for page in pages if "fnn.task.Metric" not in page]
    assert "fnn.task.Metric" in names_without_a_page(others)


def too_long(text):
    return [line for line in text.splitlines() if len(line) > listing.COLUMNS]


def test_no_line_of_code_is_longer_than_its_column():
    rules = rules_of_the_package()
    functions = [f for rule in rules for f in (rule.reference, rule.forward, rule.backward)]
    long_in_their_files = 0
    for function in functions:
        source, shown = listing.without_docstring(function), listing.listing(function)
        assert too_long(shown) == [], function.__name__
        assert ast.dump(ast.parse(shown)) == ast.dump(ast.parse(source))
        assert re.sub(r"[\s#]+", "", comments(shown)) == re.sub(r"[\s#]+", "", comments(source))
        long_in_their_files += len(too_long(source))
    assert long_in_their_files > 50


def comments(source):
    return "".join(re.findall(r"# .*", source))


def room_for_words(style, columns=listing.COLUMNS):
    """Pixels beside code of so many columns, in the narrowest window that shows it there.

    0 where the column of the code is not as wide as the code.
    """
    beside = re.search(
        r"@media \(min-width: (\d+)px\) \{\n  \.lesson\.rule:not\(\.no-code\) \{\s+display: grid;"
        r"\s+grid-template-columns: minmax\(0, 1fr\) max-content;\s+column-gap: ([\d.]+)rem;",
        style,
    )
    font = re.search(r"^\.lesson\.rule \.highlight pre \{ font-size: ([\d.]+)rem; \}", style, re.M)
    sidebar = re.search(
        r"\(\.lesson\.rule\) \.main \.content \{ width: calc\(100vw - ([\d.]+)rem\)", style
    )
    if not (beside and font and sidebar):
        return 0
    # 0.62 of the size of the font is the widest of the usual ones; 3 and 1.75 are the margins of
    # the page, from site.css, and of a listing, from the theme.
    code = columns * 0.62 * float(font[1]) + 1.75
    return int(beside[1]) - REM * (float(sidebar[1]) + 3 + float(beside[2]) + code)


def test_the_columns_of_a_rule_have_room_for_code_and_words():
    assert room_for_words(STYLE) > 25 * REM
    assert room_for_words(STYLE, 100) < 25 * REM
    halves = STYLE.replace("minmax(0, 1fr) max-content", "minmax(0, 1fr) minmax(0, 1fr)")
    assert room_for_words(halves) == 0
