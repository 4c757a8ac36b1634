import gzip
from pathlib import Path

import numpy as np
import pytest
from idx_folder import tiny_images, write_idx, write_idx_folder
from told import told

from funcnn.data import idx, read_idx

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist-t10k"


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_read_idx_gives_what_was_written(tmp_path, gz, dtype):
    array = np.arange(-6, 18).astype(dtype).reshape(2, 3, 4)
    found = read_idx(write_idx(tmp_path / "some-idx3-ubyte", array, gz))
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert np.array_equal(found, array)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("spelling", ["-", "."])
def test_both_pairs(tmp_path, gz, spelling):
    data = idx(write_idx_folder(tmp_path / "tiny", gz=gz, spelling=spelling))
    assert data.name == "tiny"
    assert data.classes == 10
    for split, count, seed in ((data.train, 60, 0), (data.test, 30, 1)):
        x, y = tiny_images(count, seed)
        assert split.x.dtype == np.float32
        assert split.y.dtype == np.int32
        assert np.array_equal(split.x[..., 0], x.astype(np.float32) / np.float32(255))
        assert np.array_equal(split.y, y)


@pytest.mark.parametrize("pair", ["train", "test"])
def test_one_pair_is_split(tmp_path, pair):
    folder = write_idx_folder(tmp_path, **{"train": None, "test": None, pair: 100})
    data = idx(folder, test_fraction=0.2, seed=3)
    assert np.bincount(data.train.y).tolist() == [8] * 10
    assert np.bincount(data.test.y).tolist() == [2] * 10
    whole, _ = tiny_images(100, 0 if pair == "train" else 1)
    found = np.concatenate([data.train.x, data.test.x])[..., 0] * np.float32(255)
    found = np.rint(found).astype("u1")  # (100, 8, 8)
    assert {image.tobytes() for image in found} == {image.tobytes() for image in whole}
    assert np.array_equal(data.test.x, idx(folder, test_fraction=0.2, seed=3).test.x)
    assert not np.array_equal(data.test.x, idx(folder, test_fraction=0.2, seed=4).test.x)


