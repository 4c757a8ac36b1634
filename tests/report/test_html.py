"""The page: one file, nothing loaded from elsewhere, every value escaped, no verdict lost."""

import math
import re
from html.parser import HTMLParser

import pytest

from funcnn.report import Section, program_sections, sections
from funcnn.report.html import html_table, page, readable

NASTY = "<script>alert('1')</script> & \"quoted\""
VOID = {"meta", "br", "rect", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Reads a page; its tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def result(verdict, rule="relu", check="truth", case="kink", leaf="x", note=""):
    return {"rule": rule, "check": check, "case": case, "leaf": leaf, "verdict": verdict,
            "note": note}  # fmt: skip


def leaf(name, manual, automatic, verdict="TIE"):
    return {"leaf": name, "shape": (2, 3), "dtype": "float32", "manual": manual,
            "automatic": automatic, "floor": 0.5, "verdict": verdict, "note": ""}  # fmt: skip


def arm(name, **measured):
    names = ("flops", "bytes_accessed", "temporary_bytes", "residual_bytes", "compile_seconds",
             "seconds_median", "seconds_low", "seconds_high")  # fmt: skip
    return {"name": name, "note": "", **dict.fromkeys(names, math.nan), **measured}


def score(rule, survivors=()):
    return {"rule": rule, "mutants": 9, "killed": 7, "survived": len(survivors), "equivalent": 1,
            "score": 7 / 8, "smallest_scale": 1e-9, "survivors": list(survivors)}  # fmt: skip


def rule(name, **measured):
    texts = dict.fromkeys(("name", "source", "operands", "path", "verdict", "note"), name)
    numbers = ("sites", "calls", "aliased", "extra", "dead", "automatic_extra", "manual")
    return {**texts, **dict.fromkeys((*numbers, "automatic"), 1), **measured}


def everything(text):
    """Each kind of section, with one text wherever a text can stand."""
    point = {"arm": text, "step": 1, "loss": 2.0, "distance": 1.0}
    return [
        sections.matrix_section([result("fail", text, text, text, text, text)]),
        sections.failures_section({text: [text]}),
        sections.unsettled_section([result("skip", text, text, text, text, text)]),
        program_sections.accuracy_section([leaf(text, 1.0, 2.0)]),
        program_sections.sites_section([{"site": text, "contributed": 1.0, "verdict": text}]),
        program_sections.cost_section([arm(text, flops=1.0)]),
        program_sections.curves_section([point, {**point, "step": 2, "loss": 1.0}]),
        sections.mutation_section([score(text, [text])]),
        program_sections.census_section([rule(text)]),
    ]


def test_every_value_is_escaped_and_nothing_is_loaded():
    text = page(NASTY, [(NASTY, everything(NASTY))], {NASTY: NASTY})
    parsed = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(parsed.tags)
    assert not {"src", "href", "onclick", "onload"} & {name for name, _ in parsed.attributes}
    assert re.findall(r"https?://[^\"' ]+", text).count("http://www.w3.org/2000/svg") == len(
        re.findall("https?://", text)
    )
    assert "@import" not in text
    assert "url(" not in text
    assert parsed.text.count(NASTY) >= 15
    assert [v for n, v in parsed.attributes if n == "title"] == [f"fail {NASTY}, {NASTY}: {NASTY}"]


def test_each_section_has_a_heading_and_one_sentence_on_how_to_read_it():
    for section in everything("relu"):
        page = Page(str(section))
        assert page.tags[:3] == ["section", "h2", "p"]
        assert section.how.endswith(".") or section.how == "relu"


def words(parts):
    """What a page says from its heading on."""
    text = Page(page("title", parts, {"jax": "1"})).text
    return " ".join(text.split("title")[-1].split())


def test_one_conclusion_stands_at_the_head_of_several_each_above_its_sections_again():
    first, second = Section("a", "b.", "<p>1</p>"), Section("c", "d.", "<p>2</p>")
    assert words([("OK", [first, second])]) == "OK a b. 1 c d. 2 Made with jax 1."
    line = words([("OK", [first]), ("FAILED", [second])])
    assert line == "OK FAILED OK a b. 1 FAILED c d. 2 Made with jax 1."


def cells(rows):
    body = sections.matrix_section(rows).body
    return re.findall(r"<td class=(\w+)[^>]*>([^<]*)</td>", body), body


def test_the_matrix_counts_every_result_and_a_failure_else_a_pass_colours_the_cell():
    rows = [
        *[result("pass"), result("pass"), result("fail", note="off by 3"), result("skip")],
        *[result("pass", check="dot"), result("inconclusive", check="dot")],
        *[result("inconclusive", check="kink"), result("skip", check="kink")],
        result("skip", rule="conv", check="second order"),
    ]
    found, body = cells(rows)
    fail, passed, question, skip = "\N{MULTIPLICATION X}", "\N{CHECK MARK}", "?", "s"
    assert found == [
        ("fail", f"{fail}1 {passed}2 {skip}1"),
        ("pass", f"{passed}1 {question}1"),
        ("inconclusive", f"{question}1 {skip}1"),
        ("skip", f"{skip}1"),
    ]
    assert 'title="fail kink, x: off by 3\nskip kink, x: "' in body
    assert body.count("<td></td>") == 4  # what was not run: one of relu's four, three of conv's
    assert "<span>second order</span>" in body


def test_failures_that_are_many_are_opened_below_the_first():
    body = sections.failures_section({"first": ["second", "third"], "empty": []}).body
    assert re.findall("<pre>([^<]*)", body) == ["first", "second", "third", "empty"]
    assert "<summary>2 more failures</summary>" in body
    assert body.count("<details>") == 1
    assert "There are none" in sections.failures_section({}).body


def test_many_notes_are_counted_and_not_listed():
    rows = [result("fail", case=str(i), note="off") for i in range(20)]
    _, body = cells(rows)
    assert "fail 5, x: off" in body
    assert "fail 6, x: off" not in body
    assert "and 14 more" in body


def test_unsettled_results_stand_with_their_reasons_and_numbers():
    rows = [result("pass", note="fine"), *[result("skip", note="at a kink")] * 3]
    rows += [result("inconclusive", check="dot", note="both sides are zero")]
    page = Page(sections.unsettled_section(rows).body)
    assert "relu: 4" in page.text
    assert "at a kink" in page.text
    assert "fine" not in page.text
    assert "both sides are zero" in page.text
    assert Page(sections.unsettled_section([result("pass")]).body).text.startswith("Everything")


def test_costs_show_what_was_measured_and_say_what_was_not():
    rows = [arm("manual", residual_bytes=1500.0, seconds_median=0.002), arm("automatic")]
    body = program_sections.cost_section(rows).body
    assert "1.5 kB" in body
    assert "2 ms" in body
    assert body.count("<svg") == 2  # no figure for what no arm has
    assert body.count("not measured") == 2


def test_survivors_are_listed():
    body = sections.mutation_section([score("relu"), score("conv", ["drop mul conv.py:3"])]).body
    assert "87.5 %" in body
    assert "1e-09" in body
    assert body.count("<pre>") == 1
    assert "conv: drop mul conv.py:3" in body


def test_tables_take_their_columns_from_the_first_row():
    page = Page(html_table([{"a": 1, "b": None}, {"b": "x"}]))
    assert page.tags.count("td") == 4
    assert html_table([]).count("<td") == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(True, "yes"), (0, "0"), (0.0, "0"), (math.nan, "-"), (-math.inf, "not finite")],
        *[(1e-300, "1e-300"), (12345.6, "12,346"), (1.5e9, "1.5e+09"), ("", "")],
    ],
)
def test_readable(value, text):
    assert readable(value) == text
