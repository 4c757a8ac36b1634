"""Lines of user code of each port: those that hold code, not blank, comment or docstring.

A statement over two lines counts twice, and so does each line of a string that is no docstring.
funcnn's side of a task is funcnn.toml and with_funcnn.py, as far as they are there. Helpers that
all sides share, which make the table and the weights, are not counted.

python examples/ports/count_lines.py
"""

from __future__ import annotations

import ast
import io
import tokenize
import tomllib
from pathlib import Path

HOME = Path(__file__).parent
TASKS = ("resnet", "text", "vae", "table", "physics", "fine_tuning")
SIDES = {
    "funcnn": ("funcnn.toml", "with_funcnn.py"),
    "Flax NNX": ("flax_nnx.py",),
    "PyTorch": ("pytorch.py",),
}
# Tokens that make no line one of code.
LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def docstring_lines(source: str) -> set[int]:
    """The numbers of the lines on which the docstrings of a module stand, from 1.

    >>> sorted(docstring_lines('def f():\\n    "One\\\\\\n    line."\\n    return "x"\\n'))
    [2, 3]
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        )
        if documented and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            found |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def python_lines(source: str) -> int:
    """How many lines of a Python program hold code.

    Raises:
        SyntaxError: the source is no Python.

    >>> python_lines('"A docstring."\\n\\n# A comment.\\nx = [\\n    1]  # two lines\\n')
    2
    """
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstring_lines(source))


def toml_lines(source: str) -> int:
    """How many lines of a TOML file are neither blank nor a comment.

    A line within a string of several lines counts by how it looks, too.

    Raises:
        tomllib.TOMLDecodeError: the source is no TOML.

    >>> toml_lines('# A comment.\\n[data]\\nname = "digits"  # a name\\n\\n')
    2
    """
    tomllib.loads(source)
    lines = (line.strip() for line in source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def count(path: Path) -> int:
    """The lines of code of a file, by the end of its name: .toml, or else Python."""
    source = path.read_text(encoding="utf-8")
    return toml_lines(source) if path.suffix == ".toml" else python_lines(source)


def counted(task: str, side: str) -> int | None:
    """The lines of one side of a task, or None where it has no file.

    >>> counted("vae", "a side that is not there")
    Traceback (most recent call last):
    KeyError: 'a side that is not there'
    """
    files = [HOME / task / name for name in SIDES[side] if (HOME / task / name).exists()]
    return sum(map(count, files)) if files else None


def table() -> str:
    """A row for each task, a column for each side; a dash where a side is not there."""
    rows = [["task", *SIDES]]
    for task in TASKS:
        numbers = [counted(task, side) for side in SIDES]
        rows.append([task, *("-" if n is None else str(n) for n in numbers)])
    return "\n".join(f"{row[0]:12s}" + "".join(f"{cell:>10s}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    print(table())
