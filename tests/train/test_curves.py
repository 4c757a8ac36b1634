import struct

import numpy as np
import pytest

from funcnn.train import MetricsLog, learning_curves
from funcnn.train.curves import _draw, _series
from funcnn.train.metrics_log import read_metrics


@pytest.fixture
def log(tmp_path):
    return MetricsLog(tmp_path / "metrics.jsonl")


def width(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">I", data[16:20])[0]


def test_a_png_with_a_panel_for_losses_and_one_for_accuracies(log, tmp_path):
    for step in range(1, 6):
        log.write({"step": step, "loss": 2.0**-step, "gradient_norm": 1.0})
    learning_curves(log.path, tmp_path / "one.png")
    log.write({"step": 6, "loss": 0.01, "evaluation_accuracy": 0.9})
    learning_curves(log.path, str(tmp_path / "two.png"))
    assert width(tmp_path / "two.png") == 2 * width(tmp_path / "one.png")
    assert not list(tmp_path.glob("*.unfinished"))


def drawn(log, panel):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    series = _series(read_metrics(log.path))
    _draw(axes, panel, {name: points for name, points in series.items() if name.endswith(panel)})
    return axes


def test_the_axes_say_what_is_drawn(log):
    log.write({"step": 1, "loss": 2.0, "evaluation_loss": 3.0})
    log.write({"step": 2, "loss": 1.0})
    axes = drawn(log, "loss")
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "linear")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["loss", "evaluation loss"]
    drawn_steps = [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()]
    assert drawn_steps == [[1, 2], [1]]
    assert len({line.get_color() for line in axes.get_lines()}) == 2


@pytest.mark.parametrize(("last", "scale"), [(0.1, "log"), (0.0, "linear"), (None, "linear")])
def test_the_losses_are_logarithmic_when_they_span_and_are_positive(log, last, scale):
    log.write({"step": 1, "loss": 2.0})
    log.write({"step": 2, "loss": last})
    assert drawn(log, "loss").get_yscale() == scale


def test_nothing_to_draw_is_one_line_and_no_picture(log, tmp_path):
    log.write({"step": 1, "gradient_norm": 1.0})
    with pytest.raises(ValueError, match="no metric whose name ends in 'loss' or 'accuracy'"):
        learning_curves(log.path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
