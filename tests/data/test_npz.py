import numpy as np
import pytest
from told import told

from funcnn.data import load
from funcnn.data.sets.npz import npz

X, Y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2


def save(folder, **arrays):
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return path


def test_whole_arrays_are_cut_by_their_classes(tmp_path):
    path = save(tmp_path, x=X, y=Y, weight=np.arange(20, dtype=np.float16))
    data = npz(path, test_fraction=0.2)
    assert data.classes == 2
    assert np.bincount(data.test.y).tolist() == [2, 2]
    for split in data.splits().values():
        assert {name: array.dtype.name for name, array in split.items()} == {
            "x": "float32",
            "y": "int32",
            "weight": "float32",
        }
        assert np.array_equal(split.x[:, 0], 3 * split["weight"])
        assert np.array_equal(split.y, split["weight"] % 2)
    assert not np.array_equal(npz(path, seed=1).test.x, data.test.x)


def test_a_target_of_numbers(tmp_path):
    data = load("npz", path=save(tmp_path, x=X, y=X), validation_fraction=0.25)
    assert data.classes is None
    assert np.array_equal(data.train.x, data.train.y)
    assert [split.rows for split in data.splits().values()] == [12, 4, 4]


@pytest.mark.parametrize("spelling", ["{split}_{name}", "{name}_{split}"])
def test_arrays_of_each_split(tmp_path, spelling):
    sizes = {"train": 10, "validation": 6, "test": 4}
    arrays = {
        spelling.format(split=split, name=name): array[:size]
        for split, size in sizes.items()
        for name, array in (("x", X), ("y", Y), ("of_all", X))
    }
    data = npz(save(tmp_path, **arrays))
    assert {name: split.rows for name, split in data.splits().items()} == sizes
    assert np.array_equal(data.test["of_all"], X[:4])
    path = save(tmp_path, **{n: a for n, a in arrays.items() if "train" in n})
    assert [split.rows for split in npz(path).splits().values()] == [8, 2]
    path = save(tmp_path, **arrays)
    wanted = "own.npz: has a validation split of its own; leave validation_fraction at 0"
    assert told(load, "npz", path=path, validation_fraction=0.1).endswith(wanted)


def test_bytes_are_divided(tmp_path):
    path = save(tmp_path, x=np.full((20, 4, 4, 1), 51, np.uint8), y=Y, max_x=Y)
    assert npz(path).train.x.dtype == np.int32
    data = npz(path, divisor=255)
    assert data.train.x.dtype == np.float32
    np.testing.assert_allclose(data.test.x, 0.2, rtol=1e-6)
    assert data.train["max_x"].max() == 1


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({}, "needs x and y, or train_x and train_y; it holds nothing"),
        ({"x": X}, "needs y; it holds x"),
        ({"test_x": X, "test_y": Y}, "needs x and y, or train_x and train_y; it holds test_x, "),
        ({"x": X, "y": Y, "test_x": X}, "x is of no split and others are; it holds x, y, test_x"),
        ({"train_x": X, "x_train": X}, "holds x of train twice"),
        ({"train_x": X, "train_y": Y, "test_x": X}, "needs y of test; it holds train_x, train_y"),
        (
            {"train_x": X, "train_y": Y, "test_x": X, "test_y": Y, "test_z": Y},
            "test has z, and train has none; it holds",
        ),
        (
            {"train_x": X, "train_y": Y, "test_x": X[:, :2], "test_y": Y},
            "x is (20, 2) in test and (20, 3) in train",
        ),
        ({"x": X, "y": Y[1:]}, "train: a split needs as many rows of each of its arrays, found"),
        ({"x": X, "y": Y, "n": np.array(3)}, "train: n must be an array of numbers with rows, fo"),
        ({"x": X.astype(str), "y": Y}, "train: x must be an array of numbers with rows, found <U"),
        (
            {"x": X, "y": np.array([{}] * 20, object)},
            "y: an array of objects, which pickle alone could read; store numbers",
        ),
        ({"x": X, "y": Y - 1}, "y of train row 0 is -1, and not one of the 1 classes (0 to 0)"),
        ({"x": X, "y": 3 * Y}, "y of train row 1 is 3, and not one of the 2 classes (0 to 1)"),
        ({"x": X, "y": Y + 2**40}, "y: integers must fit into int32, found 1099511627777"),
        ({"x": X[:3], "y": np.array([0, 0, 1])}, "cannot be split: class 1 has 1 row"),
    ],
)
def test_bad_arrays(tmp_path, arrays, wanted):
    path = save(tmp_path, **arrays)
    classes = (
        2 if "y" in arrays and arrays["y"].dtype.kind == "i" and arrays["y"].max() == 3 else None
    )
    assert told(npz, path, classes).startswith(f"{path}: {wanted}")


def test_a_label_of_the_test_that_training_has_not(tmp_path):
    path = save(tmp_path, train_x=X, train_y=Y, test_x=X, test_y=Y + 1)
    wanted = f"{path}: y of test row 1 is 2, and not one of the 2 classes (0 to 1)"
    assert told(npz, path) == wanted
    assert npz(path, classes=3).classes == 3


def test_bad_files_and_options(tmp_path):
    path = tmp_path / "own.npz"
    assert told(npz, path) == f"{path}: no such file"
    assert told(npz, tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    path.write_bytes(b"x")
    assert told(npz, path) == f"{path}: not a .npz file, or truncated"
    content = save(tmp_path, x=X, y=Y).read_bytes()
    path.write_bytes(content[:-30])
    assert told(npz, path) == f"{path}: not a .npz file, or truncated"
    damaged = bytearray(content)
    damaged[400] ^= 0xFF
    path.write_bytes(damaged)
    assert told(npz, path) == f"{path}: x: Bad CRC-32 for file 'x.npy'"
    path = save(tmp_path, x=X, y=X)
    assert told(npz, path, classes=3) == f"{path}: y is float32 and tells no classes"
    assert told(npz, path, divisor=0) == f"{path}: divisor must not be 0"
    path = save(tmp_path, x=np.where(X == 7, np.nan, X), y=Y)
    assert " x holds nan at 1; numbers must be finite" in told(load, "npz", path=path)
