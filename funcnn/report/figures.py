"""Figures as inline SVG: bars, dots on a logarithmic axis, curves. They need no library to be seen.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; a shape or a dash pattern
says the same again, so that a black and white print can be read.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH = 480  # user units; a phone shows them at about three quarters
_LEFT = 180  # room for labels of 14 units height
_ROW = 24
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A5A83", "#444444", "#8F6B00")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 2")
_MOST_POINTS = 400


def bars(values: Mapping[str, float | None], title: str, texts: Mapping[str, str]) -> str:
    """One horizontal bar for each label, from 0, with its number behind it.

    Args:
        values: label -> length; None where nothing was measured, which is said.
        title: what the lengths are.
        texts: label -> the number as text.

    >>> "3 kB" in bars({"manual": 3.0, "automatic": None}, "bytes", {"manual": "3 kB"})
    True
    """
    lengths = [v for v in values.values() if v is not None and math.isfinite(v)]
    largest = max(lengths, default=0.0) or 1.0
    room = _WIDTH - _LEFT - 90
    parts = [_text(0, 14, title, weight="bold")]
    for i, (label, value) in enumerate(values.items()):
        y = 24 + i * _ROW
        parts.append(_label(y, label))
        length = room * value / largest if value is not None and _is_finite(value) else 0.0
        colour = _COLOURS[i % len(_COLOURS)]
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 8}" '
            f'fill="{colour}"/>'
        )
        parts.append(_text(_LEFT + length + 6, y + 16, texts.get(label, "not measured")))
    return _svg(parts, 24 + len(values) * _ROW + 4, title)


def dots(values: Mapping[str, Mapping[str, float]], title: str, marked: Sequence[str] = ()) -> str:
    """One line for each label, on it one mark for each series, on a logarithmic axis.

    Zero stands at the left border, infinity at the right one, and NaN, not measured, nowhere.

    Args:
        values: label -> series -> value.
        title: what the axis shows.
        marked: the labels to be marked as wrong.

    >>> "10" in dots({"w": {"manual": 0.0, "automatic": 20.0}}, "error, ulps")
    True
    """
    series = list(dict.fromkeys(name for row in values.values() for name in row))
    numbers = [v for row in values.values() for v in row.values() if _is_finite(v) and v > 0]
    low, high = _decades(numbers)
    top, bottom = 44, 44 + len(values) * _ROW
    beyond = any(math.isinf(v) for row in values.values() for v in row.values())

    def place(value: float) -> float:
        if value == 0:
            return _LEFT + 8
        if not _is_finite(value):
            return _WIDTH - 14
        share = (math.log10(value) - low) / (high - low)
        return _LEFT + 36 + share * (_WIDTH - _LEFT - 56 - 40 * beyond)

    parts = [_text(0, 14, title, weight="bold"), *_legend(series)]
    ends = {place(0.0): "0", **({place(math.inf): "inf"} if beyond else {})}
    ticks = ends | {place(tick): f"{tick:g}" for tick in _log_ticks(low, high)}
    parts += _vertical_lines(ticks, top, bottom)
    for i, (label, row) in enumerate(values.items()):
        y = top + i * _ROW
        parts.append(_label(y, ("\N{MULTIPLICATION X} " if label in marked else "") + label))
        places = {n: place(v) for n, v in row.items() if not math.isnan(v)}
        parts += [_mark(series.index(n), x, y + _ROW / 2 - 1) for n, x in places.items()]
    return _svg(parts, bottom + 22, title)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], title: str, across: str) -> str:
    """Lines through points (x, y); the axis is logarithmic where y is positive and spans over 10.

    What is not finite breaks its line. Of more than 400 points every n-th is drawn, and the last.

    >>> figure = curves({"manual": [(0, 2.0), (1, 1.0)]}, "loss", "step")
    >>> figure.count("<polyline")  # the line, and its piece of the legend
    2
    """
    ys = [y for points in series.values() for _, y in points if _is_finite(y)]
    xs = [x for points in series.values() for x, _ in points]
    if not ys:
        return _svg([_text(0, 14, f"{title}: no finite value")], 20, title)
    log = min(ys) > 0 and max(ys) > 10 * min(ys)
    ticks = _log_ticks(*_decades(ys)) if log else _ticks(min(ys), max(ys))
    low, high = _decades(ys) if log else _span(ticks)
    left, right = _span(xs)
    top, bottom = 44, 244

    def place(x: float, y: float) -> tuple[float, float]:
        height = math.log10(y) if log else y
        across = 56 + (x - left) / (right - left) * (_WIDTH - 70)
        return across, bottom - (height - low) / (high - low) * (bottom - top)

    parts = [_text(0, 14, title + (" (logarithmic)" if log else ""), weight="bold")]
    parts += _legend([name if points else "" for name, points in series.items()], lines=True)
    for tick in ticks:
        y = place(left, tick)[1]
        parts += [_line(56, y, _WIDTH - 14, y), _text(50, y + 4, f"{tick:g}", anchor="end")]
    for tick in _ticks(left, right, whole=True):
        if left <= tick <= right:
            parts.append(_text(place(tick, ticks[0])[0], bottom + 16, f"{tick:g}", anchor="middle"))
    parts.append(_text(_WIDTH - 14, bottom + 32, across, anchor="end"))
    for i, points in enumerate(series.values()):
        for run in _finite_runs(_thinned(points)):
            parts.append(_polyline([place(x, y) for x, y in run], i))
    return _svg(parts, bottom + 38, title)


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{html.escape(title)}</title>{inside}</svg>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{html.escape(text)}</text>"
    )


def _label(y: float, label: str) -> str:
    """A row's label, its middle left out where it is long; whole when it is pointed at."""
    short = label if len(label) <= 20 else f"{label[:6]}\N{HORIZONTAL ELLIPSIS}{label[-13:]}"
    return f"<g><title>{html.escape(label)}</title>{_text(0, y + 16, short)}</g>"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#CCCCCC"/>'


