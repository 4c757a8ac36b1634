"""IDX files, the format of MNIST and its relatives, read with every mistake named.

A file is a magic number (two zero bytes, a type code, the number of dimensions), the dimensions as
big-endian 32-bit integers, and the elements, big-endian too.
"""

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError, Dataset, Split, cut

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SPELLINGS = ("{pair}-{kind}-idx{rank}-ubyte", "{pair}-{kind}.idx{rank}-ubyte")
MOST_DIMENSIONS = 32  # of an array, in every NumPy
PAIRS = {"train": ("train",), "t10k": ("t10k", "test")}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in one IDX file, gzipped or not, in the machine's byte order.

    Raises `DataError` where the file is absent or empty, the gzip stream is damaged, the magic
    number is not one of IDX, or the length is not what the header says.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9]))
    >>> read_idx(path)
    array([7, 0, 9], dtype=uint8)
    """
    content = _content(Path(path))
    if not content:
        raise DataError(f"{path}: is empty; an IDX file has a header of 8 bytes or more")
    code, rank = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or code not in TYPES or rank == 0:
        raise DataError(
            f"{path}: not an IDX file: magic number 0x{content[:4].hex()}; images have 0x00000803, "
            "labels 0x00000801"
        )
    if rank > MOST_DIMENSIONS:
        message = f"its header has {rank} dimensions, and an array at most {MOST_DIMENSIONS}"
        raise DataError(f"{path}: damaged: {message}; images have 3, labels 1")
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(
            f"{path}: truncated: the header of {rank} dimensions has {start} bytes, "
            f"the file {len(content)}"
        )
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist())
    dtype = np.dtype(TYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        wrong = "truncated" if len(content) < expected else "trailing bytes"
        sizes = " x ".join([*map(str, shape[:4]), *(["..."] if rank > 4 else [])])
        needed = expected if expected < 2**63 else "more than 2^63"
        raise DataError(
            f"{path}: {wrong}: {sizes} elements make {needed} bytes, the file has {len(content)}"
        )
    try:
        array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # no element, in dimensions larger than NumPy's arrays have
        raise DataError(f"{path}: damaged: its dimensions make no array: {error}") from None
    return array.astype(dtype.newbyteorder("="))


def idx(
    path: str | Path, test_fraction: float = 0.2, seed: int = 0, classes: int | None = None
) -> Dataset:
    """The data set in a folder of IDX files.

    The folder holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and the same for
    `t10k` or `test`, each gzipped (`.gz`) or not; `.idx3-ubyte` instead of `-idx3-ubyte` will do.
    Where one of the two pairs is absent, `test_fraction` of the other becomes the test split:
    shuffled by `seed`, each class in its share; the name of the data set says so, and a file that
    seems to belong to the absent pair is an error. Images are (N, H, W) of unsigned bytes, or of
    floats from 0 to 1; they become `x` float32 (N, H, W, 1), bytes over 255. Labels run from 0 to
    `classes` - 1; without `classes` the largest training label is the last class. Raises
    `DataError`, one line that names the file.

    >>> idx("no/such/folder")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no/such/folder: no such folder in ...; it must hold train-...
    """
    folder = Path(path)
    name = folder.name or str(folder)
    pairs = _pairs(folder)
    splits = {pair: _split(*files) for pair, files in pairs.items()}
    if classes is None:
        first = next(iter(splits.values()))  # train where there is one
        classes = max(int(first.y.max()), 0) + 1
    for pair, split in splits.items():
        _check_labels(split.y, classes, pairs[pair][1])
    if len(splits) == 2:
        train, test = splits["train"], splits["t10k"]
        if train.x.shape[1:] != test.x.shape[1:]:
            raise DataError(
                f"{pairs['t10k'][0]}: images of {_size(test)}, but {pairs['train'][0].name} has "
                f"{_size(train)}; both must be of one size"
            )
        return Dataset(train, test, name, classes=classes)
    ((pair, whole),) = splits.items()
    try:
        train, test = cut(whole, test_fraction, seed, by="y")
    except DataError as error:
        raise type(error)(f"{pairs[pair][1]}: {error}") from None
    name = f"{name} (test split cut from {pairs[pair][0].name})"
    return Dataset(train, test, name, classes=classes)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        leads = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise DataError(f"{path}: {leads or 'no such file'}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if raw[:2] != b"\x1f\x8b":
        if raw and path.suffix == ".gz":
            raise DataError(f"{path}: not gzipped although its name ends in .gz")
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The files of the pairs that are there: "train" and "t10k" -> (images, labels)."""
    wanted = "train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz], or the t10k- pair"
    if not folder.is_dir():
        here = "" if folder.is_absolute() else f" in {Path.cwd()}"
        wrong = "is a file, not a folder" if folder.exists() else f"no such folder{here}"
        raise DataError(f"{folder}: {wrong}; it must hold {wanted}")
    pairs = {}
    for pair in PAIRS:
        images, labels = _find(folder, pair, "images", 3), _find(folder, pair, "labels", 1)
        if images and labels:
            pairs[pair] = (images, labels)
        elif images or labels:
            lacks = f"{pair}-labels-idx1-ubyte" if images else f"{pair}-images-idx3-ubyte"
            raise DataError(f"{images or labels}: {lacks}[.gz] must stand beside it and does not")
    if not pairs:
        raise DataError(f"{folder}: no IDX files; it must hold {wanted}")
    for absent in PAIRS.keys() - pairs.keys():
        _check_absent(folder, absent)
    return pairs


