"""Docstrings and objects of funcnn as document nodes: text, equations, examples, code."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import docstring
import prose
from docutils import nodes
from mathml import plain_equation
from plain_math import NotMath, block
from sphinx import addnodes

ROOT = Path(__file__).parents[2]


def python(source: str, language: str = "python") -> nodes.literal_block:
    """A listing."""
    listing = nodes.literal_block(source, source)
    listing["language"] = language
    return listing


def without_machine(text: str) -> str:
    """What a program printed, without where on this machine the repository lies."""
    return text.replace(f"{ROOT}/", "")


def output(text: str) -> nodes.literal_block:
    """What a program printed."""
    listing = python(without_machine(text), "text")
    listing["classes"].append("output")
    return listing


def container(*children: nodes.Node, classes: str) -> nodes.container:
    """A div of these classes."""
    node = nodes.container(classes=classes.split())
    node["is_div"] = True
    node += [child for child in children if child is not None]
    return node


def _code(text: str) -> nodes.Node:
    """A piece of code in a text; the name of a rule, or a public name, is a link to its page."""
    literal = nodes.literal(text, text)
    name = re.fullmatch(r"(?:fnn\.)?([\w.]+)", text)
    if name is None:
        return literal
    target = name[1].removeprefix("rules.")
    kind = "rule" if not text.startswith("fnn.") or "rules." in text else "api"
    reference = addnodes.pending_xref(
        "", refdomain="funcnn", reftype=kind, reftarget=target, refexplicit=True, refwarn=False
    )
    reference += literal
    return reference


def inline(text: str) -> list[nodes.Node]:
    """Prose with its code and its formulas."""
    children: list[nodes.Node] = []
    for kind, piece in prose.split(text):
        last = children[-1] if children else None
        if kind == "text":
            # No line may begin with the comma after a formula.
            mark = piece[0] if piece[0] in ".,;:)" and isinstance(last, plain_equation) else ""
            if mark and isinstance(last, plain_equation):
                last["tail"] = mark
            children += [nodes.Text(piece.removeprefix(mark))] if piece != mark else []
        elif kind == "code":
            children.append(_code(piece))
        else:
            children.append(plain_equation(mathml=piece, display="inline"))
    return children


def paragraph(text: str) -> nodes.paragraph:
    """A paragraph of prose."""
    return nodes.paragraph("", "", *inline(text))


def equations(lines: list[str]) -> nodes.Node:
    """Indented lines as equations, or as they are where they are none."""
    try:
        return plain_equation(mathml=block(lines), display="block")
    except NotMath:
        return python(textwrap.dedent("\n".join(lines)), "text")


def _definitions(block: docstring.Block) -> list[nodes.Node]:
    title = nodes.paragraph("", "", nodes.strong(block.text, block.text), classes=["label"])
    entries = nodes.definition_list(classes=["items"])
    for name, text in block.items:
        entry = nodes.definition_list_item()
        term = nodes.term("", "", nodes.literal(name, name) if name else nodes.Text(""))
        if name:
            entry += term
        else:
            return [title, paragraph(text)]
        entry += nodes.definition("", paragraph(text))
        entries += entry
    return [title, entries]


def _shown(block: docstring.Block) -> list[nodes.Node]:
    if block.kind == "text":
        return [paragraph(block.text)]
    if block.kind == "label":
        rest = block.lines[0]
        whole = nodes.paragraph("", "", nodes.strong(block.text, block.text))
        whole += nodes.Text("" if rest[:1] in ":," else " ")
        whole += inline(rest.lstrip())
        return [whole]
    if block.kind == "equations":
        return [equations(block.lines)]
    if block.kind == "bullets":
        items = [nodes.list_item("", paragraph(line)) for line in block.lines]
        return [nodes.bullet_list("", *items)]
    if block.kind == "items":
        return _definitions(block)
    return [container(python(block.text, "pycon"), classes="example")]


def documentation(text: str) -> list[nodes.Node]:
    """All of a docstring."""
    return [node for block in docstring.blocks(text) for node in _shown(block)]


def signature(name: str, value: Any) -> str:
    """`name(arguments)` without annotations, broken where it is long.

    >>> signature("f", lambda x, *, scale=1.0: x)
    'f(x, *, scale=1.0)'
    """
    try:
        given = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in given.parameters.values()]
    whole = name + str(given.replace(parameters=bare, return_annotation=given.empty))
    if len(whole) <= 76:
        return whole
    parts = re.split(r", (?![^(\[]*[)\]])", whole[len(name) + 1 : -1])
    lines = textwrap.wrap(", ".join(part.replace(" ", "\0") for part in parts), 76)
    arguments = "".join(f"    {line}\n" for line in lines).replace("\0", " ")
    return f"{name}(\n{arguments})"


def section(title: str, name: str, *children: nodes.Node) -> nodes.section:
    """A section with a target."""
    node = nodes.section(ids=[name])
    node += nodes.title("", "", nodes.literal(title, title))
    node += children
    return node


def _cell(text: str) -> list[nodes.Node]:
    """Words and code; H200 is no formula here."""
    parts = text.split("`")
    return [_code(part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part]


def table(head: list[str], rows: list[list[Any]], widths: list[int] | None = None) -> nodes.Node:
    """A table; a cell is a text or a list of nodes."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=width) for width in widths or [1] * len(head)]

    def line(cells: list[Any]) -> nodes.row:
        return nodes.row(
            "",
            *(
                nodes.entry("", nodes.paragraph("", "", *_cell(cell)))
                if isinstance(cell, str)
                else nodes.entry("", nodes.paragraph("", "", *cell))
                for cell in cells
            ),
        )

    group += nodes.thead("", line(head))
    group += nodes.tbody("", *map(line, rows))
    return nodes.table("", group)
