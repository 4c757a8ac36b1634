"""The table of faults: what it names is there, and nothing stands here that it does not name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (Path(__file__).parent / "README.md").read_text("utf-8")
NAMED = set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TABLE))


def defined_in(path):
    """The tests that a file defines."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f"{path}::{name}" for name in functions if name.startswith("test_")}


def test_every_test_that_the_table_names_is_there():
    assert len(NAMED) > 50
    there = {
        test for path in {test.partition("::")[0] for test in NAMED} for test in defined_in(path)
    }
    assert sorted(NAMED - there) == []


def test_every_test_of_a_fault_is_in_the_table():
    files = [str(p.relative_to(ROOT)) for p in Path(__file__).parent.glob("test_*.py")]
    here = {test for path in files for test in defined_in(path)} - defined_in(
        "tests/faults/test_table.py"
    )
    assert sorted(here - NAMED) == []


def test_every_fault_has_a_row():
    rows = re.findall(r"^\| F(\d+) \| [^|]+ \| ([^|]+) \|$", TABLE, re.MULTILINE)
    assert sorted({int(number) for number, _ in rows}) == list(range(1, 20))
    assert {number for number, proof in rows if "`" not in proof} == {"13", "16"}


def test_those_of_the_table_have_the_marker(request):
    here = request.session.items
    marked = {item.nodeid.partition("[")[0] for item in here if item.get_closest_marker("faults")}
    assert marked == {item.nodeid.partition("[")[0] for item in here} & NAMED
