"""The lecture's pages: sphinx-gallery executes the scripts; here they are set in columns.

In each section words and equations stand beside the code that computes them, with what it prints,
and the picture below the words: `lesson` > `words`, `code`, `picture`. On a phone it is one column
in the order of the script. `formula-table` lists every formula with its step and its test.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import shown
from docutils import nodes
from docutils.transforms import Transform
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "lecture"
TESTS = ROOT / "tests" / "lecture"
PAGES = "lecture/steps/"  # where sphinx-gallery writes
GALLERIES = (PAGES, "attention/steps/")
HELPERS = ("drawing", "verified", "formulas", "the_lecture")


def arguments(gallery_conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """The command line of a script: its own copies of the figures go into the build folder."""
    return ["--out", str(ROOT / "build" / "lecture_figures")]


def fresh(gallery_conf: dict[str, Any], name: str) -> None:
    """Before and after each script: JAX as it is at the start, and the helpers imported anew."""
    import jax

    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_disable_most_optimizations", False)
    for helper in HELPERS:
        sys.modules.pop(helper, None)


def _is_picture(node: nodes.Node) -> bool:
    return type(node).__name__ == "imgsgnode" or isinstance(node, (nodes.image, nodes.figure))


def _side(node: nodes.Node) -> str:
    """The column in which a node belongs."""
    if _is_picture(node):
        return "picture"
    if isinstance(node, nodes.literal_block):
        return "code"
    if isinstance(node, nodes.container) and node.children:
        return _side(node.children[0])
    if isinstance(node, nodes.comment):
        return "comment"
    return "words"


def lessons(children: list[nodes.Node]) -> list[nodes.container]:
    """Rows of words, code and pictures: words after code begin a new row.

    >>> code, words = nodes.literal_block("", "1 + 1"), nodes.paragraph("", "A sum.")
    >>> [row["classes"] for row in lessons([words, code, nodes.paragraph("", "The end.")])]
    [['lesson'], ['lesson', 'no-code']]
    """
    rows: list[dict[str, list[nodes.Node]]] = []
    for node in children:
        side = _side(node)
        if side == "comment":
            continue
        if not rows or (side == "words" and (rows[-1]["code"] or rows[-1]["picture"])):
            rows.append({"words": [], "code": [], "picture": []})
        rows[-1][side].append(node)
    blocks = []
    for row in rows:
        classes = ["lesson", *(f"no-{side}" for side in ("words", "code") if not row[side])]
        parts = [shown.container(*row[side], classes=side) for side in row if row[side]]
        blocks.append(shown.container(*parts, classes=" ".join(classes)))
    return blocks


def without_figure_lines(text: str) -> str:
    """What a script printed, without where it has written the figures that are shown beside it.

    >>> without_figure_lines("h = 0.1\\nfigure: a/b.png, a/b.svg")
    'h = 0.1'
    """
    return "\n".join(line for line in text.split("\n") if not line.startswith("figure: ")).strip(
        "\n"
    )


def _clean_outputs(document: Any) -> None:
    for listing in list(document.findall(nodes.literal_block)):
        if "sphx-glr-script-out" in listing["classes"]:
            text = shown.without_machine(without_figure_lines(listing.astext()))
            if text:
                listing.children = []
                listing.rawsource = text
                listing += nodes.Text(text)
            else:
                listing.parent.remove(listing)


def _set_section(section: nodes.Element) -> None:
    run: list[nodes.Node] = []
    arranged: list[nodes.Node] = []
    for child in list(section.children):
        if isinstance(child, (nodes.title, nodes.section, nodes.target)):
            arranged += [*lessons(run), child]
            run = []
        else:
            run.append(child)
        if isinstance(child, nodes.section):
            _set_section(child)
    section.children = []
    section.extend([*arranged, *lessons(run)])


class Columns(Transform):
    """Sets the pages that sphinx-gallery has made in columns, without its own remarks."""

    default_priority = 850

    def apply(self, **kwargs: Any) -> None:
        env = self.document.settings.env
        if not env.docname.startswith(GALLERIES):
            return
        env.metadata[env.docname]["hide-toc"] = "true"
        for node in list(self.document.findall(nodes.Element)):
            classes = node.get("classes", ())
            if any(c.startswith(("sphx-glr-download-link", "sphx-glr-timing")) for c in classes):
                node.parent.remove(node)
        _clean_outputs(self.document)
        for only in list(self.document.findall(lambda n: type(n).__name__ == "only")):
            only.parent.remove(only)
        for section in [n for n in self.document.children if isinstance(n, nodes.section)]:
            _set_section(section)


@functools.cache
def _formulas() -> Any:
    spec = importlib.util.spec_from_file_location("lecture_formulas", SCRIPTS / "formulas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lecture_formulas"] = module
    spec.loader.exec_module(module)
    return module


def _said(node: ast.expr) -> str:
    """A text of a script; what it fills in only when it runs is an ellipsis."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_said(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def verified_in(source: str) -> dict[str, list[tuple[int, str]]]:
    """Formula number -> (line, what) of the calls of a Verification in a script.

    >>> verified_in('verification.equal("F14", "dy/dW", a, b, "jax.grad")')
    {'F14': [(1, 'dy/dW')]}
    """
    calls_of: dict[str, list[tuple[int, str]]] = {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("equal", "holds", "measured") or len(node.args) < 2:
            continue
        number, what = node.args[:2]
        if isinstance(number, ast.Constant) and isinstance(number.value, str):
            calls_of.setdefault(number.value, []).append((node.lineno, _said(what)))
    return {number: sorted(calls) for number, calls in calls_of.items()}


def problems(formulas: Any, sources: dict[str, str]) -> list[str]:
    """The formulas whose step is missing or does not mention their number.

    >>> class F: number, step = "F1", "step_01"
    >>> problems([F], {}), problems([F], {"step_01": 'v.holds("F1", "so", True)'})
    (['F1: its step step_01 is missing'], [])
    """
    missing = []
    for formula in formulas:
        if formula.step not in sources:
            missing.append(f"{formula.number}: its step {formula.step} is missing")
        elif not re.search(rf"\b{formula.number}\b", sources[formula.step]):
            missing.append(f"{formula.number}: its step {formula.step} does not mention it")
    return missing


def printed(text: str) -> list[nodes.Node]:
    """A formula as printed: words, and TeX between dollars."""
    parts = re.split(r"\$([^$]+)\$", text)
    return [nodes.math("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


class FormulaTable(SphinxDirective):
    """Every formula of the lecture, the step that verifies it and the test that runs it."""

    def run(self) -> list[nodes.Node]:
        formulas = _formulas().FORMULAS
        sources = {p.stem: p.read_text("utf-8") for p in SCRIPTS.glob("*.py")}
        for path in SCRIPTS.glob("*.py"):
            self.env.note_dependency(str(path))
        for problem in problems(formulas, sources):
            logger.warning("%s", problem, location=self.get_location())
        rows, slide = [], ""
        for formula in formulas:
            if formula.slide != slide:
                slide = formula.slide
                rows.append([[nodes.strong(slide, slide)], "", "", ""])
            rows.append(
                [
                    [nodes.Text(formula.number)],
                    printed(formula.printed),
                    self.step(formula, sources),
                    self.test(formula),
                ]
            )
        head = [
            "number",
            "the lecture's formula, as printed",
            "code: step and line",
            "test, in tests/lecture/",
        ]
        table = shown.table(head, rows, [1, 6, 4, 4])
        for row in table.findall(nodes.row):
            if len(row) == 4 and row[0].astext() == row.astext().strip():
                row[0]["morecols"] = 3
                del row[1:]
        return [shown.container(table, classes="wide formulas spread")]

    def step(self, formula: Any, sources: dict[str, str]) -> list[nodes.Node]:
        if formula.step not in sources:
            return [nodes.Text("missing")]
        calls = verified_in(sources[formula.step]).get(formula.number, [])
        line = f", line {calls[0][0]}" if calls else ""
        link = addnodes.pending_xref(
            "",
            nodes.literal(formula.step, formula.step),
            refdomain="std",
            reftype="doc",
            reftarget=f"/{PAGES}{formula.step}",
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )
        more = f": {calls[0][1]}" if calls else ""
        return [link, nodes.Text(line + more)]

    def test(self, formula: Any) -> list[nodes.Node]:
        """The tests that run the step and look for the number: each reads formulas.py."""
        names = tests_of_steps(TESTS)
        if not names:
            logger.warning("%s: no test verifies it", formula.number, location=self.get_location())
        line = "; ".join(f"{name}, case {formula.step.removeprefix('step_')[:2]}" for name in names)
        return [nodes.Text(line)]


def tests_of_steps(folder: Path) -> list[str]:
    """The test files that take every formula and its step from formulas.py."""
    return [
        path.name
        for path in sorted(folder.glob("test_*.py"))
        if "of_step" in path.read_text("utf-8")
    ]


def setup(app: Any) -> dict[str, Any]:
    app.add_transform(Columns)
    app.add_directive("formula-table", FormulaTable)
    return {"version": "1", "parallel_read_safe": True}
