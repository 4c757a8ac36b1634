"""Every formula of the lecture is verified by its step: none is left out, and none is invented.

The scripts are read, not run (test_steps.py runs them).
"""

import ast
from pathlib import Path

import pytest
from formulas import FORMULAS, of_step

LECTURE = Path(__file__).parents[2] / "examples" / "lecture"
NUMBERS = [formula.number for formula in FORMULAS]
STEPS = list(dict.fromkeys(sorted(formula.step for formula in FORMULAS)))
METHODS = ("equal", "holds", "measured")


def number_of(node):
    """The formula's number in a call such as verification.equal("F14", ...), else None."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
        return None
    called = isinstance(node.func.value, ast.Name) and node.func.value.id == "verification"
    first = node.args[0]
    if called and node.func.attr in METHODS and isinstance(first, ast.Constant):
        return first.value
    return None


def verified_numbers(source):
    return {number_of(node) for node in ast.walk(ast.parse(source))} - {None}


def left_out(step, source):
    """Numbers of a step's formulas for which its source has no call that verifies them."""
    found = verified_numbers(source)
    return [formula.number for formula in of_step(step) if formula.number not in found]


def source_of(script):
    path = LECTURE / f"{script}.py"
    assert path.exists(), f"{path.name} is missing"
    return path.read_text()


def without(number, source):
    """The source with every statement that verifies this number taken out."""

    class Without(ast.NodeTransformer):
        def visit_Expr(self, node):
            return None if number_of(node.value) == number else self.generic_visit(node)

        def visit_Assign(self, node):
            return ast.Pass() if number_of(node.value) == number else self.generic_visit(node)

    tree = Without().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


def test_the_table_of_formulas_is_numbered_without_gaps():
    assert [f"F{i}" for i in range(1, len(FORMULAS) + 1)] == NUMBERS
    assert len(NUMBERS) == 67
    assert STEPS[0] == "step_01_regression"
    assert STEPS[-1] == "step_11_relu"
    assert len(STEPS) == 11
    assert all(formula.slide and formula.printed for formula in FORMULAS)


@pytest.mark.parametrize("step", STEPS)
def test_every_formula_is_verified_by_its_step(step):
    source = source_of(step)
    assert left_out(step, source) == []
    assert verified_numbers(source) <= set(NUMBERS)


@pytest.mark.parametrize("script", [*STEPS, "errata"])
def test_a_script_reports_at_its_end(script):
    """The last statement is the report: what came after it would not be verified."""
    *_, last = ast.parse(source_of(script)).body
    assert ast.unparse(last) == "verification.report()"


@pytest.mark.parametrize("step", STEPS)
def test_a_formula_that_is_left_out_is_reported(step):
    number = of_step(step)[-1].number
    source = without(number, source_of(step))
    assert left_out(step, source) == [number]


def test_only_calls_count():
    source = '''"""F1 in words."""
# verification.equal("F1", "in a comment", 1, 1, "")
verification.measured(text, "F1", "as an argument")
verification.report("F1")
other.equal("F1", "of something else", 1, 1, "")
equal("F1", "of nobody", 1, 1, "")
verification.holds("F2", "a real call", True)
'''
    assert left_out("step_01_regression", source) == ["F1"]


def slip_numbers(source):
    """The formulas that errata's calls slip(*("F5", ...), ...) name, one for each call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "slip":
            first = node.args[0]
            assert isinstance(first, ast.Starred)
            yield ast.literal_eval(first.value)[0]


def test_errata_finds_many_slips_in_known_formulas():
    numbers = list(slip_numbers(source_of("errata")))
    assert len(numbers) >= 16
    assert set(numbers) <= set(NUMBERS)


# Formulas printed wrongly or incompletely, as the table of formulas quotes them.
SLIPS = [5, 6, *range(26, 32), 34, 35, 44, 50, 51, 52, 55, 57, *range(59, 63), 64]


@pytest.mark.parametrize("number", [f"F{i}" for i in SLIPS])
def test_no_known_slip_is_left_out(number):
    assert number in set(slip_numbers(source_of("errata")))
