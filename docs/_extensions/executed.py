"""Code that is executed while the site is built: `executed` (Python) and `command` (funcnn ...).

The blocks of one page share their names. A block that raises is a warning, and so fails the build.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import traceback
from pathlib import Path
from typing import Any

import shown
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]


def first_block(path: Path) -> str:
    """The first Python block of a Markdown file."""
    example = re.search(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    if example is None:
        raise ValueError(f"no Python block in {path}")
    return example[1]


def run(source: str, names: dict[str, Any], where: str) -> tuple[str, str]:
    """(what was printed, the traceback or "")."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(source, where, "exec"), names)
        except Exception:
            return printed.getvalue(), traceback.format_exc()
    return printed.getvalue(), ""


class Executed(SphinxDirective):
    """A block of Python, or with `:from:` the first one of a Markdown file; its output follows."""

    has_content = True
    option_spec = {"from": directives.unchanged}  # noqa: RUF012, docutils' own style

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        if "from" in self.options:
            path = ROOT / self.options["from"]
            self.env.note_dependency(str(path))
            source = first_block(path)
        names = self.env.current_document.setdefault("executed", {"__name__": "__main__"})
        printed, wrong = run(source, names, f"<{self.env.docname}>")
        if wrong:
            logger.warning("the code raised:\n%s", wrong, location=self.get_location())
        listing = [shown.python(source.rstrip())]
        return [*listing, *([shown.output(printed.rstrip())] if printed.strip() else [])]


class Command(SphinxDirective):
    """A command of funcnn's; what it prints follows."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        from funcnn.cli import main

        given = shlex.split(self.arguments[0])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            try:
                code = main(given[1:])
            except SystemExit as error:
                code = error.code
        if code:
            logger.warning(
                "%s: exit code %s\n%s",
                self.arguments[0],
                code,
                printed.getvalue(),
                location=self.get_location(),
            )
        listing = shown.python(f"$ {self.arguments[0]}", "console")
        return [listing, shown.output(printed.getvalue().rstrip())]


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("executed", Executed)
    app.add_directive("command", Command)
    return {"version": "1", "parallel_read_safe": False}
