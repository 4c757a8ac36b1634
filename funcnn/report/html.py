"""One HTML file that needs nothing else: no network, no script, no font, no picture file."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

# A browser that reads this loads nothing from anywhere, even if a value slipped through unescaped.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LONG = 20  # characters, above which a cell gets room so that it is not folded to one word a line

_STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #111; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .3rem; }
p.how { color: #333; margin: .2rem 0 .8rem; } p.head { font-weight: bold; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .5rem; border: 1px solid #bbb; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { min-width: 14rem; }
thead th { background: #f0f0f0; } table.matrix thead th { vertical-align: bottom; }
table.matrix thead span { writing-mode: vertical-rl; white-space: nowrap; }
table.matrix tbody th { position: sticky; left: 0; background: #fff; }
.pass { background: #dcecf8; } .fail { background: #f9d3bf; font-weight: bold; }
.note, .inconclusive { background: #fdf3c4; } .skip { background: #eee; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; border-left: 4px solid
  #D55E00; padding: .3rem .6rem; margin: .6rem 0; background: #fbf3ee; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: .8rem 0;
  font: 14px system-ui, sans-serif; }
svg text { fill: #111; } details { margin: .5rem 0; } summary { cursor: pointer; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } .wide { overflow: visible; }
  svg, pre, tr { break-inside: avoid; } h2, p.how { break-after: avoid; }
  table.matrix { font-size: 7pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading, plain text.
        how: one sentence that says how to read it, plain text.
        body: HTML, in which every value is escaped already.

    >>> Section("Costs", "Shorter bars are better.", "<p>none</p>").title
    'Costs'
    """

    title: str
    how: str
    body: str

    def __str__(self) -> str:
        head = f"<h2>{escape(self.title)}</h2>\n<p class=how>{escape(self.how)}</p>"
        return f"<section>\n{head}\n{self.body}\n</section>"


def page(
    title: str, parts: Sequence[tuple[str, Sequence[Section]]], facts: Mapping[str, str]
) -> str:
    """One page: all conclusions, then part by part what they are drawn from.

    Args:
        title: of the page, plain text.
        parts: conclusions, plain text, and the sections of each; where there are several, each
            conclusion stands above its sections once more.
        facts: how it was made: versions, device, seed.

    >>> "<h1>1 &lt; 2</h1>" in page("1 < 2", [("OK", [])], {"jax": "0.10"})
    True
    """
    heads = [f"<p class=head>{escape(conclusion)}</p>" for conclusion, _ in parts]
    body = list(heads)
    for head, (_, sections) in zip(heads, parts, strict=True):
        body += [head] if len(parts) > 1 else []
        body += map(str, sections)
    made = ", ".join(f"{escape(name)} {escape(value)}" for name, value in facts.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + f"\n<p class=how>Made with {made}.</p>\n</body>\n</html>\n"
    )


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a column for each key of the first row; numbers stand to the right.

    >>> "<td class=number>1,234</td>" in html_table([{"leaf": "w", "bytes": 1234}])
    True
    """
    names = list(rows[0]) if rows else []
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr>{''.join(_cell(row.get(name)) for name in names)}</tr>" for row in rows]
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = readable(value)
    kind = " class=number" if is_number else " class=long" if len(text) > _LONG else ""
    return f"<td{kind}>{escape(text)}</td>"


def readable(value: Any) -> str:
    """A value as people read it; NaN is a number that was not measured.

    >>> readable(1234567), readable(1234.5), readable(float("inf")), readable(None)
    ('1,234,567', '1,234', 'not finite', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if 1000 <= abs(value) < 1e7:
            return f"{value:,.0f}"
        if math.isnan(value):
            return "-"
        return f"{value:.3g}" if math.isfinite(value) else "not finite"
    return str(value)


def escape(text: str) -> str:
    """Text that a browser shows as it is.

    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return html.escape(str(text), quote=True)
