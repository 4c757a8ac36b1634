import subprocess
import sys

import numpy as np
import pytest
from idx_folder import write_idx_folder

from funcnn.data import DataError, Dataset, Split, check_finite, digits, idx, load
from funcnn.data.dataset import SplitError


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
    assert same(loaded, idx(folder, test_fraction=0.5, seed=2))
    assert len(loaded.test.y) == 30
    assert load("idx", path=str(folder), classes=12).classes == 12


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("idx", {}, 'data "idx" needs path'),
        ("digits", {"path": "here"}, 'data "digits" takes no path; it takes pixels'),
        (
            "idx",
            {"path": "here", "clases": 5},
            'data "idx" takes no clases (did you mean classes?); it takes path, variant, classes',
        ),
        (
            "idx",
            {"path": "here", "classes": "many"},
            "data \"idx\": classes = 'many': expected an integer",
        ),
    ],
)
def test_options_that_do_not_fit(name, options, wanted):
    with pytest.raises(DataError) as caught:
        load(name, **options)
    assert str(caught.value) == wanted


def test_an_unknown_name():
    with pytest.raises(
        DataError, match=r'^unknown data "digitz" \(did you mean "digits"\?\); known'
    ):
        load("digitz")


def test_validation_is_cut_from_the_rows_to_train_by_their_classes(tmp_path):
    folder = write_idx_folder(tmp_path, train=100, test=30)
    whole, data = idx(folder), load("idx", path=folder, validation_fraction=0.2, seed=3)
    assert np.array_equal(data.test.x, whole.test.x)
    assert np.bincount(data.splits()["validation"].y).tolist() == [2] * 10
    splits = data.splits()
    parts = [{image.tobytes() for image in splits[name].x} for name in ("train", "validation")]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {image.tobytes() for image in whole.train.x}
    again = load("idx", path=folder, validation_fraction=0.2, seed=4)
    assert not np.array_equal(again.splits()["validation"].x, data.splits()["validation"].x)
    assert load("idx", path=folder).validation is None
    few = write_idx_folder(tmp_path / "few", train=20)
    with pytest.raises(SplitError, match=r"^few: validation: cannot be split: 20 rows of 10"):
        load("idx", path=few, validation_fraction=0.1)


def test_labels_outside_the_models_classes(tmp_path):
    with pytest.raises(DataError, match="label 5 at position 5 is not one of the 5 classes"):
        load("idx", path=write_idx_folder(tmp_path), classes=5)


@pytest.mark.parametrize(("split", "value"), [("train", np.nan), ("test", -np.inf)])
def test_check_finite_names_split_and_row(split, value):
    parts = {name: np.zeros((3, 2, 4, 1), np.float32) for name in ("train", "test")}
    parts[split][1, 1, 2, 0] = value
    y = np.zeros(3, np.int32)
    data = Dataset(Split(x=parts["train"], y=y), Split(x=parts["test"], y=y), "bad")
    with pytest.raises(DataError) as caught:
        check_finite(data)
    assert str(caught.value) == (
        f"bad: {split} row 1: x holds {value} at 1, 2, 0; numbers must be finite"
    )


def test_check_finite_looks_at_every_array_of_every_split():
    good = Split(x=np.zeros((3, 2)), y=np.zeros(3))
    bad = Split(x=np.zeros((3, 2)), y=np.array([0.0, 1.0, np.nan]))
    dataset = Dataset(good, good, "bad", validation=bad)
    with pytest.raises(DataError, match=r"^bad: validation row 2: y holds nan; numbers"):
        check_finite(dataset)


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"x": [1, 2]}, "^x must be an array of numbers with rows, found a list$"),
        ({"x": np.array(["a"])}, "found <U1"),
        ({"x": np.array([{}])}, "found object"),
        ({"x": np.float32(3)}, "found float32"),
        (
            {"x": np.zeros((2, 4)), "y": np.zeros(3)},
            "as many rows of each .* found {'x': 2, 'y': 3}",
        ),
    ],
)
def test_a_split_has_numbers_and_as_many_rows_of_each(arrays, wanted):
    with pytest.raises(DataError, match=wanted):
        Split(**arrays)


def test_no_jax():
    code = "import sys, funcnn.data as d; d.load('digits'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
