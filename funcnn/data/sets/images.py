"""Folders of images: one for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from funcnn.data.cutting import cut_of
from funcnn.data.dataset import DataError, Dataset, Split
from funcnn.data.files import check_folder, shown
from funcnn.data.image_files import MODES, Form, form_of, read_image
from funcnn.spelling import did_you_mean

SPLITS = ("train", "test", "validation")


def images(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    colour: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The images in a folder: `x` float32 (N, H, W, 1 or 3) from 0 to 1, `y` int32 (N,).

    Each folder in `path` is a class, called as it is, in the order of the alphabet, and holds
    images and nothing else; hidden files are passed over. `test_fraction` of them becomes the test
    split, drawn by `seed`, each class in its share. Or `path` holds the folders train, test and
    validation, as many of them as there are, and the classes below each: those of train.

    `size` is that of all images, (height, width) or the side of a square: others are scaled to it,
    bilinearly. Without it they must be of one size. `colour` is "grey" or "rgb", and what is
    otherwise is made so; without it all must be as the first is. Transparency is left out.

    Raises `DataError`, one line that names the file: one that Pillow cannot read, or that has
    another size or colour than the first, or more than 8 bits a channel.

    >>> images("/no/such/folder")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: /no/such/folder: no such folder; it must hold a folder for ...
    """
    folder = Path(path)
    if colour is not None and colour not in MODES:
        hint = did_you_mean(colour, MODES, quote='"')
        raise DataError(f'{folder}: colour = "{colour}"{hint} is none of {", ".join(MODES)}')
    shape = _size(folder, size)
    check_folder(folder, "a folder for each class")
    named = {name: folder / name for name in SPLITS if (folder / name).is_dir()}
    if named and "train" not in named:
        raise DataError(f"{folder}: has {' and '.join(named)}, and no train beside")
    places = named or {"train": folder}
    labels = tuple(each.name for each in _folders(places["train"]))
    files = {name: _files(place, labels) for name, place in places.items()}
    form = form_of(files["train"][0][0], shape, colour)
    splits = {name: _split(each, form) for name, each in files.items()}
    if "test" not in splits:
        splits["train"], splits["test"] = cut_of(
            folder, splits["train"], test_fraction, seed, by="y"
        )
    train, test, validation = splits["train"], splits["test"], splits.get("validation")

    def read(path: Path) -> np.ndarray:
        return _images(list(shown(path)) if path.is_dir() else [path], form)

    return Dataset(train, test, str(folder), validation, len(labels), labels, read=read)


def _size(folder: Path, size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        message = f"size must be a number of pixels, or a height and a width, found {size}"
        raise DataError(f"{folder}: {message}")
    return sides[0], sides[1]


def _folders(place: Path) -> list[Path]:
    there = list(shown(place))
    stray = next((path for path in there if not path.is_dir()), None)
    if stray is not None:
        raise DataError(f"{stray}: is no folder; {place} must hold a folder for each class")
    if not there:
        raise DataError(f"{place}: is empty; it must hold a folder for each class")
    return there


def _files(place: Path, labels: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The images of a split, each with its class."""
    found = []
    for folder in _folders(place):
        if folder.name not in labels:
            raise DataError(f"{folder}: no class of train, which has {', '.join(labels)}")
        files = list(shown(folder))
        if not files:
            raise DataError(f"{folder}: is empty; it must hold the images of a class")
        found += [(file, labels.index(folder.name)) for file in files]
    return found


def _split(files: list[tuple[Path, int]], form: Form) -> Split:
    x = _images([file for file, _ in files], form)
    return Split(x=x, y=np.array([label for _, label in files], np.int32))


def _images(files: list[Path], form: Form) -> np.ndarray:
    x = np.stack([read_image(file, form) for file in files])  # (N, H, W, C)
    return x / np.float32(255)
