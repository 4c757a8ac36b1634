"""The code of a rule as it stands beside its derivation: in lines that its column has room for."""

from __future__ import annotations

import inspect
import itertools
import re
import subprocess
import sys
import textwrap
from typing import Any

# In characters. `.lesson.rule` of _static/site.css gives them room, at a window of 1420 pixels too.
COLUMNS = 80


def listing(function: Any) -> str:
    """The source of a function without its docstring, which stands beside it, in short lines."""
    return narrow(without_docstring(function))


def without_docstring(function: Any) -> str:
    """The source of a function as it stands in its file, but for indentation and docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    if not function.__doc__:
        return source
    return re.sub(r"\n    r?\"\"\"(?:.|\n)*?\"\"\"\n+", "\n", source, count=1)


def narrow(source: str, columns: int = COLUMNS) -> str:
    """The same code, broken by the formatter of the house where a line is longer than `columns`.

    >>> print(narrow("y = f(alpha, beta)  # (N)", 16))
    y = f(
        alpha, beta
    )  # (N)
    >>> print(narrow("# A comment of\\n# two lines.", 12))
    # A comment
    # of two
    # lines.
    """
    if all(len(line) <= columns for line in source.splitlines()):
        return source
    options = ["format", "--isolated", "--line-length", str(columns), "-"]
    command = [sys.executable, "-m", "ruff", *options]
    broken = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    lines: list[str] = []
    for start, of_start in itertools.groupby(broken.stdout.splitlines(), _start_of_comment):
        block = list(of_start)
        if start and max(map(len, block)) > columns:
            text = " ".join(line.removeprefix(start) for line in block)
            block = textwrap.wrap(text, columns, initial_indent=start, subsequent_indent=start)
        lines += block
    return "\n".join(lines)


def _start_of_comment(line: str) -> str:
    """What a line begins with where it is a comment and nothing else, "    # "; else ""."""
    start = re.match(r" *# ", line)
    return start[0] if start else ""
