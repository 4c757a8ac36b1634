"""How gradient checkers compare: the table of the page is that of the results, and these hold."""

import importlib
import json
import sys
from pathlib import Path

import jax
import pytest
from catalogue_public import PUBLIC
from catalogue_right import RIGHT
from catalogue_wrong import WRONG

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
checkers = importlib.import_module("checkers")
tools = importlib.import_module("checker_tools")
VERSIONS, ROWS = checkers.read()
SAID = {(row["set"], row["rule"]): row["said"] for row in ROWS}


def words(of, tool):
    return {name: said[tool][0] for (kind, name), said in SAID.items() if kind == of}


def test_the_results_are_those_of_the_catalogues():
    """A rule that is added to a catalogue is run by `python benchmarks/checkers.py`."""
    assert set(words("wrong", "check_grads")) == set(WRONG)
    assert set(words("right", "fnn.check full")) == set(RIGHT)
    assert set(words("public", "fnn.check fast")) == {n for n, p in PUBLIC.items() if not p.says}
    kinds = {row["rule"]: row["kind"] for row in ROWS if row["set"] == "wrong"}
    assert kinds == {name: checkers.kind_of(name, wrong.checks) for name, wrong in WRONG.items()}


def test_every_name_in_the_lists_of_kinds_is_a_rule():
    named = (*checkers.SOMEWHERE, *checkers.OF_THE_COTANGENT, *checkers.SMALL, *checkers.SETTINGS)
    assert set(named) <= set(WRONG)
    assert len(set(named)) == len(named)
    for marks in checkers.JULIA.values():
        assert set(marks) == set(checkers.KINDS)


def test_check_finds_them_all_and_complains_of_no_right_one():
    found = words("wrong", "fnn.check full")
    noted = {name for name, word in found.items() if word == "note"}
    assert noted == {
        "mean: right on the sample's shape only",
        "matmul: precision of the context lost",
    }
    assert {word for name, word in found.items() if name not in noted} == {"found"}
    for tool in ("fnn.check fast", "fnn.check full"):
        assert set(words("right", tool).values()) <= {"quiet", "note"}
    assert set(words("public", "fnn.check fast").values()) == {"quiet"}


def test_the_page_shows_the_table_of_the_results():
    page = (ROOT / "docs/right.md").read_text("utf-8")
    shown = page.partition(checkers.BEGIN)[2].partition(checkers.END)[0]
    assert shown.strip() == checkers.table(VERSIONS, ROWS)
    total = f"| **found** | {len(WRONG)} |"
    assert total in shown


def judged(name, by):
    row = {"set": "wrong", "rule": name}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        made = checkers.judged(row, lambda: tools.subject(WRONG[name].make()), by, {})
    return {tool: word for tool, (word, _) in made["said"].items()}


SAMPLE = {
    "matmul: sign": "found",
    "layer_norm: eps forgotten": "missed",
    "linear: bias times -3": "of the right one, too",
}


@pytest.mark.parametrize("name", SAMPLE)
def test_check_grads_says_now_what_the_results_say(name):
    said = judged(name, {"check_grads": tools.TOOLS["check_grads"]})["check_grads"]
    assert said == SAMPLE[name] == words("wrong", "check_grads")[name]


# The counting itself


def test_a_tool_that_complains_of_everything_finds_nothing():
    loud = {"loud": lambda subject: tools.Said("complains", "AssertionError: no")}
    assert judged("matmul: sign", loud) == {"loud": "of the right one, too"}
    silent = {"silent": lambda subject: tools.QUIET}
    assert judged("matmul: sign", silent) == {"silent": "missed"}


def test_the_right_twin_has_the_derivative_of_jax():
    wrong = tools.subject(WRONG["matmul: sign"].make())
    right = tools.twin(wrong)

    def slope(subject):
        return jax.grad(lambda a, b: subject.f(a, b).sum())(*subject.args)

    by_jax = jax.grad(lambda a, b: (a @ b).sum())(*wrong.args)
    assert (slope(right) == by_jax).all()
    assert (slope(wrong) == -by_jax).all()


def test_what_counts_in_the_table():
    rows = [json.loads(json.dumps(row)) for row in ROWS]
    first = next(r for r in rows if r["set"] == "wrong" and r["said"]["gradcheck"][0] == "found")
    first["said"]["gradcheck"][0] = "missed"
    before, after = (checkers.table(VERSIONS, r).splitlines() for r in (ROWS, rows))
    # Its kind, and the sum.
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2
