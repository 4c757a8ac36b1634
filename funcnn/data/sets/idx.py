"""A folder of IDX files: MNIST, Fashion-MNIST, EMNIST, and what is kept in their format."""

import os
import re
import string
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcnn.data.cutting import cut_of
from funcnn.data.dataset import DataError, Dataset, Split
from funcnn.data.files import check_folder
from funcnn.data.idx_format import read_idx
from funcnn.spelling import did_you_mean

SPELLINGS = ("{pair}-{kind}-idx{rank}-ubyte", "{pair}-{kind}.idx{rank}-ubyte")
RANKS = {"images": (3, 4), "labels": (1,)}
# How the files of a pair may begin.
Pairs = dict[str, tuple[str, ...]]
MNIST: Pairs = {"train": ("train",), "t10k": ("t10k", "test")}


class Variant(NamedTuple):
    """What is special about a relative of MNIST.

    Attributes:
        pairs: how its files begin.
        labels: the names of its classes.
        first: the label of its first class.
        transposed: whether its files hold the columns of an image first.
    """

    pairs: Pairs = MNIST
    labels: tuple[str, ...] = ()
    first: int = 0
    transposed: bool = False


def _emnist(name: str, labels: str, first: int = 0) -> Variant:
    pairs = {"train": (f"{name}-train",), "t10k": (f"{name}-test",)}
    return Variant(pairs, tuple(labels), first, transposed=True)


CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
UPPER = string.digits + string.ascii_uppercase
MERGED = UPPER + "abdefghnqrt"  # the small letters that do not look like large ones
VARIANTS = {
    "fashion": Variant(labels=tuple(CLOTHES.split(","))),
    "emnist-balanced": _emnist("emnist-balanced", MERGED),
    "emnist-byclass": _emnist("emnist-byclass", UPPER + string.ascii_lowercase),
    "emnist-bymerge": _emnist("emnist-bymerge", MERGED),
    "emnist-digits": _emnist("emnist-digits", string.digits),
    "emnist-letters": _emnist("emnist-letters", string.ascii_lowercase, first=1),
    "emnist-mnist": _emnist("emnist-mnist", string.digits),
}


