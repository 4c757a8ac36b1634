"""Equations as MathML, which browsers render themselves: no script, nothing to fetch.

LaTeX (`.. math::`, `:math:`, $...$) is converted by latex2mathml; what it does not know is a
warning, and so fails the build. Equations of docstrings come as MathML already (`plain_equation`).
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)

# latex2mathml gives a script after a matrix to its last bracket alone.
_MATRIX = re.compile(r"(\\begin\{(\w*matrix)\}.*?\\end\{\2\})(?=\s*[\^_])", re.DOTALL)
# A prime is raised by itself in most fonts; as a superscript it would be so twice.
_PRIME = re.compile(r"<msup>(<m[io]>[^<]*</m[io]>)<m[io]>((?:&#x0?2032;|′)+)</m[io]></msup>")


class plain_equation(nodes.General, nodes.Element):
    """MathML that is written as it is; `mathml` holds it, `display` says how."""


def to_mathml(latex: str, display: str) -> str:
    r"""MathML of LaTeX; ValueError where a command is unknown or does not parse.

    >>> to_mathml(r"\nonsense", "inline")
    Traceback (most recent call last):
    ValueError: unknown to latex2mathml: \nonsense
    """
    source = latex.strip()
    if len(re.findall(r"(?<!\\)\{", source)) != len(re.findall(r"(?<!\\)\}", source)):
        raise ValueError("braces do not match, which latex2mathml would not tell")
    outside = re.sub(r"\\begin\{(.+?)\}.*?\\end\{\1\}", "", source, flags=re.DOTALL)
    if display == "block" and re.search(r"\\\\|(?<!\\)&", outside):
        source = rf"\begin{{aligned}}{source}\end{{aligned}}"
    source = re.sub(r"\{aligned\}", "{align*}", _MATRIX.sub(r"{\1}", source))
    try:
        markup = convert(source, display=display)
    except Exception as error:
        raise ValueError(f"latex2mathml: {type(error).__name__} {error}") from error
    unknown = re.findall(r">(\\[A-Za-z]+)", markup)
    if unknown:
        raise ValueError(f"unknown to latex2mathml: {', '.join(unknown)}")
    return _PRIME.sub(r"\1<mo lspace=\"0\" rspace=\"0\">\2</mo>", markup)


def _render(node: Any, display: str) -> str:
    latex = node.astext()
    try:
        return to_mathml(latex, display)
    except ValueError as error:
        logger.warning("%s in %s", error, latex, location=node)
        return f"<code>{html.escape(latex)}</code>"


def _visit_inline(self: Any, node: Any) -> None:
    self.body.append(_render(node, "inline"))
    raise nodes.SkipNode


def _visit_block(self: Any, node: Any) -> None:
    self.body.append(f'<div class="equation">{_render(node, "block")}</div>\n')
    raise nodes.SkipNode


def _visit_plain(self: Any, node: Any) -> None:
    block = node["display"] == "block"
    loose = " loose" if node["mathml"].count("<math") > 1 else ""
    wrapped = f'<div class="equation{loose}">{node["mathml"]}</div>\n' if block else node["mathml"]
    if node.get("tail"):
        wrapped = f'<span class="unbroken">{wrapped}{node["tail"]}</span>'
    self.body.append(wrapped)
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.add_node(plain_equation, html=(_visit_plain, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