def test_float_images(tmp_path):
    data = idx(write_idx_folder(tmp_path, dtype="f4"))
    assert np.array_equal(data.train.x[..., 0], tiny_images(60, 0, dtype="f4")[0])


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "change", "wanted"),
    [
        (IMAGES, lambda b: b[:-10], "truncated: 60 x 8 x 8 elements make 3856 bytes, the file has"),
        (IMAGES, lambda b: b[:9], "truncated: the header of 3 dimensions has 16 bytes, the file 9"),
        (LABELS, lambda b: b + b"\0", "trailing bytes: 60 elements make 68 bytes, the file has 69"),
        (IMAGES, lambda b: b"PNG!" + b[4:], "not an IDX file: magic number 0x504e4721"),
        (IMAGES, lambda b: b"\0\0\x07" + b[3:], "not an IDX file: magic number 0x00000703"),
        (IMAGES, lambda b: b"\0\0", "not an IDX file: magic number 0x0000"),
        (IMAGES, lambda b: b"", "is empty"),
        (LABELS, lambda b: b[:4] + b"\0\0\0\x3b" + b[8:-1], "59 labels, but train-images-idx3"),
        (LABELS, lambda b: b[:4] + b"\0\0\0\x3d" + b[8:] + b"\0", "61 labels, but train-images"),
        (
            LABELS,
            lambda b: b[:-1] + b"\x0c",
            "label 12 at position 59 is not one of the 10",
        ),
        (IMAGES, lambda b: gzip.compress(b)[:-20], "damaged gzip file"),
        (IMAGES, lambda b: gzip.compress(b)[:200] + b"junk" * 300, "damaged gzip file"),
        (IMAGES, lambda b: gzip.compress(b)[:10] + b"\xff" * 300, "damaged gzip file"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, change, wanted):
    folder = write_idx_folder(tmp_path, gz=False)
    damage(folder, name, change)
    text = told(idx, folder, classes=10)
    assert text.startswith(f"{folder / name}: ")
    assert wanted in text


def test_mislabelled_files(tmp_path):
    folder = write_idx_folder(tmp_path, gz=False)
    (folder / IMAGES).rename(folder / "kept")
    (folder / LABELS).rename(folder / IMAGES)
    (folder / "kept").rename(folder / LABELS)
    text = told(idx, folder)
    assert text.startswith(f"{folder / IMAGES}: is an array of rank 1 and type uint8; images have")
    write_idx_folder(folder, gz=False)
    write_idx(folder / LABELS, np.zeros(60, "f4"))
    text = told(idx, folder)
    assert text.startswith(
        f"{folder / LABELS}: is an array of rank 1 and type float32; labels have"
    )


def test_gzip_by_name_only(tmp_path):
    path = write_idx(tmp_path / "labels.gz", np.zeros(3, "u1"))
    assert told(read_idx, path) == f"{path}: not gzipped although its name ends in .gz"


def test_gzip_of_nothing(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(b""))
    assert told(read_idx, path).startswith(f"{path}: is empty")


def test_missing_and_wrong_places(tmp_path):
    assert "no such folder; it must hold train-images" in told(idx, tmp_path / "nowhere")
    assert f"nowhere: no such folder in {Path.cwd()}; it must" in told(idx, "nowhere")
    assert "no IDX files; it must hold train-images-idx3-ubyte" in told(idx, tmp_path)
    file = write_idx(tmp_path / "file", np.zeros(3, "u1"))
    assert "is a file, not a folder" in told(idx, file)
    assert told(read_idx, tmp_path / "none") == f"{tmp_path / 'none'}: no such file"
    assert "cannot be read" in told(read_idx, tmp_path)


@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_half_a_pair(tmp_path, kind):
    folder = write_idx_folder(tmp_path, gz=False)
    (folder / f"train-{kind}-ubyte").unlink()
    assert f"train-{kind}-ubyte[.gz] must stand beside it" in told(idx, folder)


def test_a_cut_test_split_is_said(tmp_path):
    data = idx(write_idx_folder(tmp_path / "some", test=None))
    assert data.name == f"some (test split cut from {IMAGES}.gz)"


@pytest.mark.parametrize("names", [("images", "labels"), ("images",)])
def test_the_test_pair_may_be_called_test(tmp_path, names):
    folder = write_idx_folder(tmp_path / "tiny", gz=False)
    for name, rank in (("images", 3), ("labels", 1)):
        if name in names:
            old = folder / f"t10k-{name}-idx{rank}-ubyte"
            old.rename(folder / f"test-{name}-idx{rank}-ubyte")
    data = idx(folder)
    assert (data.name, len(data.test.y)) == ("tiny", 30)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("T10K-images", "t10k"),
        ("test_images.gz", "t10k"),
        ("emnist-test-labels-idx1", "t10k"),
        ("train_images.idx3", "train"),
    ],
)
def test_a_pair_of_another_name_is_not_replaced_in_silence(tmp_path, name, absent):
    train, test = (None, 60) if absent == "train" else (60, None)
    folder = write_idx_folder(tmp_path, train, test, gz=False)
    (folder / name).touch()
    text = told(idx, folder)
    assert text.startswith(f"{folder / name}: belongs to the {absent}- pair by its name, but is")


def test_other_files_are_no_pair(tmp_path):
    folder = write_idx_folder(tmp_path, test=None)
    for name in ("latest-images.png", "readme", "._t10k-images-idx3-ubyte", "train-images.md5"):
        (folder / name).touch()
    assert len(idx(folder).test.y) == 12


@pytest.mark.parametrize("names", [("images-idx3", "labels-idx1"), ("images-idx3",)])
def test_a_link_that_leads_nowhere(tmp_path, names):
    folder = write_idx_folder(tmp_path, gz=False)
    for name in names:
        path = folder / f"t10k-{name}-ubyte"
        path.unlink()
        path.symlink_to("/no/such/file")
    path = folder / "t10k-images-idx3-ubyte"
    assert told(idx, folder) == f"{path}: a link to /no/such/file, which is not there"


def test_a_folder_by_the_name_of_a_file_is_passed_over(tmp_path):
    folder = write_idx_folder(tmp_path, gz=False, spelling=".")
    (folder / IMAGES).mkdir()  # as some archives of MNIST hold it
    assert len(idx(folder).train.y) == 60


@pytest.mark.parametrize("rank", [33, 65, 255])
def test_too_many_dimensions(tmp_path, rank):
    path = tmp_path / "many"
    path.write_bytes(bytes([0, 0, 8, rank]) + rank * b"\0\0\0\1" + b"\7")
    assert f"{path}: damaged: its header has {rank} dimensions" in told(read_idx, path)