def _find(folder: Path, pair: str, kind: str, rank: int) -> Path | None:
    """The file; else what else is there by that name: a link that leads nowhere, a folder."""
    paths = [
        folder / (spelling.format(pair=name, kind=kind, rank=rank) + ending)
        for name in PAIRS[pair]
        for spelling in SPELLINGS
        for ending in ("", ".gz")
    ]
    files = [path for path in paths if path.is_file()]
    return next(iter(files + [path for path in paths if os.path.lexists(path)]), None)


def _check_absent(folder: Path, pair: str) -> None:
    """Raise where a file seems to be of the pair that was not found: the other would be cut."""
    like = re.compile(rf"(?<![a-z])(?:{'|'.join(PAIRS[pair])}).*(?:image|label|idx)", re.IGNORECASE)
    for name in sorted(path.name for path in folder.iterdir()):
        if like.search(name) and not name.startswith("."):
            raise DataError(
                f"{folder / name}: belongs to the {pair}- pair by its name, but is not called "
                f"{pair}-images-idx3-ubyte[.gz] or {pair}-labels-idx1-ubyte[.gz]; rename it, or "
                "take it away to have the other pair cut into train and test"
            )


def _split(images: Path, labels: Path) -> Split:
    x, y = _images(images), read_idx(labels)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{labels}: {_kind(y)}; labels have rank 1 and type uint8 (magic number 0x00000801)"
        )
    if len(x) != len(y):
        raise DataError(f"{labels}: {len(y)} labels, but {images.name} has {len(x)} images")
    return Split(x=x, y=y.astype(np.int32))


def _images(path: Path) -> np.ndarray:
    """Images as float32 (N, H, W, 1) from 0 to 1."""
    raw = read_idx(path)
    if raw.ndim != 3 or raw.dtype.kind not in "uf":
        raise DataError(
            f"{path}: {_kind(raw)}; images have rank 3 and type "
            "uint8 (magic number 0x00000803) or float32 (0x00000d03)"
        )
    if raw.size == 0:
        raise DataError(f"{path}: holds no pixel: its dimensions are {raw.shape}")
    if raw.dtype.kind == "u":
        return (raw / np.float32(255))[..., None]
    # Written so that NaN is outside too, and is named by its place in the file.
    outside = ~((raw >= 0) & (raw <= 1))
    if outside.any():
        image, row, column = np.argwhere(outside)[0]
        raise DataError(
            f"{path}: image {image} holds {raw[image, row, column]} at row {row}, column {column}; "
            "pixels that are floats must lie between 0 and 1"
        )
    return raw.astype(np.float32)[..., None]


def _check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        first = int(outside.argmax())
        raise DataError(
            f"{path}: label {labels[first]} at position {first} is not one of the "
            f"{classes} class{'' if classes == 1 else 'es'} (0 to {classes - 1})"
        )


def _kind(array: np.ndarray) -> str:
    return f"is an array of rank {array.ndim} and type {array.dtype}"


def _size(split: Split) -> str:
    return f"{split.x.shape[1]}x{split.x.shape[2]} pixels"
