import tracemalloc

import numpy as np
import pytest
from told import told

from funcnn.data import load, make_batches
from funcnn.data.sets.tokens import tokens


def write(path, count=1000, dtype="<u2", start=0):
    np.arange(start, start + count).astype(dtype).tofile(path)
    return path


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64"])
def test_one_file_is_cut_in_order(tmp_path, dtype):
    path = write(tmp_path / "all.bin", dtype=dtype)
    data = load("tokens", path=path, length=10, dtype=dtype, validation_fraction=0.1)
    for name, start, rows in (("train", 0, 71), ("validation", 720, 7), ("test", 800, 19)):
        split = data.splits()[name]
        assert split.x.dtype == dtype
        assert np.array_equal(split.x, start + np.arange(10 * rows).reshape(rows, 10))
        assert np.array_equal(split.y, split.x + 1)
    assert data.classes == 1000


def test_bytes_as_tokens(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))
    assert tokens(tmp_path / "a.bin", length=4, dtype="uint8").train.x[1].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("spelling", ["validation", "val"])
def test_a_folder_has_a_file_for_each_split(tmp_path, spelling):
    write(tmp_path / "train.bin", 100)
    write(tmp_path / f"{spelling}.bin", 50, start=100)
    np.save(tmp_path / "test.npy", np.arange(150, 180, dtype=np.int32))
    data = tokens(tmp_path, length=7)
    found = {name: (s.rows, s.x[0, 0].item()) for name, s in data.splits().items()}
    assert found == {"train": (14, 0), "validation": (7, 100), "test": (4, 150)}
    (tmp_path / "test.npy").unlink()
    data = tokens(tmp_path, length=7, test_fraction=0.3)
    assert (data.train.rows, data.test.x[0, 0], data.watched.rows) == (9, 70, 7)


def test_files_are_mapped_and_never_loaded(tmp_path):
    path = tmp_path / "large.bin"
    size = write(path, 4_000_000).stat().st_size
    tracemalloc.start()
    data = tokens(path, length=64)
    batch = make_batches(data.train, 4, seed=0)(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The order of the rows is as large as their number, an eighth of the file here.
    assert peak < size / 4
    assert np.array_equal(batch["y"][:, :-1], batch["x"][:, 1:])
    assert type(batch["x"]) is np.ndarray


def test_bad_files(tmp_path):
    path = tmp_path / "a.bin"
    assert told(tokens, path) == f"{path}: no such file or folder"
    path.touch()
    assert told(tokens, path) == f"{path}: is empty"
    path.write_bytes(bytes(1001))
    assert told(tokens, path) == f"{path}: 1001 bytes are no whole number of tokens of uint16"
    path.write_bytes(bytes(20))
    assert told(tokens, path) == f"{path}: train: 8 tokens, and one row of length 128 needs 129"
    write(path)
    wanted = f"{path}: token 700 at position 700 is not one of the 700 (0 to 699)"
    assert told(tokens, path, classes=700) == wanted
    np.array([3, 4, -2, 5], "<i4").tofile(path)
    wanted = f"{path}: token -2 at position 2 is not one of the 6 (0 to 5)"
    assert told(tokens, path, dtype="int32") == wanted
    assert told(tokens, path, dtype="uint61") == (
        f'{path}: dtype = "uint61" (did you mean "uint16"?) is none of uint8, uint16, uint32, '
        "int32, int64"
    )


def test_bad_files_of_numpy(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"no array")
    assert told(tokens, path).startswith(f"{path}: not a .npy file: ")
    np.save(path, np.array([{}], object))
    assert told(tokens, path).startswith(f"{path}: not a .npy file: ")
    kinds = "tokens are one row of uint8, uint16, uint32, int32, int64, found"
    for array, kind in (
        (np.zeros((2, 3), np.uint16), "uint16 (2, 3)"),
        (np.zeros(3), "float64 (3,)"),
        (np.zeros(3, ">u2"), ">u2 (3,)"),
        (np.zeros(0, np.uint16), "uint16 (0,)"),
    ):
        np.save(path, array)
        assert told(tokens, path) == f"{path}: {kinds} {kind}"
    np.save(path, np.arange(100, dtype=np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert told(tokens, path).startswith(f"{path}: not a .npy file: ")


def test_bad_folders(tmp_path):
    wanted = f"{tmp_path}: no train.bin or train.npy; a folder of tokens must hold one"
    write(tmp_path / "test.bin")
    assert told(tokens, tmp_path) == wanted
    write(tmp_path / "train.bin")
    write(tmp_path / "val.bin")
    assert told(tokens, tmp_path, validation_fraction=0.1) == (
        f"{tmp_path / 'val.bin'}: is the validation split; leave validation_fraction at 0"
    )
    write(tmp_path / "validation.bin")
    assert told(tokens, tmp_path) == (
        f"{tmp_path / 'validation.bin'}: val.bin stands beside it; keep one of the two"
    )
    (tmp_path / "val.bin").unlink()
    write(tmp_path / "test.bin", 20, start=1000)
    text = told(tokens, tmp_path, classes=1000)
    wanted = "token 1000 at position 0 is not one of the 1000 (0 to 999)"
    assert text == f"{tmp_path / 'test.bin'}: {wanted}"
    text = told(tokens, tmp_path)
    assert text.startswith(f"{tmp_path / 'test.bin'}: 20 tokens")
