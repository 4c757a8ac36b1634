import subprocess
import sys

import numpy as np
import pytest
from idx_folder import write_idx_folder

from funcnn.data import DataError, Dataset, Split, check_finite, digits, idx, load


def same(a, b):
    return all(
        np.array_equal(getattr(getattr(a, split), part), getattr(getattr(b, split), part))
        for split in ("train", "test")
        for part in ("x", "y")
    )


def test_load_passes_its_arguments_on(tmp_path):
    assert same(load("digits", seed=2), digits(2))
    folder = write_idx_folder(tmp_path, train=60, test=None)
    loaded = load("idx", path=folder, test_fraction=0.5, seed=2)
    assert same(loaded, idx(folder, 0.5, 2))
    assert len(loaded.test.y) == 30
    assert load("idx", path=str(folder), classes=12).classes == 12


@pytest.mark.parametrize(
    ("name", "keywords", "wanted"),
    [
        ("digitz", {}, 'unknown data "digitz" (did you mean "digits"?); known: digits, idx'),
        ("idx", {}, 'data "idx" needs a path, the folder of its files'),
        ("digits", {"path": "here"}, 'data "digits" takes no path'),
        ("digits", {"classes": 5}, 'data "digits" has 10 classes, the model 5'),
    ],
)
def test_errors(name, keywords, wanted):
    with pytest.raises(DataError) as caught:
        load(name, **keywords)
    assert str(caught.value) == wanted


def test_labels_outside_the_models_classes(tmp_path):
    with pytest.raises(DataError, match="label 5 at position 5 is not one of the 5 classes"):
        load("idx", path=write_idx_folder(tmp_path), classes=5)


@pytest.mark.parametrize(("split", "value"), [("train", np.nan), ("test", -np.inf)])
def test_check_finite_names_split_and_image(split, value):
    parts = {name: np.zeros((3, 2, 4, 1), np.float32) for name in ("train", "test")}
    parts[split][1, 1, 2, 0] = value
    y = np.zeros(3, np.int32)
    data = Dataset(Split(parts["train"], y), Split(parts["test"], y), 10, "bad")
    with pytest.raises(DataError) as caught:
        check_finite(data)
    assert str(caught.value) == (
        f"bad: {split} image 1 holds {value} at row 1, column 2, channel 0; "
        "pixels must be finite numbers"
    )


@pytest.mark.parametrize(
    ("x", "y", "wanted"),
    [
        (np.zeros((2, 4, 4), np.float32), np.zeros(2, np.int32), "images must be float32"),
        (np.zeros((2, 4, 4, 1)), np.zeros(2, np.int32), "found float64"),
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(3, np.int32), r"labels must be int32 \(2,\)"),
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2), "found float64"),
    ],
)
def test_a_split_has_its_shapes_and_dtypes(x, y, wanted):
    with pytest.raises(DataError, match=wanted):
        Split(x, y)


def test_no_jax():
    code = "import sys, funcnn.data as d; d.load('digits'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
