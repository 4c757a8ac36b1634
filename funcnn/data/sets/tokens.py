"""Files of tokens on disk, mapped into memory and never loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError, Dataset
from funcnn.data.optional import said
from funcnn.data.windows import cut_windows, windows
from funcnn.spelling import did_you_mean

DTYPES = ("uint8", "uint16", "uint32", "int32", "int64")
SPELLINGS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def tokens(
    path: str | Path,
    length: int = 128,
    dtype: str = "uint16",
    classes: int | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Rows of `length` tokens: `x` (N, T), and `y` (N, T), of each token the next.

    `path` is a file, or a folder with train.bin, and test.bin and validation.bin (or val.bin) where
    they are: the test that is absent is the end of train, `test_fraction` of it, and validation
    `validation_fraction` of the end of what is left, if that is not 0. A file ending in `.npy` is
    NumPy's and has its own dtype; any other is nothing but tokens, one after the other, of `dtype`,
    the least byte first. The rows follow each other in the file.

    The files are memory maps and the rows views of them: a batch reads its rows, in the dtype of
    the file. The tokens are looked through once, for one that is not from 0 to `classes` - 1;
    without `classes` the largest token is the last. Raises `DataError`, one line that names the
    file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "all.bin"
    >>> np.arange(1000, dtype="<u2").tofile(path)
    >>> data = tokens(path, length=8)
    >>> data.train.x.shape, data.test.x[0].tolist(), data.classes
    ((99, 8), [800, 801, 802, 803, 804, 805, 806, 807], 1000)
    """
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES, quote='"')
        raise DataError(f'{path}: dtype = "{dtype}"{hint} is none of {", ".join(DTYPES)}')
    files = _files(Path(path))
    mapped = {name: _mapped(file, np.dtype(dtype)) for name, file in files.items()}
    largest = max(int(array.max()) for array in mapped.values())
    classes = largest + 1 if classes is None else classes
    for name, array in mapped.items():
        _check(array, classes, files[name])
    if "validation" in files and validation_fraction:
        message = "is the validation split; leave validation_fraction at 0"
        raise DataError(f"{files['validation']}: {message}")
    if "test" not in files and not test_fraction:
        message = "test_fraction must be above 0, or there is nothing to test with"
        raise DataError(f"{path}: {message}")
    cut = (0.0 if "test" in files else test_fraction, validation_fraction)
    splits = cut_windows(str(files["train"]), mapped.pop("train"), length, *cut)
    for name, array in mapped.items():
        splits[name] = windows(array, length, str(files[name]))
    train, test, validation = splits["train"], splits["test"], splits.get("validation")
    return Dataset(train, test, str(path), validation, classes)


def _files(path: Path) -> dict[str, Path]:
    """The files of the splits that there are; that for training is always there."""
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = {}
    for name, spellings in SPELLINGS.items():
        there = [path / f"{s}{end}" for s in spellings for end in (".bin", ".npy")]
        there = [file for file in there if file.is_file()]
        if len(there) > 1:
            raise DataError(f"{there[0]}: {there[1].name} stands beside it; keep one of the two")
        if there:
            found[name] = there[0]
    if "train" not in found:
        raise DataError(f"{path}: no train.bin or train.npy; a folder of tokens must hold one")
    return found


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path}: is empty")
    if path.suffix != ".npy":
        if size % dtype.itemsize:
            raise DataError(f"{path}: {size} bytes are no whole number of tokens of {dtype}")
        return np.memmap(path, dtype.newbyteorder("<"), mode="r")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a .npy file: {said(error)}") from None
    fits = array.dtype.name in DTYPES and array.dtype.isnative
    if array.ndim != 1 or not fits or not array.size:
        kind = f"{array.dtype.name if fits else array.dtype} {array.shape}"
        raise DataError(f"{path}: tokens are one row of {', '.join(DTYPES)}, found {kind}")
    return array


def _check(tokens: np.ndarray, classes: int, path: Path) -> None:
    if int(tokens.min()) >= 0 and int(tokens.max()) < classes:
        return
    place = int(np.argmax((tokens < 0) | (tokens >= classes)))
    raise DataError(
        f"{path}: token {tokens[place]} at position {place} is not one of the {classes} (0 to "
        f"{classes - 1})"
    )