def _polyline(points: Sequence[tuple[float, float]], i: int) -> str:
    colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i % len(_DASHES)]
    if len(points) == 1:
        return _mark(i, *points[0])
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}"/>'
    )


def _mark(i: int, x: float, y: float) -> str:
    """A full disc, an open diamond, a tall stroke, an open square: one shape a series."""
    colour = _COLOURS[i % len(_COLOURS)]
    full, hollow = f'fill="{colour}"', f'fill="none" stroke="{colour}" stroke-width="2"'
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {full}/>',
        f'<path d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z" {hollow}/>',
        f'<path d="M{x:.1f} {y - 9:.1f}v18" {hollow}/>',
        f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" {hollow}/>',
    )
    return shapes[i % len(shapes)]


def _legend(series: Sequence[str], *, lines: bool = False) -> list[str]:
    parts, x = [], 8.0
    for i, name in enumerate(series):
        if not name:
            continue  # the series is empty, but keeps its colour
        parts.append(_polyline([(x - 6, 30), (x + 18, 30)], i) if lines else _mark(i, x, 30))
        parts.append(_text(x + (24 if lines else 12), 34, name))
        x += 40 + 8.5 * len(name)
    return parts


def _vertical_lines(ticks: Mapping[float, str], top: float, bottom: float) -> list[str]:
    parts = []
    for x, text in ticks.items():
        anchor = "end" if x > _WIDTH - 20 else "middle"
        parts += [_line(x, top, x, bottom), _text(x, bottom + 16, text, anchor=anchor)]
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around positive values, at least one apart."""
    if not values:
        return 0, 1
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _log_ticks(low: int, high: int) -> list[float]:
    step = max(1, math.ceil((high - low) / 5))
    return [10.0**k for k in range(low, high + 1, step)]


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About five round numbers that enclose a range."""
    width = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(width / 4))
    step = next(size * m for m in (1, 2, 5, 10) if size * m * 4 >= width * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = math.ceil(len(points) / _MOST_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _finite_runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if _is_finite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
