"""One protocol for what a tool found: rows, a text that ends in its conclusion, and a page."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

import funcnn as fnn
from funcnn.gradient.comparison.arms import Arm
from funcnn.gradient.comparison.training import Curve, TrainingComparison
from funcnn.gradient.mutation.mutants import Mutant
from funcnn.gradient.mutation.score import Fate, MutationScore, MutationScores
from funcnn.gradient.program.sites import Site
from funcnn.gradient.sites.census import CensusRow
from funcnn.gradient.sites.localize import SiteRow
from funcnn.gradient.verdict.judge import Row
from funcnn.gradient.verdict.reports import CheckReports
from funcnn.gradient.verdict.results import CheckReport, Result
from funcnn.report import Report, Section, write_page
from funcnn.report.html import escape

SITE = Site((0,), "sine", "a", "custom_vjp", "a.py:1")
MUTANT = Mutant("times -1", "mul", "a.py:2")
# In each something is wrong, something was not measured, and something is infinite.
RESULTS = (
    Result("sine", "truth", "<one>", "x", "fail", "manual = 2 x truth", seed=3),
    Result("sine", "dot", "<one>", "", "skip", "at a kink"),
)
CHECK = CheckReport("sine", RESULTS, ("x", "w"), 1, "a.py:1", "funcnn check sine")
COMPARISON = fnn.Comparison(
    (Row("w", (2, 3), "float32", math.inf, 3.0, math.nan, "WRONG", "off"),),
    sites=(SITE,),
    kept=(SITE,),
    culprits=(SITE,),
    site_rows=(SiteRow(SITE, math.nan, math.inf, 0.5, "WRONG", "off"),),
    arms=(Arm("manual", flops=7.0), Arm("automatic", note="checkpointed")),
)
NUMBERS = (2, 2, 3, "a", 8.0, 0.0, 0.0, 8.0, math.inf, 0.5, math.nan)
NAN = math.nan
UNKNOWN = (1, 0, 1, "", NAN, NAN, NAN, NAN, NAN, NAN, NAN)
CENSUS = fnn.Census(
    (
        CensusRow("sine", "custom_vjp", "a.py:1", "float32[3]", *NUMBERS, "WRONG", "off"),
        CensusRow("relu", "custom_jvp", "b.py:1", "float32[3]", *UNKNOWN, "INCONCLUSIVE", "no"),
    )
)
TRAINING = TrainingComparison(
    tuple(
        Curve(name, (1.0, loss), (0.0, distance), {"w": distance})
        for name, loss, distance in (
            ("automatic", 0.5, 0.0),
            ("manual", math.nan, math.inf),
            ("control", 0.5, 1e-7),
        )
    ),
    (SITE,),
)
SCORE = MutationScore(
    "sine",
    (Fate(MUTANT, "killed", "truth"), Fate(MUTANT, "survived", "differs by 1e-3")),
    {MUTANT: math.inf},
    unreachable=1,
)
REPORTS = {
    "check": CHECK,
    "checks": CheckReports((CHECK, dataclasses.replace(CHECK, leaves=("x",)))),
    "compare": COMPARISON,
    "census": CENSUS,
    "training": TRAINING,
    "score": SCORE,
    "scores": MutationScores((SCORE, MutationScore("relu", (), {}))),
    "nothing compared": fnn.Comparison((), (), no_truth="pure_callback"),
    "nothing found": fnn.Census(()),
}
FIVE = [REPORTS[name] for name in ("check", "compare", "census", "training", "score")]


def assert_keeps_the_protocol(report, folder):
    assert isinstance(report, Report)
    rows = report.rows()
    report.to_json(folder / "rows.jsonl")
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert rows == [json.loads(line) for line in lines]
    assert lines == [json.dumps(row, allow_nan=False) for row in rows]
    assert all(isinstance(row["kind"], str) for row in rows)
    assert report.conclusion() == str(report).splitlines()[-1]
    report.to_html(folder / "page.html")
    assert_page_shows((folder / "page.html").read_text(encoding="utf-8"), report)


def assert_page_shows(text, report):
    sections = list(report.sections())
    assert sections
    places = [text.index(str(section)) for section in sections]
    assert places == sorted(places)
    assert f"<p class=head>{escape(report.conclusion())}</p>" in text


@pytest.mark.parametrize("name", REPORTS)
def test_each_report_keeps_the_protocol(name, tmp_path):
    assert_keeps_the_protocol(REPORTS[name], tmp_path)


def test_one_page_shows_them_all(tmp_path):
    write_page(tmp_path / "page.html", FIVE)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for report in FIVE:
        assert_page_shows(text, report)
    assert text.count("<section>") == sum(len(report.sections()) for report in FIVE)
    # All conclusions stand at the head, each again above its own sections.
    head, *_ = text.split("<section>")
    assert all(escape(report.conclusion()) in head for report in FIVE)
    assert text.count("<p class=head>") == 2 * len(FIVE)
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


@dataclasses.dataclass(frozen=True)
class Found(Report):
    """A report of nothing, to be spoiled."""

    def rows(self):
        return [{"kind": "found", "shape": [2]}]

    def conclusion(self) -> str:
        return "OK: it is right"

    def sections(self):
        return [Section("Found", "One line.", "<p>1</p>")]

    def _details(self):
        return ["a line"]


class EndsOtherwise(Found):
    def __str__(self):
        return "OK: it is right\nand one thing more"


class SaysMoreThanALine(Found):
    def conclusion(self):
        return "OK: it is right\nand one thing more"


class HoldsNaN(Found):
    def rows(self):
        return [{"kind": "found", "error": math.nan}]


class HoldsATuple(Found):
    def rows(self):
        return [{"kind": "found", "shape": (2,)}]


class WritesOtherRows(Found):
    def to_json(self, path):
        Path(path).write_text('{"kind": "other"}\n', encoding="utf-8")


class ShowsNothing(Found):
    def sections(self):
        return []


class WritesAnotherPage(Found):
    def to_html(self, path, **options):
        write_page(path, [fnn.Census(())])


WRONG = (EndsOtherwise, SaysMoreThanALine, HoldsNaN, HoldsATuple, WritesOtherRows, ShowsNothing)


@pytest.mark.parametrize("kind", [*WRONG, WritesAnotherPage])
def test_a_report_that_breaks_the_protocol_is_refused(kind, tmp_path):
    assert_keeps_the_protocol(Found(), tmp_path)
    with pytest.raises((AssertionError, ValueError)):
        assert_keeps_the_protocol(kind(), tmp_path)


def test_a_report_without_one_of_its_parts_is_none():
    class Silent(Report):
        def rows(self):
            return []

    with pytest.raises(TypeError, match="abstract"):
        Silent()  # pyright: ignore[reportAbstractUsage]


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path):
    name = "sine\ud800"
    odd = CheckReport(name, (dataclasses.replace(RESULTS[0], rule=name),), ("x",), 1)
    odd.to_html(tmp_path / "page.html", title=name, facts={"config": name})
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>sine\\ud800</h1>" in text
    assert "FAIL sine\\ud800 truth" in text
    odd.to_json(tmp_path / "rows.jsonl")
    last = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["target"] == name


def test_one_is_singular_in_every_report():
    assert COMPARISON.conclusion().startswith("FAILED: 1 leaf against")
    assert str(COMPARISON).startswith("1 hand-written rule: sine 1")
    one = dataclasses.replace(SCORE, fates=SCORE.fates[:1])
    assert "1 of 1 mutant killed" in one.conclusion()
    assert "1 equation is for other platforms" in one.conclusion()
    assert "1 of 2 mutants killed" in SCORE.conclusion()
    assert "of 1 rule killed" in MutationScores((SCORE,)).conclusion()
    assert "of 2 rules killed" in MutationScores((SCORE, SCORE)).conclusion()
