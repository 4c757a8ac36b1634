"""A tiny folder in MNIST's format, for tests that need files and not the images in them."""

import gzip
from pathlib import Path

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def write_idx(path: Path, array: np.ndarray, gz: bool = False) -> Path:
    """Write one IDX file; `gz` adds .gz to the name. Returns the path written."""
    header = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    header += np.array(array.shape, ">u4").tobytes()
    content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path = path.with_name(path.name + ".gz") if gz else path
    path.write_bytes(gzip.compress(content) if gz else content)
    return path


def tiny_images(count: int, seed: int, shape=(8, 8), classes: int = 10, dtype="u1"):
    """Images that can be learnt: the bright pixels tell the class, with noise round them.

    Returns x (count, H, W) and y (count,) uint8, the classes in turn.
    """
    y = (np.arange(count) % classes).astype(np.uint8)
    bright = np.random.default_rng(1).random((classes, *shape)) < 0.3  # the same for every seed
    noise = np.random.default_rng(seed).random((count, *shape))
    x = 0.7 * bright[y] + 0.3 * noise  # (count, H, W), below 1
    return (x * 255 if dtype == "u1" else x).astype(dtype), y


def write_idx_folder(
    folder: Path,
    train: int | None = 60,
    test: int | None = 30,
    gz: bool = True,
    seed: int = 0,
    *,
    shape: tuple[int, int] = (8, 8),
    classes: int = 10,
    dtype: str = "u1",
    spelling: str = "-",
) -> Path:
    """`train` and `test` images in `folder`; None leaves that pair of files out. Returns `folder`.

    `dtype` "u1" or "f4"; `spelling` "." writes train-images.idx3-ubyte.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for pair, count, offset in (("train", train, 0), ("t10k", test, 1)):
        if count is not None:
            x, y = tiny_images(count, seed + offset, shape, classes, dtype)
            write_idx(folder / f"{pair}-images{spelling}idx3-ubyte", x, gz)
            write_idx(folder / f"{pair}-labels{spelling}idx1-ubyte", y, gz)
    return folder
