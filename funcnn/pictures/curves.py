"""Learning curves: losses and accuracies against the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from funcnn.pictures.style import COLOURS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = ("loss", "accuracy")


@styled
def draw_curves(
    records: Iterable[Mapping[str, Any]],
    *,
    evaluation: str = "evaluation_",
    figure: Figure | None = None,
) -> Figure:
    """Losses, and accuracies where there are any, against the step, as a figure.

    A metric stands among the losses when its name ends in `loss`, among the accuracies when it ends
    in `accuracy`. The losses have a logarithmic axis when they are positive and span more than a
    factor of 10.

    Args:
        records: each with the key `step`, as `funcnn.train.read_metrics` returns them.
        evaluation: how the names of metrics over a whole split begin; those have dashes and dots.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: the records hold no such metric.

    >>> figure = draw_curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    >>> [axes.get_title() for axes in figure.axes]
    ['Loss']
    """
    from matplotlib.figure import Figure

    series = _series(records)
    panels = [p for p in _PANELS if any(name.endswith(p) for name in series)]
    if not panels:
        raise ValueError("no metric whose name ends in 'loss' or 'accuracy'")
    figure = Figure() if figure is None else figure
    figure.set_size_inches(5.5 * len(panels), 4)
    figure.set_layout_engine("constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        of_panel = {name: points for name, points in series.items() if name.endswith(panel)}
        _draw(axes, panel, of_panel, evaluation)
    return figure


def _series(records: Iterable[Mapping[str, Any]]) -> dict[str, tuple[list, list]]:
    """name -> (steps, values), in the order in which the names first occur."""
    series: dict[str, tuple[list, list]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = series.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return series


def _draw(axes: Axes, panel: str, series: dict[str, tuple[list, list]], evaluation: str) -> None:
    for colour, (name, (steps, values)) in zip(COLOURS * 9, series.items(), strict=False):
        evaluated = name.startswith(evaluation)
        lone = "o" if evaluated or len(steps) == 1 else None
        line = "--" if evaluated else "-"
        label = name.replace("_", " ")
        axes.plot(steps, values, line, marker=lone, markersize=4, color=colour, label=label)
    values = [v for _, points in series.values() for v in points if math.isfinite(v)]
    if panel == "loss" and values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(panel)
    axes.set_title(panel.capitalize())
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend()
