"""How every picture looks: colours, sizes of letters, and how it is written to a file."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from funcnn.report.files import in_place_of

if TYPE_CHECKING:
    import matplotlib.figure

Arguments = ParamSpec("Arguments")
Figure = TypeVar("Figure")

# Okabe and Ito's palette, which colour-blind readers can tell apart. Lines also differ in dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
# Maps that grow evenly in lightness, also for colour-blind readers and in print.
SIGNED, POSITIVE, PLAIN = "RdBu_r", "cividis", "gray"

SETTINGS: Any = {
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


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """A function that draws, run with the settings above, which are put back afterwards.

    >>> styled(lambda: __import__("matplotlib").rcParams["font.size"])()
    11.0
    """

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **options: Arguments.kwargs) -> Figure:
        import matplotlib as mpl  # slow to import, and whoever only trains draws nothing

        with mpl.rc_context(SETTINGS):
            return draw(*args, **options)

    return drawn


def save_figure(
    figure: matplotlib.figure.Figure,
    path: str | os.PathLike[str],
    kinds: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write a matplotlib figure as path.png and path.svg, each whole or not at all; the paths.

    The same figure is the same file each time.

    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> [p.name for p in save_figure(Figure(), Path(tempfile.mkdtemp()) / "empty")]
    ['empty.png', 'empty.svg']
    """
    import matplotlib as mpl

    path = Path(path)
    written = []
    for kind in kinds:
        final = path.with_name(f"{path.name}.{kind}")
        # A date, or random ids, would make another file of the same picture.
        metadata = {"Date": None} if kind == "svg" else None
        settings: Any = {**SETTINGS, "svg.hashsalt": path.name}
        with in_place_of(final) as unfinished, mpl.rc_context(settings):
            figure.savefig(unfinished, format=kind, metadata=metadata)
        written.append(final)
    return written
