"""The docstrings of funcnn, which are plain text, taken apart into blocks."""

from __future__ import annotations

import dataclasses
import doctest
import io
import re
import sys
from typing import Any

# Words at the beginning of a line that begin a part of a derivation; they are shown in bold.
_LABELS = re.compile(
    r"(Shapes and arguments|Shapes|Derivation, kinks \(ties\) and NaN|Derivation|Value"
    r"|Kept for the backward pass|Earns its place|Source|Backward)(?=[ :,])"
)
_SECTIONS = re.compile(r"(Args|Returns|Yields|Raises|Attributes):$")
_ITEM = re.compile(r"([\w, .*()]+?): (.*)")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclasses.dataclass
class Block:
    """A part of a docstring.

    Attributes:
        kind: "text", "label" (text that begins with a label), "equations", "preformatted",
            "bullets", "items" (a section such as Raises) or "doctest".
        text: all of it, or the label, or the title of the section.
        lines: of equations; the bullets; the text after a label.
        items: (name, text) of a section; the name may be empty.
    """

    kind: str
    text: str = ""
    lines: list[str] = dataclasses.field(default_factory=list)
    items: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def paragraphs(documentation: str) -> list[list[str]]:
    """The lines of each paragraph of a docstring without its indentation."""
    return [part.split("\n") for part in re.split(r"\n\s*\n", documentation.strip("\n")) if part]


def blocks(documentation: str) -> list[Block]:
    """The parts of a docstring, as `inspect.getdoc` returns it.

    >>> [block.kind for block in blocks("A sum.\\n\\nDerivation: with r,\\n    y = r\\nis all.")]
    ['text', 'label', 'equations', 'text']
    """
    parts: list[Block] = []
    for lines in paragraphs(documentation):
        title = _SECTIONS.match(lines[0])
        if lines[0].startswith(">>>"):
            if parts and parts[-1].kind == "doctest":
                parts[-1].text += "\n\n" + "\n".join(lines)
            else:
                parts.append(Block("doctest", "\n".join(lines)))
        elif title:
            parts.append(Block("items", title[1], items=_items(lines[1:])))
        else:
            parts += _mixed(lines)
    return parts


def _items(lines: list[str]) -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for line in lines:
        item = _ITEM.fullmatch(line[4:]) if line[4:5].strip() else None
        if item:
            items.append((item[1], item[2]))
        elif items:
            name, text = items[-1]
            items[-1] = (name, f"{text} {line.strip()}".strip())
        else:
            items.append(("", line.strip()))
    return items


def _mixed(lines: list[str]) -> list[Block]:
    """Prose, equations and bullets of one paragraph."""
    parts: list[Block] = []
    for line in lines:
        last = parts[-1] if parts else Block("")
        label = _LABELS.match(line)
        if line.startswith("- "):
            if last.kind != "bullets":
                parts.append(Block("bullets"))
            parts[-1].lines.append(line[2:])
        elif line.startswith("  ") and last.kind == "bullets":
            last.lines[-1] += " " + line.strip()
        elif line.startswith("    "):
            if last.kind != "equations":
                parts.append(Block("equations"))
            parts[-1].lines.append(line[4:])
        elif label:
            parts.append(Block("label", label[1], [line[label.end() :].strip()]))
        elif last.kind == "label":
            last.lines[0] += " " + line.strip()
        elif last.kind == "text":
            last.text += " " + line.strip()
        else:
            parts.append(Block("text", line.strip()))
    return parts


def run_examples(text: str, names: dict[str, Any], where: str) -> str:
    """Run the examples of a docstring; what was wrong with them, or "" where all is well."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), where, None, 0)
    complaints = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    runner.run(test, out=complaints.write)
    return complaints.getvalue() if runner.failures else ""


def names_for(value: Any) -> dict[str, Any]:
    """The names that the examples of a public object of funcnn may use: those of its module."""
    module = sys.modules[getattr(value, "__module__", "funcnn")]
    names = dict(vars(module))
    if hasattr(value, "recursion"):  # a layer, whose examples may be those of its rule
        import jax.numpy as jnp

        import funcnn as fnn

        names |= {"jnp": jnp, **vars(fnn.rules)}
    return names
