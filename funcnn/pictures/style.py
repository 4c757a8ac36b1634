"""How every picture looks: colours, sizes of letters, and how it is written to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, which colour-blind readers can tell apart. Lines also differ in dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
# Maps that grow evenly in lightness, also for colour-blind readers and in print.
SIGNED, POSITIVE, PLAIN = "RdBu_r", "cividis", "gray"

SETTINGS: dict[str, Any] = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "image.interpolation": "nearest",
}


def save_figure(figure: Any, path: str | os.PathLike[str]) -> list[Path]:
    """Write a matplotlib figure as path.png and path.svg, each whole or not at all; the paths.

    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> [p.name for p in save_figure(Figure(), Path(tempfile.mkdtemp()) / "empty")]
    ['empty.png', 'empty.svg']
    """
    path = Path(path)
    written = []
    for kind in ("png", "svg"):
        final = path.with_name(f"{path.name}.{kind}")
        unfinished = path.with_name(f"{path.name}.{kind}.unfinished")
        # Without a date the same picture is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(unfinished, format=kind, metadata=metadata)
        unfinished.replace(final)
        written.append(final)
    return written
