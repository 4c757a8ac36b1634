"""What the tools find reaches the page: nothing that failed is lost, nothing is made up."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import funcnn as fnn
from funcnn.gradient.check import LEVELS
from funcnn.gradient.comparison.training import Curve, TrainingComparison
from funcnn.gradient.mutation.score import Fate, Mutant, MutationScore, MutationScores
from funcnn.gradient.program.sites import Site
from funcnn.gradient.verdict.reports import CheckReports
from funcnn.gradient.verdict.results import CheckReport, Result
from funcnn.report import write_page

SCHEMA = Path(fnn.__file__).parent.parent / "docs/schema.md"


def report(target, *verdicts, check="truth", leaves=("x",), laws=()):
    results = tuple(
        Result(target, check, f"case {i}", "x", verdict, f"{verdict} <{i}>", dtype="float32")
        for i, verdict in enumerate(verdicts)
    )
    return CheckReport(target, results, leaves, 1, laws=laws)


@pytest.fixture
def page(tmp_path):
    def write(*reports, **options):
        write_page(tmp_path / "page.html", reports, **options)
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return write


def test_the_conclusion_counts_the_reports(page):
    right, wrong = report("a", "pass", "skip"), report("b", "pass", "fail", "inconclusive")
    text = page(CheckReports((right, wrong)))
    assert "FAILED: 1 of 2 is right; 2 comparisons passed, 1 failed, 1 inconclusive" in text
    assert "FAIL b truth: leaf x case case 1 float32: fail &lt;1&gt;" in text
    assert "OK: 1 of 1 is right" in page(CheckReports((right,)))


def test_every_failure_stands_on_the_page_once(page):
    text = page(CheckReports((report("a", *5 * ["fail"]), report("b", "note"))))
    assert re.findall("FAIL a truth: leaf x case case (.)", text) == list("01234")
    assert "<summary>2 more failures</summary>" in text
    assert "NOTE b" not in text  # those have a section of their own
    assert "note &lt;0&gt;" in text


def test_a_report_that_compared_nothing_is_a_failure(page):
    text = page(CheckReports((report("a", "skip"),)))
    assert "FAILED: 0 of 1 are right" in text
    assert "NOT COMPARED a: leaf x" in text


def test_laws_share_a_column(page):
    names = "sum dx = sum dy", "f(2x) = 2x"
    laws = [report(n, v, check=n, laws=names) for n, v in zip(names, ("pass", "fail"), strict=True)]
    text = page(CheckReports((*laws, report("c", "pass", check="no_law"))))
    assert re.findall("<th><span>([^<]*)", text) == ["laws", "no law"]
    assert "f(2x) = 2x: fail &lt;0&gt;" in text


def test_every_check_has_its_column_and_the_declared_laws_one(page):
    found = fnn.check(fnn.rules.softmax)
    columns = re.findall("<th><span>([^<]*)", page(CheckReports((found,))))
    checks = {r.check.replace("_", " ") for r in found.results if r.check not in found.laws}
    assert found.laws
    assert set(columns) == {*checks, "laws"}
    assert len(checks) >= len(LEVELS["fast"]) - 2  # alone and as_given are for functions


def test_rows_of_reports_are_json():
    rows = CheckReports((report("a", "pass", "fail"), report("b", "pass"))).rows()
    assert [row["kind"] for row in rows] == ["result", "result", "report", "result", "report"]
    assert [row["ok"] for row in rows if row["kind"] == "report"] == [False, True]
    assert json.loads(json.dumps(rows)) == rows


def test_a_comparison_with_a_wrong_rule(page):
    tanh = fnn.rules.tanh
    wrong = tanh.replace(backward=lambda res, dy: (1.001 * tanh.backward(res, dy)[0],))

    def loss(params, x):
        return jnp.sum(wrong(fnn.rules.linear(x, params["w"])))

    w, x = jax.random.normal(jax.random.key(0), (3, 2)), jnp.ones((4, 3))
    comparison = fnn.compare(loss, {"w": w}, x, pairs=0)
    text = page(comparison)
    assert "FAILED: 1 leaf against float64 truth: 1 WRONG" in text
    assert "manual = 1.001 x truth" in text
    for title in ("Errors in ulps", "Errors by site", "Memory, work and time"):
        assert f"<h2>{title}</h2>" in text
    assert re.search(r"<td>tanh</td>.*<td>WRONG</td>", text)
    assert "residuals kept for the backward pass" in text
    assert "time of a gradient" not in text  # it was not measured


def test_the_note_of_a_wrong_rule_is_not_lost_behind_a_right_place_of_it(page):
    def cube(x):
        return x**3

    cube = jax.custom_vjp(cube)  # right for few numbers, wrong for many
    cube.defvjp(lambda x: (x**3, x), lambda x, dy: (dy * x**2 * (3 if len(x) < 3 else 2),))
    census = fnn.census(lambda x: cube(cube(x)[:2]), jnp.arange(1.0, 5.0))
    assert [row.verdict for row in census.rules] == ["WRONG", "TIE"]
    assert census.rules[0].note
    assert census.rules[0].note in page(census)


def test_training_curves_are_those_of_the_arms(page):
    losses = (3.0, 2.0, 1.0)
    names = {"automatic": 0.0, "manual": 1e-7, "control": 2e-7}
    arms = tuple(Curve(n, losses, (d,) * 3, {"w": d}) for n, d in names.items())
    text = page(TrainingComparison(arms, (Site((0,), "linear", "", "custom_vjp", ""),)))
    assert "<p class=head>OK: 3 steps</p>" in text
    assert text.count("<polyline") == 3 + 3 + 2 + 2  # the automatic arm is at no distance
    assert ">control<" in text


def test_scores_and_their_sum(page):
    mutant = Mutant("times -1", "mul", "loss.py:52")
    killed, survived = Fate(mutant, "killed", "truth"), Fate(mutant, "survived", "off by 1e-14")
    scores = (
        MutationScore("a", (killed, killed, survived), {mutant: 1e-9}),
        MutationScore("b", (killed,), {mutant: math.inf}),
    )
    text = page(MutationScores(scores))
    assert "3 of 4 mutants of 2 rules killed (75.0 %)" in text
    assert "66.7 %" in text
    assert "not finite" in text
    assert "a: survived" in text


# docs/schema.md names each kind of line, and each of its keys.
def test_the_schema_is_documented():
    linear = fnn.rules.linear
    comparison = fnn.compare(lambda w, x: linear(x, w).sum(), jnp.ones((2, 3)), jnp.ones((1, 2)))
    arms = tuple(Curve(name, (1.0,), (0.0,), {"w": 0.0}) for name in ("a", "b", "c"))
    census = fnn.census(lambda x: jnp.sum(fnn.rules.tanh(x)), jnp.ones(3))
    reports = (
        *(report("a", "pass"), comparison, census),
        *(TrainingComparison(arms, ()), MutationScore("a", (), {})),
    )
    rows = [row for each in reports for row in each.rows()]
    documented = set(re.findall(r"`(\w+)`", SCHEMA.read_text(encoding="utf-8")))
    kinds = {"result", "report", "leaf", "site", "arm", "program", "step", "mutation"}
    kinds |= {"rule", "census"}
    assert {row["kind"] for row in rows} == kinds
    assert {*kinds, *(key for row in rows for key in row)} <= documented


def test_a_page_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to show"):
        write_page(tmp_path / "page.html", [])
    assert not list(tmp_path.iterdir())


def test_the_page_says_how_it_was_made(page):
    text = page(report("a", "pass"), facts={"level": "full", "seed": "3"})
    assert f"jax {jax.__version__}" in text
    assert "level full, seed 3." in text


def test_a_page_shows_notes(page):
    """A right product has one at the level full, of matmul precision."""
    made = jax.custom_vjp(lambda x, w: x @ w)
    made.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, dy: (dy @ r[1].T, r[0].T @ dy))
    found = fnn.check(made, jnp.ones((3, 4)), jnp.ones((4, 2)), level="full")
    assert found.ok
    assert found.notes
    assert "matmul precision" in page(found)
