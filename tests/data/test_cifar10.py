import numpy as np
import pytest
from told import told

from funcnn.data import load
from funcnn.data.sets.cifar10 import TRAIN, cifar10

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def records(count, seed):
    """(x (N, 32, 32, 3), y (N,)) in bytes, and the file that has them."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    y = (np.arange(count) % 10).astype(np.uint8)
    planes = [x[..., channel].reshape(count, -1) for channel in range(3)]
    return x, y, np.concatenate([y[:, None], *planes], axis=1).tobytes()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "cifar"
    folder.mkdir()
    for number, name in enumerate(TRAIN):
        (folder / name).write_bytes(records(10 + number, number)[2])
    (folder / "test_batch.bin").write_bytes(records(20, 9)[2])
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def test_records_become_images(folder):
    data = load("cifar10", path=folder, validation_fraction=0.2)
    assert (data.classes, data.labels) == (10, tuple(NAMES))
    assert {name: split.rows for name, split in data.splits().items()} == {
        "train": 48,
        "validation": 12,
        "test": 20,
    }
    x, y, _ = records(20, 9)
    assert data.test.x.dtype == np.float32
    assert np.array_equal(data.test.x, x / np.float32(255))
    assert np.array_equal(data.test.y, y)
    whole = cifar10(folder)
    assert np.array_equal(whole.train.x[:10], records(10, 0)[0] / np.float32(255))
    assert np.array_equal(whole.train.y[-14:], records(14, 4)[1])


def test_the_folder_of_the_archive(folder):
    below = folder.parent / "unpacked" / "cifar-10-batches-bin"
    below.parent.mkdir()
    folder.rename(below)
    (below / "batches.meta.txt").unlink()
    data = cifar10(below.parent)
    assert (data.train.rows, data.labels) == (60, ())


def test_bad_files(folder):
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    wanted = f"{path}: truncated: 36875 bytes are no whole number of records of 3073"
    assert told(cifar10, folder) == wanted
    path.write_bytes(b"")
    assert told(cifar10, folder) == f"{path}: is empty"
    path.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    assert told(cifar10, folder) == f"{path}: label 10 of record 1 is not from 0 to 9"
    path.unlink()
    assert told(cifar10, folder) == f"{path}: no such file"
    path.write_bytes(whole)
    (folder / "test_batch.bin").unlink()
    assert told(cifar10, folder) == f"{folder / 'test_batch.bin'}: no such file"


def test_bad_names_and_folders(folder):
    names = folder / "batches.meta.txt"
    names.write_text("\n".join(NAMES[:9]))
    assert told(cifar10, folder) == f"{names}: must name 10 classes, a line each, found 9"
    names.write_bytes(b"\xff\n")
    assert told(cifar10, folder) == f"{names}: not UTF-8: byte 0xff at position 0, in line 1"
    wanted = "it must hold data_batch_1.bin to data_batch_5.bin and test_batch.bin"
    assert told(cifar10, names) == f"{names}: is a file, not a folder; {wanted}"
    (folder / "data_batch_1.bin").rename(folder / "data_batch_1")
    assert told(cifar10, folder) == (
        f"{folder}: is the version for Python, which pickle alone could read; the binary version "
        "has data_batch_1.bin"
    )
