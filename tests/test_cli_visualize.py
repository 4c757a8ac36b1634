"""funcnn visualize on a tiny run: both formats, a line for each picture, one line for a mistake."""

import json
import shutil
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from funcnn.cli import main
from funcnn.commands.visualize import _curves, read_image
from funcnn.config import ConfigError, load_config
from funcnn.data.known import Known
from funcnn.experiment import build_experiment
from funcnn.runs.folder import RunFolder
from funcnn.train import Checkpoints, MetricsLog

ROOT = Path(__file__).parent.parent


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command in this process."""
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def a_run(folder, config, *settings):
    """A run of no steps: its pictures are drawn as those of any other, in less time."""
    made = RunFolder(folder)
    resolved = load_config(ROOT / "configs" / config, [*settings])
    experiment = build_experiment(resolved)
    made.begin(resolved, "cpu", Known.of(experiment.dataset))
    Checkpoints(made.checkpoints).save(experiment.first_state())
    log = MetricsLog(made.metrics)
    log.write({"step": 2, "loss": 2.0, "accuracy": 0.5})
    log.write({"step": 4, "loss": 1.0, "accuracy": 0.7, "evaluation_loss": 1.5})
    return folder


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    small = "model.options={channels=[3, 4], hidden=8}"
    return a_run(tmp_path_factory.mktemp("cnn") / "run", "digits_cnn.toml", small)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("mlp") / "run", "digits_mlp.toml")


def check_picture(row, *labels):
    """A PNG of some size, and an SVG that parses and holds the labels."""
    png, svg = Path(row["png"]), Path(row["svg"])
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 400
    assert height >= 150
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    text = svg.read_text(encoding="utf-8")  # matplotlib names what its letters say in comments
    for label in labels:
        assert label in text, (svg.name, label)


def test_the_pictures_of_a_convolutional_network(cnn, tmp_path, capsys):
    code, out, _ = run(capsys, "visualize", cnn, "--json", "--images", 1, "--out", tmp_path / "p")
    assert code == 0
    rows = {row["picture"]: row for row in map(json.loads, out.splitlines())}
    labels = {
        "learning_curves": ["Accuracy", "evaluation loss", "step"],
        "filters": ["Filters of conv_0", "weight"],
        "activations_conv_0": ["Output of conv_0", "red is positive", "image", "true"],
        "activations_conv_1": ["Output of conv_1", "output"],
        "saliency": ["Saliency", "gradient x input", "predicted"],
        "occlusion": ["Occlusion", "drop of", "costs most", "true"],
    }
    assert list(rows) == list(labels)
    for name, row in rows.items():
        check_picture(row, *labels[name])
        assert row["shows"]
    files = {path.name for path in (tmp_path / "p").iterdir()}
    assert files == {f"{name}.{kind}" for name in labels for kind in ("png", "svg")}
    assert not (cnn / "pictures").exists()


def test_without_convolution_the_rest_is_drawn_of_an_image_of_ones_own(mlp, tmp_path, capsys):
    np.save(tmp_path / "own.npy", np.eye(8)[..., None])
    code, out, err = run(capsys, "visualize", mlp, "--image", tmp_path / "own.npy")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    drawn = f"{mlp}/pictures/learning_curves.png (and .svg)"
    assert lines[0] == f"{drawn}: losses and metrics in training, and on the test rows"
    none = "the model has no convolution layer (fnn.conv)"
    assert lines[1:3] == [f"no filters: {none}", f"no activations: {none}"]
    names = ["saliency", "occlusion"]
    assert [Path(line.split()[0]).stem for line in lines[3:]] == names
    for name in names:
        svg = mlp / "pictures" / f"{name}.svg"
        check_picture({"png": svg.with_suffix(".png"), "svg": svg}, "predicted", "p = ")
        assert "true" not in svg.read_text(encoding="utf-8")


@pytest.mark.slow
def test_again_is_the_same(mlp, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    for _ in range(2):
        assert run(capsys, "visualize", mlp, "--images", 2, "--out", first)[0] == 0
        if not second.exists():
            shutil.copytree(first, second)
    files = [{path.name: path.read_bytes() for path in f.iterdir()} for f in (first, second)]
    assert files[0] == files[1]
    assert len(files[0]) == 6


def test_curves_are_left_out_with_a_reason(tmp_path):
    folder = RunFolder(tmp_path)
    assert _curves(folder).skipped == f"there is no {folder.metrics}"
    folder.metrics.write_text("no JSON\n", encoding="utf-8")
    assert _curves(folder).skipped.startswith(f"{folder.metrics}, line 1: not JSON")
    folder.metrics.write_text("", encoding="utf-8")
    assert _curves(folder).skipped.startswith(f"{folder.metrics}: no metric whose name")


def bad_images(folder):
    """Name of a file -> what is told about it."""
    np.save(folder / "large.npy", np.zeros((9, 9, 1)))
    np.save(folder / "flat.npy", np.zeros((8, 8)))
    np.save(folder / "bytes.npy", np.full((8, 8, 1), 255, np.uint8))
    np.save(folder / "nan.npy", np.full((8, 8, 1), np.nan))
    np.save(folder / "words.npy", np.array(["a"]))
    np.savez(folder / "several.npz", a=np.zeros(3))
    (folder / "text.npy").write_text("no array")
    (folder / "empty.npy").touch()
    header = (folder / "flat.npy").read_bytes().replace(b"(8, 8)", b"(8, 9999999999999)")
    (folder / "endless.npy").write_bytes(header)
    return {
        "large.npy": "found an image of shape (9, 9, 1), the model was trained on (8, 8, 1)",
        "flat.npy": "found an image of shape (8, 8), the model was trained on (8, 8, 1)",
        "bytes.npy": "expected pixels from 0 to 1, found 255 to 255",
        "nan.npy": "expected pixels from 0 to 1, found nan",
        "words.npy": "is not one array of numbers",
        "several.npz": "is not one array of numbers",
        "text.npy": "not a .npy file",
        "empty.npy": "not a .npy file",
        "endless.npy": "not a .npy file",
        "absent.npy": "no such file",
        ".": "Is a directory",
    }


def test_a_wrong_image_is_one_line(mlp, tmp_path, capsys):
    images = bad_images(tmp_path)
    for name, message in images.items():
        with pytest.raises(ConfigError) as error:
            read_image(str(tmp_path / name), (8, 8, 1))
        (line,) = error.value.problems
        assert line.startswith(f"--image {tmp_path / name}: ")
        assert message in line
        assert "\n" not in line
    refused(capsys, tmp_path, images["large.npy"], mlp, "--image", tmp_path / "large.npy")


def refused(capsys, tmp_path, message, *arguments):
    """Exit code 2, one line, and nothing written."""
    code, out, err = run(capsys, "visualize", *arguments, "--out", tmp_path / "pictures")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "pictures").exists()


def test_a_wrong_run_is_one_line(mlp, tmp_path, capsys):
    refused(capsys, tmp_path, "holds no run (no config.toml)", tmp_path)
    refused(capsys, tmp_path, "holds no run (no config.toml)", tmp_path / "absent")
    without = RunFolder(tmp_path / "run")
    without.begin(load_config(mlp / "config.toml"), "cpu", Known({}))
    refused(capsys, tmp_path, f"no checkpoint in {without.checkpoints}", without.path)


def test_wrong_options_are_one_line(mlp, tmp_path, capsys):
    refused(capsys, tmp_path, "--images 13: expected a number from 1 to 12", mlp, "--images", 13)
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "visualize", mlp, "--out", tmp_path / "file")
    assert code == 2
    assert "is a file; the pictures need a folder" in err
    for out in (tmp_path / "file" / "inside", tmp_path / "dead"):
        (tmp_path / "dead").unlink(missing_ok=True)
        (tmp_path / "dead").symlink_to("/no/such/place")
        code, _, err = run(capsys, "visualize", mlp, "--out", out)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "; the pictures need a folder" in err
    for wrong in (["--images", "0"], ["--images", "2", "--image", "x.npy"]):
        assert run(capsys, "visualize", mlp, *wrong)[0] == 2


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder where nobody can write")
def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(
    mlp, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("funcnn.commands.visualize.opened", None)
    for out in ("/proc/pictures", tmp_path / "new" / (300 * "a")):
        code, stdout, err = run(capsys, "visualize", mlp, "--out", out)
        assert (code, stdout) == (2, "")
        assert err.startswith(f"funcnn: {out}: cannot be written: ")
        assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
