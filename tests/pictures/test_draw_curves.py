import numpy as np
import pytest

from funcnn.pictures.curves import draw_curves


def drawn(*records):
    return draw_curves(records).axes[0]


def test_the_axes_say_what_is_drawn():
    axes = drawn({"step": 1, "loss": 2.0, "evaluation_loss": 3.0}, {"step": 2, "loss": 1.0})
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "linear")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["loss", "evaluation loss"]
    steps = [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()]
    assert steps == [[1, 2], [1]]
    assert len({line.get_color() for line in axes.get_lines()}) == 2


@pytest.mark.parametrize(
    ("last", "scale"), [(0.1, "log"), (0.0, "linear"), (float("nan"), "linear")]
)
def test_the_losses_are_logarithmic_when_they_span_and_are_positive(last, scale):
    axes = drawn({"step": 1, "loss": 2.0}, {"step": 2, "loss": last})
    assert axes.get_yscale() == scale


def test_no_loss_and_no_accuracy_is_an_error():
    with pytest.raises(ValueError, match="no metric whose name ends in 'loss' or 'accuracy'"):
        draw_curves([{"step": 1, "gradient_norm": 1.0}])