def test_dimensions_that_make_no_array(tmp_path):
    path = tmp_path / "none"
    path.write_bytes(bytes([0, 0, 8, 4]) + 3 * b"\xff\xff\xff\xff" + 4 * b"\0")
    assert f"{path}: damaged: its dimensions make no array" in told(read_idx, path)


def test_sizes_of_train_and_test_differ(tmp_path):
    write_idx_folder(tmp_path, test=None)
    write_idx_folder(tmp_path, train=None, shape=(8, 9))
    text = told(idx, tmp_path)
    assert "t10k-images-idx3-ubyte.gz: images of 8x9 pixels, but train-images" in text
    assert text.endswith("has 8x8 pixels; both must be of one size")


def test_classes_from_the_training_labels(tmp_path):
    write_idx_folder(tmp_path, test=None, classes=4)
    write_idx_folder(tmp_path, train=None, classes=6)
    assert "label 4 at position 4 is not one of the 4 classes (0 to 3)" in told(idx, tmp_path)
    assert idx(tmp_path, classes=6).classes == 6


def test_negative_label(tmp_path):
    folder = write_idx_folder(tmp_path, gz=False)
    write_idx(folder / LABELS, np.full(60, -1, "i1"))
    assert "label -1 at position 0 is not one of the 10" in told(idx, folder, classes=10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 255.0])
def test_float_pixels_outside_their_range(tmp_path, value):
    folder = write_idx_folder(tmp_path, dtype="f4", gz=False)
    x, _ = tiny_images(60, 0, dtype="f4")
    x[17, 3, 4] = value
    write_idx(folder / IMAGES, x)
    text = told(idx, folder)
    assert text.startswith(f"{folder / IMAGES}: image 17 holds {value} at row 3, column 4; ")


@pytest.mark.parametrize("dtype", ["i2", "i4"])
def test_levels_may_be_integers_of_any_type(tmp_path, dtype):
    folder = write_idx_folder(tmp_path, gz=False)
    bytes_of, levels = idx(folder), tiny_images(60, 0)[0].astype(dtype)
    write_idx(folder / IMAGES, levels)
    assert np.array_equal(idx(folder).train.x, bytes_of.train.x)
    levels[2, 7, 1] = 256
    write_idx(folder / IMAGES, levels)
    assert told(idx, folder) == (
        f"{folder / IMAGES}: image 2 holds 256 at row 7, column 1; pixels that are integers must "
        "lie between 0 and 255"
    )


def coloured(folder, change=lambda x: x, name="idx4"):
    write_idx_folder(folder, gz=False)
    for pair, count in (("train", 60), ("t10k", 30)):
        (folder / f"{pair}-images-idx3-ubyte").unlink()
        x, _ = tiny_images(count, 0, shape=(8, 24))
        write_idx(folder / f"{pair}-images-{name}-ubyte", change(x.reshape(count, 8, 8, 3)))
    return folder


@pytest.mark.parametrize("name", ["idx3", "idx4"])
def test_coloured_images(tmp_path, name):
    data = idx(coloured(tmp_path, name=name))
    x = tiny_images(60, 0, shape=(8, 24))[0].reshape(60, 8, 8, 3)
    assert np.array_equal(data.train.x, x.astype(np.float32) / np.float32(255))


def test_coloured_images_of_another_layout(tmp_path):
    text = told(idx, coloured(tmp_path / "first", lambda x: x.transpose(0, 3, 1, 2)))
    assert text.endswith(
        "train-images-idx4-ubyte: its dimensions are (60, 3, 8, 8); coloured images are "
        "(N, H, W, 3), with red, green and blue last"
    )
    folder = coloured(tmp_path / "float", lambda x: x.astype("f4"))
    assert " at row 0, column 0, channel 0; pixels that are floats" in told(idx, folder)
    write_idx(folder / "train-images-idx4-ubyte", np.zeros((60, 8, 8, 3), "u1"))
    write_idx(folder / "t10k-images-idx4-ubyte", np.zeros((30, 8, 8, 1), "u1"))
    text = told(idx, folder)
    assert "images of 8x8 pixels, but train-images-idx4-ubyte has 8x8 pixels and 3 channels" in text


def write_emnist(folder, name="letters", classes=26, first=1, test=True):
    folder.mkdir(exist_ok=True)
    for pair, seed in (("train", 0), ("test", 1)) if test else (("train", 0),):
        x, y = tiny_images(3 * classes, seed, shape=(8, 6), classes=classes)
        write_idx(folder / f"emnist-{name}-{pair}-images-idx3-ubyte", x, gz=True)
        write_idx(folder / f"emnist-{name}-{pair}-labels-idx1-ubyte", y + np.uint8(first), gz=True)
    return folder


