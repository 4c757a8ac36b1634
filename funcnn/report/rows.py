"""Rows to a table of text, and to JSON lines."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from funcnn.report.files import in_place_of

_MAX_WIDTH = 160  # characters; a wider row is folded, never cut


def table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> str:
    """A table with a column for each key of the first row; numbers stand to the right.

    >>> print(table([{"layer": "dense_0", "parameters": 1234567}]))
      layer     parameters
     ----------------------
      dense_0    1,234,567
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=box.ASCII2, show_edge=False)
    drawn.box = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    for name, value in (rows[0] if rows else {}).items():
        justify = "right" if isinstance(value, (int, float)) else "left"
        drawn.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        drawn.add_row(*(_format(value) for value in row.values()))
    text = io.StringIO()
    Console(file=text, width=_MAX_WIDTH, color_system=None, markup=False, highlight=False).print(
        drawn
    )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _format(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def write_json_lines(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a line, written whole or not at all. NaN and infinities become null.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json_lines(f"{folder}/rows.jsonl", [{"a": 1.0}, {"a": float("nan")}])
    ...     print(pathlib.Path(folder, "rows.jsonl").read_text(), end="")
    {"a": 1.0}
    {"a": null}
    """
    text = "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)
    with in_place_of(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def plain(value: Any) -> Any:
    """A value as it comes back from JSON: lists for tuples, None for NaN and infinities.

    >>> plain({"shape": (2, 3), "error": float("nan")})
    {'shape': [2, 3], 'error': None}
    """
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return value


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun; `many` where the plural is not `one` and an s.

    >>> counted(1, "rule"), counted(1200, "rule"), counted(2, "leaf", "leaves")
    ('1 rule', '1,200 rules', '2 leaves')
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def finite(number: float | None) -> float | None:
    """A number, or None where it is none, is NaN or infinite: it was not measured.

    >>> finite(0.5), finite(float("inf")), finite(None)
    (0.5, None, None)
    """
    return number if number is not None and math.isfinite(number) else None


def whole(number: float) -> float | int:
    """A whole number as an integer, which a table shows as 1,234; NaN and infinities as they are.

    >>> whole(1234.0), whole(float("inf"))
    (1234, inf)
    """
    return int(number) if math.isfinite(number) else number
