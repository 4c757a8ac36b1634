"""The exercises of the lecture: each mistake is found, and each solution is right."""

import re
from pathlib import Path

import jax
import pytest

import funcnn as fnn

PAGE = Path(__file__).parents[2] / "docs" / "lecture" / "exercises.md"
WRONG_LEAVES = {
    "dense": {"argument_2"},
    "tanh": {"argument_0"},
    "linear": {"argument_0"},
    "relu": {"argument_0"},
    "softmax": {"argument_0"},
    "convolve": {"argument_0"},
    "centred": {"argument_0"},
    "recurrent": {"argument_0", "argument_1", "argument_2"},
}


@pytest.fixture(autouse=True)
def as_for_everybody(strict_jax):
    """A reader's JAX adds a row to each row of a matrix."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def page():
    """The names that the page's blocks leave, those that print left out."""
    names = {"__name__": "exercises"}
    for block in re.findall(r"```\{executed\}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(block.split("for name, (f, arguments)")[0].split("print(")[0], names)
    return names


def test_each_exercise_is_known_here(page):
    assert set(page["exercises"]) == {*WRONG_LEAVES, "log_sigmoid"}
    assert set(page["solutions"]) == set(WRONG_LEAVES)


@pytest.mark.parametrize("name", WRONG_LEAVES)
def test_a_planted_mistake_is_found_and_its_solution_is_right(page, name):
    f, arguments = page["exercises"][name]
    rows = fnn.check(f, *arguments).rows()
    wrong = [row for row in rows if row.get("verdict") == "fail" and row["check"] == "truth"]
    assert {row["leaf"] for row in wrong} == WRONG_LEAVES[name]
    assert fnn.check(page["solutions"][name], *arguments).ok


def test_what_only_looks_wrong_is_right(page):
    f, arguments = page["exercises"]["log_sigmoid"]
    assert fnn.check(f, *arguments).ok