@pytest.mark.parametrize("variant", [None, "emnist-letters"])
def test_the_letters_of_emnist(tmp_path, variant):
    data = idx(write_emnist(tmp_path), variant)
    x, y = tiny_images(78, 0, shape=(8, 6), classes=26)
    assert np.array_equal(data.train.x[..., 0], x.swapaxes(1, 2) / np.float32(255))
    assert np.array_equal(data.train.y, y)
    assert (data.classes, data.labels[0], data.labels[25]) == (26, "a", "z")


@pytest.mark.parametrize(
    ("name", "classes", "last"), [("balanced", 47, "t"), ("byclass", 62, "z"), ("digits", 10, "9")]
)
def test_other_parts_of_emnist(tmp_path, name, classes, last):
    data = idx(write_emnist(tmp_path, name, classes, first=0, test=False), test_fraction=0.5)
    assert (data.classes, len(data.labels), data.labels[-1]) == (classes, classes, last)
    assert data.name.endswith(f"(test split cut from emnist-{name}-train-images-idx3-ubyte.gz)")
    assert len(data.test.y) + len(data.train.y) == 3 * classes


def test_bad_emnist(tmp_path):
    folder = write_emnist(tmp_path / "zero", first=0)
    assert told(idx, folder) == (
        f"{folder / 'emnist-letters-train-labels-idx1-ubyte.gz'}: label 0 at position 0 is not "
        "one of the 26 classes (1 to 26)"
    )
    write_emnist(folder, "balanced", 47, 0)
    text = told(idx, folder)
    assert text == f"{folder}: holds emnist-balanced, emnist-letters; say which one as variant"
    assert idx(folder, "emnist-balanced").classes == 47
    text = told(idx, folder, "emnist-leters")
    assert '"emnist-leters" (did you mean "emnist-letters"?); fashion, emnist-balanced' in text
    text = told(idx, folder, "emnist-mnist")
    assert "no IDX files; it must hold emnist-mnist-train-images-idx3-ubyte[.gz] and" in text
    (folder / "emnist-letters-test-images-idx3-ubyte.gz").unlink()
    text = told(idx, folder, "emnist-letters")
    assert "emnist-letters-test-images-idx3-ubyte[.gz] must stand beside it and does not" in text
    labels = folder / "emnist-letters-test-labels-idx1-ubyte.gz"
    labels.rename(folder / "emnist-letters-test-label")
    text = told(idx, folder, "emnist-letters")
    assert "emnist-letters-test-label: belongs to the emnist-letters-test- pair by its name" in text


def test_mnist_beside_emnist(tmp_path):
    folder = write_idx_folder(write_emnist(tmp_path), test=None)
    data = idx(folder)
    assert data.classes == 10
    assert data.train.x.shape[1:] == (8, 8, 1)


def test_the_clothes_of_fashion_mnist(tmp_path):
    data = idx(write_idx_folder(tmp_path), "fashion")
    assert (data.classes, data.labels[0], data.labels[9]) == (10, "T-shirt/top", "Ankle boot")
    assert data.train.x.shape == (60, 8, 8, 1)
    assert idx(tmp_path).labels == ()


def test_no_pixels(tmp_path):
    folder = write_idx_folder(tmp_path, gz=False, train=0)
    assert "holds no pixel: its dimensions are (0, 8, 8)" in told(idx, folder)


def test_too_few_images_to_split(tmp_path):
    folder = write_idx_folder(tmp_path / "few", train=20, test=None)
    text = told(idx, folder, test_fraction=0.2)
    assert text.startswith(f"{folder / LABELS}.gz: cannot be split: 20 rows of 10 classes")
    folder = write_idx_folder(tmp_path / "rare", train=11, test=None)
    assert "class 1 has 1 row, and each class needs 2" in told(idx, folder)


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"the MNIST test files are not in {MNIST}")
def test_real_mnist_test_files():
    data = idx(MNIST, test_fraction=0.2, seed=0)
    assert data.train.x.shape == (8000, 28, 28, 1)
    assert data.test.x.shape == (2000, 28, 28, 1)
    assert data.classes == 10
    counts = np.bincount(np.concatenate([data.train.y, data.test.y]))
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