def idx(
    path: str | Path,
    variant: str | None = None,
    classes: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The data set in a folder of IDX files.

    The folder holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and the same for
    `t10k` or `test`, each gzipped (`.gz`) or not; `.idx3-ubyte` instead of `-idx3-ubyte` will do.
    Where one of the two pairs is absent, `test_fraction` of the other becomes the test split:
    shuffled by `seed`, each class in its share; the name of the data set says so, and a file that
    seems to belong to the absent pair is an error.

    Images are grey (N, H, W) or coloured (N, H, W, 3), in files called idx4 where they have that
    rank. Integers of any type are levels from 0 to 255 and are divided by 255, floats lie between 0
    and 1 already: `x` is float32 (N, H, W, 1 or 3). `y` is int32 (N,), from 0 to `classes` - 1;
    without `classes` the largest training label is the last class.

    `variant` "fashion" is Fashion-MNIST, whose files have MNIST's names: its classes get theirs.
    "emnist-letters", "-balanced", "-byclass", "-bymerge", "-digits" and "-mnist" are EMNIST's
    files, `emnist-letters-train-images-idx3-ubyte` and so on, found without a `variant` where the
    folder has nothing else. EMNIST keeps its images by columns: they are transposed here, so that
    they stand upright as MNIST's. The labels of its letters, 1 to 26 in the files, become 0 to 25.

    Raises `DataError`, one line that names the file.

    >>> idx("no/such/folder")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no/such/folder: no such folder in ...; it must hold train-...
    """
    folder = Path(path)
    name = folder.name or str(folder)
    chosen = _variant(folder, variant)
    pairs = _pairs(folder, chosen.pairs)
    splits = {pair: _split(*files, chosen) for pair, files in pairs.items()}
    if classes is None:
        first = next(iter(splits.values()))  # train where there is one
        classes = len(chosen.labels) or max(int(first.y.max()), 0) + 1
    for pair, split in splits.items():
        _check_labels(split.y, classes, pairs[pair][1], chosen.first)
    labels = chosen.labels if len(chosen.labels) == classes else ()
    if len(splits) == 2:
        train, test = splits["train"], splits["t10k"]
        if train.x.shape[1:] != test.x.shape[1:]:
            raise DataError(
                f"{pairs['t10k'][0]}: images of {_size(test)}, but {pairs['train'][0].name} has "
                f"{_size(train)}; both must be of one size"
            )
        return Dataset(train, test, name, classes=classes, labels=labels)
    ((pair, whole),) = splits.items()
    train, test = cut_of(pairs[pair][1], whole, test_fraction, seed, by="y")
    name = f"{name} (test split cut from {pairs[pair][0].name})"
    return Dataset(train, test, name, classes=classes, labels=labels)


def _variant(folder: Path, name: str | None) -> Variant:
    if name is not None:
        if name not in VARIANTS:
            hint = did_you_mean(name, VARIANTS, quote='"')
            raise DataError(f'{folder}: unknown variant "{name}"{hint}; {", ".join(VARIANTS)}')
        return VARIANTS[name]
    if any(_find(folder, MNIST[pair], kind) for pair in MNIST for kind in RANKS):
        return Variant()
    there = [
        name
        for name, variant in VARIANTS.items()
        if variant.pairs is not MNIST
        and any(_find(folder, variant.pairs[pair], "images") for pair in MNIST)
    ]
    if len(there) > 1:
        raise DataError(f"{folder}: holds {', '.join(there)}; say which one as variant")
    return VARIANTS[there[0]] if there else Variant()


def _pairs(folder: Path, begin: Pairs) -> dict[str, tuple[Path, Path]]:
    """The files of the pairs that are there: "train" and "t10k" -> (images, labels)."""
    first, other = (names[0] for names in begin.values())
    wanted = (
        f"{first}-images-idx3-ubyte[.gz] and {first}-labels-idx1-ubyte[.gz], or the {other}- pair"
    )
    check_folder(folder, wanted)
    pairs = {}
    for pair, names in begin.items():
        images, labels = _find(folder, names, "images"), _find(folder, names, "labels")
        if images and labels:
            pairs[pair] = (images, labels)
        elif images or labels:
            lacks = f"{names[0]}-labels-idx1-ubyte" if images else f"{names[0]}-images-idx3-ubyte"
            raise DataError(f"{images or labels}: {lacks}[.gz] must stand beside it and does not")
    if not pairs:
        raise DataError(f"{folder}: no IDX files; it must hold {wanted}")
    for absent in begin.keys() - pairs.keys():
        _check_absent(folder, begin[absent])
    return pairs


def _find(folder: Path, names: tuple[str, ...], kind: str) -> Path | None:
    """The file; else what else is there by that name: a link that leads nowhere, a folder."""
    paths = [
        folder / (spelling.format(pair=name, kind=kind, rank=rank) + ending)
        for name in names
        for rank in RANKS[kind]
        for spelling in SPELLINGS
        for ending in ("", ".gz")
    ]
    files = [path for path in paths if path.is_file()]
    return next(iter(files + [path for path in paths if os.path.lexists(path)]), None)


def _check_absent(folder: Path, names: tuple[str, ...]) -> None:
    """Raise where a file seems to be of the pair that was not found: the other would be cut."""
    begins = "|".join(map(re.escape, names))
    like = re.compile(rf"(?<![a-z])(?:{begins}).*(?:image|label|idx)", re.IGNORECASE)
    others = tuple(f"{name}-" for name in VARIANTS if not names[0].startswith(name))
    for name in sorted(path.name for path in folder.iterdir()):
        if like.search(name) and not name.startswith((".", *others)):
            raise DataError(
                f"{folder / name}: belongs to the {names[0]}- pair by its name, but is not called "
                f"{names[0]}-images-idx3-ubyte[.gz] or {names[0]}-labels-idx1-ubyte[.gz]; rename "
                "it, or take it away to have the other pair cut into train and test"
            )


def _split(images: Path, labels: Path, variant: Variant) -> Split:
    x, y = _images(images), read_idx(labels)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{labels}: {_kind(y)}; labels have rank 1 and type uint8 (magic number 0x00000801)"
        )
    if len(x) != len(y):
        raise DataError(f"{labels}: {len(y)} labels, but {images.name} has {len(x)} images")
    if variant.transposed:
        x = np.ascontiguousarray(x.swapaxes(1, 2))
    return Split(x=x, y=y.astype(np.int32) - np.int32(variant.first))


def _images(path: Path) -> np.ndarray:
    """Images as float32 (N, H, W, 1 or 3) from 0 to 1."""
    raw = read_idx(path)
    if raw.ndim not in (3, 4):
        raise DataError(
            f"{path}: {_kind(raw)}; images have rank 3 (magic number 0x00000803), or 4 where they "
            "are coloured (0x00000804)"
        )
    if raw.ndim == 4 and raw.shape[3] not in (1, 3):
        raise DataError(
            f"{path}: its dimensions are {raw.shape}; coloured images are (N, H, W, 3), with red, "
            "green and blue last"
        )
    if raw.size == 0:
        raise DataError(f"{path}: holds no pixel: its dimensions are {raw.shape}")
    kind, most = ("floats", 1) if raw.dtype.kind == "f" else ("integers", 255)
    _check_pixels(raw, kind, most, path)
    x = raw.astype(np.float32) / np.float32(most)
    return x if raw.ndim == 4 else x[..., None]


def _check_pixels(raw: np.ndarray, kind: str, most: int, path: Path) -> None:
    if raw.dtype == np.uint8:
        return
    # Written so that NaN is outside too, and is named by its place in the file.
    outside = ~((raw >= 0) & (raw <= most))
    if outside.any():
        image, row, column, *channel = np.argwhere(outside)[0].tolist()
        last = f", channel {channel[0]}" if channel else ""
        raise DataError(
            f"{path}: image {image} holds {raw[(image, row, column, *channel)]} at row {row}, "
            f"column {column}{last}; pixels that are {kind} must lie between 0 and {most}"
        )


def _check_labels(labels: np.ndarray, classes: int, path: Path, first: int) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        place = int(outside.argmax())
        raise DataError(
            f"{path}: label {labels[place] + first} at position {place} is not one of the "
            f"{classes} class{'' if classes == 1 else 'es'} ({first} to {classes - 1 + first})"
        )


def _kind(array: np.ndarray) -> str:
    return f"is an array of rank {array.ndim} and type {array.dtype}"


def _size(split: Split) -> str:
    height, width, channels = split.x.shape[1:]
    return f"{height}x{width} pixels" + (f" and {channels} channels" if channels > 1 else "")
