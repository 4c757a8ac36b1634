"""Learning curves: a picture of a metrics file."""

import math
from pathlib import Path

from funcnn.train.metrics_log import EVALUATION, read_metrics

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def learning_curves(metrics_path, png_path) -> None:
    """Draw losses, and accuracies where there are any, against the step, as a PNG.

    A metric stands among the losses when its name ends in `loss`, among the accuracies when it ends
    in `accuracy`. The losses have a logarithmic axis when they are positive and span more than a
    factor of 10. Raises ValueError when the file holds no such metric.

    >>> import tempfile
    >>> from funcnn.train.metrics_log import MetricsLog
    >>> folder = Path(tempfile.mkdtemp())
    >>> log = MetricsLog(folder / "metrics.jsonl")
    >>> log.write({"step": 1, "loss": 2.0})
    >>> log.write({"step": 2, "loss": 1.0})
    >>> learning_curves(log.path, folder / "curves.png")
    >>> (folder / "curves.png").read_bytes()[1:4]
    b'PNG'
    """
    # Imported here: drawing is rare, and matplotlib is slow to import. The objects are used
    # without pyplot, which keeps every figure in a global list.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = _series(read_metrics(metrics_path))
    panels = [p for p in ("loss", "accuracy") if any(name.endswith(p) for name in series)]
    if not panels:
        raise ValueError(f"{metrics_path}: no metric whose name ends in 'loss' or 'accuracy'")
    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=120, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, {n: points for n, points in series.items() if n.endswith(panel)})
    png_path = Path(png_path)
    unfinished = png_path.with_name(png_path.name + ".unfinished")
    FigureCanvasAgg(figure).print_figure(unfinished, format="png")
    unfinished.replace(png_path)


def _series(records) -> dict[str, tuple[list, list]]:
    """name -> (steps, values), in the order in which the names first occur."""
    series: dict[str, tuple[list, list]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = series.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return series


def _draw(axes, panel, series) -> None:
    for colour, (name, (steps, values)) in zip(COLOURS * 9, series.items(), strict=False):
        evaluated = name.startswith(EVALUATION)
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
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
