"""Arrays of one's own, in a file of NumPy."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from funcnn.data.cutting import cut_of
from funcnn.data.dataset import DataError, Dataset, Split
from funcnn.data.files import read_bytes
from funcnn.data.optional import said

SPLITS = ("train", "test", "validation")
_NAME = re.compile(rf"(?:(?P<first>{'|'.join(SPLITS)})_)?(.+?)(?:_(?P<last>{'|'.join(SPLITS)}))?")


def npz(
    path: str | Path,
    classes: int | None = None,
    divisor: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The arrays of a `.npz` file: `x`, `y` and what else there is, by their names.

    Either they are whole, and `test_fraction` of the rows becomes the test split, drawn by `seed`,
    each class in its share; or they are those of a split: `train_x` or `x_train`, `test_x` and, if
    there is one, `validation_x`. Where only the test is absent, it is cut from train.

    Floats become float32 and integers int32. An integer `y` tells classes, from 0 to `classes` - 1;
    without `classes` the largest of the training rows is the last. `x` is divided by `divisor`,
    where there is one: by 255, bytes that are pixels.

    Raises `DataError`, one line that names the file and the array: where it is not such a file, for
    arrays of objects, which would need pickle, and for splits that do not fit each other.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "own.npz"
    >>> np.savez(path, x=np.zeros((10, 3)), y=np.arange(10) % 2)
    >>> data = npz(path)
    >>> data.train.x.shape, data.test.y.shape, data.classes
    ((8, 3), (2,), 2)
    """
    name = str(path)
    if divisor is not None and not divisor:
        raise DataError(f"{name}: divisor must not be 0")
    splits = _splits(name, _arrays(Path(path), divisor))
    classes = _classes(name, splits, classes)
    if "test" not in splits:
        by = "y" if classes is not None and splits["train"].y.ndim == 1 else None
        splits["train"], splits["test"] = cut_of(name, splits["train"], test_fraction, seed, by)
    return Dataset(splits["train"], splits["test"], name, splits.get("validation"), classes)


def _arrays(path: Path, divisor: float | None) -> dict[str, np.ndarray]:
    if not path.is_file():
        read_bytes(path)  # which says why not
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a .npz file, or truncated")
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                array = file[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                why = said(error)
                if "allow_pickle" in why:
                    why = "an array of objects, which pickle alone could read; store numbers"
                raise DataError(f"{path}: {name}: {why}") from None
            arrays[name] = _number(f"{path}: {name}", array)
            if divisor is not None and _parts(name)[1] == "x":
                arrays[name] = arrays[name].astype(np.float32) / np.float32(divisor)
    return arrays


def _number(where: str, array: np.ndarray) -> np.ndarray:
    """Floats as float32, integers as int32."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "iu":
        return array
    limits = np.iinfo(np.int32)
    if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise DataError(f"{where}: integers must fit into int32, found {array.max()}")
    return array.astype(np.int32)


def _parts(name: str) -> tuple[str, str]:
    """The split, "" where the array is whole, and the name of an array."""
    found = _NAME.fullmatch(name)
    if found is None or (found["first"] and found["last"]):
        return "", name
    return found["first"] or found["last"] or "", found[2]


def _splits(where: str, arrays: dict[str, np.ndarray]) -> dict[str, Split]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        split, part = _parts(name)
        if part in found.setdefault(split, {}):
            raise DataError(f"{where}: holds {part} of {split} twice")
        found[split][part] = array
    held = f"it holds {', '.join(arrays) or 'nothing'}"
    if "" in found and len(found) > 1:
        raise DataError(f"{where}: {next(iter(found['']))} is of no split and others are; {held}")
    whole = found.pop("", None)
    found = {"train": whole} if whole else found
    if "train" not in found:
        raise DataError(f"{where}: needs x and y, or train_x and train_y; {held}")
    _check_alike(where, found, held)
    splits = {}
    for split, parts in found.items():
        try:
            splits[split] = Split(**parts)
        except DataError as error:
            raise DataError(f"{where}: {split}: {error}") from None
    return splits


def _check_alike(where: str, found: dict[str, dict[str, np.ndarray]], held: str) -> None:
    """Raise where a split lacks an array, has one of its own, or one of another shape."""
    train = found["train"]
    for split, parts in found.items():
        for name in ("x", "y", *train):
            if name not in parts:
                of_split = f" of {split}" if len(found) > 1 else ""
                raise DataError(f"{where}: needs {name}{of_split}; {held}")
        for name, array in parts.items():
            if name not in train:
                raise DataError(f"{where}: {split} has {name}, and train has none; {held}")
            if array.shape[1:] != train[name].shape[1:]:
                shapes = f"{array.shape} in {split} and {train[name].shape} in train"
                raise DataError(f"{where}: {name} is {shapes}")


def _classes(where: str, splits: dict[str, Split], classes: int | None) -> int | None:
    if splits["train"].y.dtype.kind != "i":
        if classes is not None:
            raise DataError(f"{where}: y is {splits['train'].y.dtype} and tells no classes")
        return None
    if classes is None:
        classes = int(splits["train"].y.max(initial=0)) + 1
    for name, split in splits.items():
        outside = (split.y < 0) | (split.y >= classes)
        if outside.any():
            place = np.argwhere(outside)[0]
            raise DataError(
                f"{where}: y of {name} row {place[0]} is {split.y[tuple(place)]}, and not one of "
                f"the {classes} classes (0 to {classes - 1})"
            )
    return classes
