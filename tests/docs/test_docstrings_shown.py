"""Docstrings are taken apart into blocks, and their examples run."""

import doctest

import docstring
import listing
import measured
import plain_math
import prose
import pytest

TEXT = """A rule, y = 2 x.

Shapes: x, y (...).

Derivation: with r = 2,
    dx = r dy,
so that nothing is kept. Options are
- one, which
  goes on;
- two.
Kept for the backward pass: nothing.

Raises:
    TypeError: x is not
        floating point.
    ValueError: another.

Returns:
    the `value`, of one
    kind: or another.

>>> 1 + 1
2

>>> 2 + 2
4
"""


def test_blocks():
    found = docstring.blocks(TEXT)
    kinds = "text label label equations text bullets label items items doctest"
    assert [block.kind for block in found] == kinds.split()
    assert found[2].text == "Derivation"
    assert found[2].lines == [": with r = 2,"]
    assert found[3].lines == ["dx = r dy,"]
    assert found[5].lines == ["one, which goes on;", "two."]
    assert found[6].text == "Kept for the backward pass"
    assert found[7].items == [("TypeError", "x is not floating point."), ("ValueError", "another.")]
    assert found[9].text == ">>> 1 + 1\n2\n\n>>> 2 + 2\n4"


def test_right_examples_say_nothing():
    assert docstring.run_examples(TEXT, {}, "here") == ""


def test_a_wrong_example_is_told():
    complaints = docstring.run_examples(">>> 1 + 1\n3", {}, "here")
    assert "Failed example" in complaints
    assert "Got:\n    2" in complaints


def test_an_example_may_not_change_the_names_of_its_module():
    names = {"x": 1}
    assert docstring.run_examples(">>> x = 2", names, "here") == ""
    assert names == {"x": 1}


@pytest.mark.parametrize("module", [docstring, listing, measured, plain_math, prose])
def test_the_extensions_have_examples_that_run(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert found.failed == 0
