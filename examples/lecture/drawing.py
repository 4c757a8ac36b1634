"""Figures of the lecture: readable labels, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from funcnn.pictures.style import COLOURS, SETTINGS, save_figure

__all__ = ["COLOURS", "new_figure", "save"]


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 3.6, **options
) -> tuple[Any, Any]:
    """(figure, axes) as `plt.subplots` gives them, in inches."""
    plt.style.use(SETTINGS)  # each time: a site built from many scripts resets it between them
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


def save(figure, name: str) -> None:
    """Write name.png and name.svg into the folder of `--out`, by default lecture_figures/."""
    parser = argparse.ArgumentParser(description="One step of the lecture.")
    parser.add_argument("--out", type=Path, default=Path("lecture_figures"), metavar="DIR")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    written = save_figure(figure, folder / name)
    print("figure:", ", ".join(str(path) for path in written))
