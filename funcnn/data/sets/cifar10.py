"""CIFAR-10 in its binary version: 60,000 coloured images of 32x32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError, Dataset, Split
from funcnn.data.files import check_folder, read_bytes, read_text

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST, NAMES = "test_batch.bin", "batches.meta.txt"
BELOW = "cifar-10-batches-bin"  # what the archive holds
CLASSES, SIZE = 10, 3 * 32 * 32


def cifar10(path: str | Path) -> Dataset:
    """`x` float32 (N, 32, 32, 3) from 0 to 1, red, green and blue last; `y` int32 (N,), 10 classes.

    `path` is the folder of `data_batch_1.bin` to `data_batch_5.bin`, which are for training, and
    `test_batch.bin`, or the folder in which the archive was unpacked; `batches.meta.txt` has the
    names of the classes, where it is there. A file is one record after the other: a byte, the
    label, and 3,072 bytes, all rows in red, in green and in blue.

    Raises `DataError`, one line that names the file.

    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.

    >>> cifar10("/no/such/folder")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: /no/such/folder: no such folder; it must hold data_batch_1.bin...
    """
    folder = Path(path)
    check_folder(folder, f"{TRAIN[0]} to {TRAIN[-1]} and {TEST}")
    folder = folder / BELOW if (folder / BELOW).is_dir() else folder
    if (folder / "data_batch_1").exists() and not (folder / TRAIN[0]).exists():
        raise DataError(
            f"{folder}: is the version for Python, which pickle alone could read; the binary "
            f"version has {TRAIN[0]}"
        )
    labels = _labels(folder / NAMES)
    parts = [_split(folder / name) for name in TRAIN]
    train = Split(**{name: np.concatenate([part[name] for part in parts]) for name in "xy"})
    test = _split(folder / TEST)
    return Dataset(train, test, str(folder), classes=CLASSES, labels=labels)


def _split(path: Path) -> Split:
    content = read_bytes(path)
    if not content or len(content) % (1 + SIZE):
        records = f"{len(content)} bytes are no whole number of records of {1 + SIZE}"
        raise DataError(f"{path}: {f'truncated: {records}' if content else 'is empty'}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + SIZE)  # (N, 3073)
    y = records[:, 0]
    if y.max() >= CLASSES:
        place = int(y.argmax())
        raise DataError(f"{path}: label {y[place]} of record {place} is not from 0 to 9")
    x = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (N, 32, 32, 3)
    return Split(x=x / np.float32(255), y=y.astype(np.int32))


def _labels(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(names) != CLASSES or len(set(names)) != CLASSES:
        raise DataError(f"{path}: must name {CLASSES} classes, a line each, found {len(names)}")
    return names
