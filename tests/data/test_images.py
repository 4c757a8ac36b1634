import sys

import numpy as np
import pytest
from PIL import Image
from told import told

from funcnn.data import load
from funcnn.data.sets.images import images


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_classes(folder, count, shape=(5, 7, 3), seed=0):
    for place, name in enumerate(("ant", "bee")):
        for number in range(count):
            array = drawn(seed + 100 * place + number, *shape)
            write(folder / name / f"{number:02}.png", array)
    return folder


def test_a_folder_for_each_class(tmp_path):
    data = images(write_classes(tmp_path, 10))
    assert (data.classes, data.labels) == (2, ("ant", "bee"))
    assert data.train.x.shape == (16, 5, 7, 3)
    assert data.train.x.dtype == np.float32
    assert np.bincount(data.test.y).tolist() == [2, 2]
    known = {
        (drawn(100 * place + number, 5, 7, 3) / np.float32(255)).tobytes(): place
        for place in range(2)
        for number in range(10)
    }
    found = {
        image.tobytes(): label
        for split in data.splits().values()
        for image, label in zip(split.x, split.y, strict=True)
    }
    assert found == known


def test_a_folder_for_each_split(tmp_path):
    for split, count, seed in (("train", 4, 0), ("test", 2, 10), ("validation", 3, 20)):
        write_classes(tmp_path / split, count, (4, 4), seed)
    write(tmp_path / "train" / "wasp" / "a.png", drawn(7, 4, 4))
    (tmp_path / "train" / ".DS_Store").touch()
    data = images(tmp_path)
    assert data.labels == ("ant", "bee", "wasp")
    assert data.train.x.shape == (9, 4, 4, 1)
    assert data.test.y.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.test.x[2, ..., 0], drawn(110, 4, 4) / np.float32(255))
    assert data.watched.rows == 6
    wanted = "has a validation split of its own; leave validation_fraction at 0"
    assert told(load, "images", path=tmp_path, validation_fraction=0.1).endswith(wanted)


def test_sizes_and_colours_are_made_alike(tmp_path):
    folder = write_classes(tmp_path, 4)
    path = write(folder / "bee" / "zz.png", drawn(3, 8, 8))
    first = folder / "ant" / "00.png"
    assert told(images, folder) == (
        f'{path}: is grey, and {first} is rgb; colour = "rgb" or "grey" makes all so'
    )
    wanted = f"{path}: 8x8 pixels, and {first} has 5x7; size = [height, width] scales all to one"
    assert told(images, folder, colour="rgb") == wanted
    for size, shape in ((6, (6, 6, 1)), ((8, 9), (8, 9, 1))):
        data = images(folder, size=size, colour="grey", test_fraction=0.3)
        assert data.train.x.shape[1:] == shape
    data = load("images", path=folder, size=[5, 7], colour="rgb", test_fraction=0.3)
    scaled = Image.fromarray(drawn(3, 8, 8)).resize((7, 5), Image.Resampling.BILINEAR)
    wanted = np.repeat(np.asarray(scaled)[..., None], 3, axis=2) / np.float32(255)
    assert any(np.array_equal(x, wanted) for s in data.splits().values() for x in s.x)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_kinds_of_files(tmp_path, mode):
    ending = "jpg" if mode == "CMYK" else "png"
    for name in ("ant/a", "ant/b", "bee/a", "bee/b"):
        path = tmp_path / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        colour = (10, 20, 30, 40)[: len(Image.new(mode, (1, 1)).getbands())]
        Image.new(mode, (4, 3), colour if len(colour) > 1 else 1).save(path)
    data = images(tmp_path, test_fraction=0.5)
    assert data.train.x.shape == (2, 3, 4, 1 if mode in ("1", "L", "LA") else 3)
    if mode == "1":
        assert (data.train.x == 1).all()
    if mode == "RGBA":
        assert np.array_equal(data.train.x[0, 0, 0] * np.float32(255), [10, 20, 30])


def test_the_side_that_is_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name in ("ant/a", "ant/b", "bee/a", "bee/b"):
        write(tmp_path / f"{name}.png", drawn(0, 4, 6), exif=exif)
    data = images(tmp_path, test_fraction=0.5)
    wanted = np.rot90(drawn(0, 4, 6), -1) / np.float32(255)
    assert np.array_equal(data.train.x[0, ..., 0], wanted)


def test_bad_folders(tmp_path):
    wanted = "it must hold a folder for each class"
    assert told(images, tmp_path / "no") == f"{tmp_path / 'no'}: no such folder; {wanted}"
    assert told(images, tmp_path) == f"{tmp_path}: is empty; {wanted}"
    folder = write_classes(tmp_path / "a", 2)
    (folder / "cow").mkdir()
    assert told(images, folder) == (
        f"{folder / 'cow'}: is empty; it must hold the images of a class"
    )
    (folder / "cow").rmdir()
    (folder / "readme.txt").touch()
    assert told(images, folder) == (
        f"{folder / 'readme.txt'}: is no folder; {folder} must hold a folder for each class"
    )
    (folder / "readme.txt").unlink()
    (folder / "ant" / "more").mkdir()
    assert told(images, folder) == f"{folder / 'ant/more'}: is a folder among the images of a class"
    (folder / "ant" / "more").rmdir()
    text = told(images, folder, test_fraction=0.1)
    assert text.startswith(f"{folder}: cannot be split: 4 rows of 2 classes, a share of 0.1: ")


def test_bad_splits(tmp_path):
    write_classes(tmp_path / "test", 2)
    assert told(images, tmp_path) == f"{tmp_path}: has test, and no train beside"
    write_classes(tmp_path / "train", 2)
    write(tmp_path / "test" / "cow" / "a.png", drawn(0, 5, 7, 3))
    wanted = f"{tmp_path / 'test' / 'cow'}: no class of train, which has ant, bee"
    assert told(images, tmp_path) == wanted


def test_bad_images_and_options(tmp_path):
    folder = write_classes(tmp_path, 2)
    path = folder / "bee" / "01.png"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:60], whole[:-60]):
        path.write_bytes(content)
        assert told(images, folder).startswith(f"{path}: no image that can be read: ")
    write(path, np.zeros((5, 7), np.uint16))
    assert told(images, folder) == f"{path}: has more than 8 bits a channel (Pillow's mode I;16)"
    wanted = f"{folder}: size must be a number of pixels, or a height and a width, found"
    assert told(images, folder, size=0) == f"{wanted} 0"
    assert told(images, folder, size=[3, 4, 5]) == f"{wanted} [3, 4, 5]"
    wanted = f'{folder}: colour = "gray" (did you mean "grey"?) is none of grey, rgb'
    assert told(images, folder, colour="gray") == wanted


def test_without_pillow(tmp_path, monkeypatch):
    folder = write_classes(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "PIL", None)
    wanted = f'{folder / "ant/00.png"}: needs Pillow: pip install "funcnn[data]"'
    assert told(images, folder) == wanted
