"""Learning curves of a run: a picture of its metrics file."""

from __future__ import annotations

import os
from pathlib import Path

from funcnn.pictures.curves import draw_curves
from funcnn.pictures.style import save_figure
from funcnn.train.metrics_log import EVALUATION, read_metrics


def learning_curves(metrics_path: str | os.PathLike[str], png_path: str | os.PathLike[str]) -> None:
    """Draw the losses and accuracies of a metrics file against the step, as a PNG.

    What is drawn, and how, says `funcnn.pictures.curves.draw_curves`. Raises ValueError when the
    file holds no loss and no accuracy, or when the picture's name does not end in `.png`.

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
    png_path = Path(png_path)
    if png_path.suffix != ".png":
        raise ValueError(f"{png_path}: the picture is a PNG, so its name must end in .png")
    records = read_metrics(metrics_path)
    try:
        figure = draw_curves(records, evaluation=EVALUATION)
    except ValueError as error:
        raise ValueError(f"{metrics_path}: {error}") from None
    save_figure(figure, png_path.with_suffix(""), kinds=["png"])
