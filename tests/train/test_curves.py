import struct

import pytest

from funcnn.train import MetricsLog, learning_curves


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
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "one.png", "two.png"}


def test_nothing_to_draw_is_one_line_and_no_picture(log, tmp_path):
    log.write({"step": 1, "gradient_norm": 1.0})
    with pytest.raises(ValueError, match=r"metrics\.jsonl: no metric whose name ends in 'loss'"):
        learning_curves(log.path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_picture_of_another_name_is_refused(log, tmp_path):
    log.write({"step": 1, "loss": 1.0})
    with pytest.raises(ValueError, match=r"must end in \.png"):
        learning_curves(log.path, tmp_path / "curves")
