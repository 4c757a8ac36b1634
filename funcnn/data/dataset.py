"""What a data set is: images and labels, checked once, in two splits that share no image."""

from dataclasses import dataclass

import numpy as np


class DataError(ValueError):
    """Data that cannot be used; one line: where, what is wrong, what would be right.

    >>> raise DataError("train-labels-idx1-ubyte: label 12 is not one of the 10 classes (0 to 9)")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: train-labels-idx1-ubyte: label 12 is not one of the 10 ...
    """


class SplitError(DataError):
    """Images that cannot be cut into splits of the sizes wanted.

    >>> raise SplitError("cannot be split: 60 images of 10 classes, test_size 0.01: ...")
    Traceback (most recent call last):
    funcnn.data.dataset.SplitError: cannot be split: 60 images of 10 classes, test_size 0.01: ...
    """


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    `x` float32 (N, H, W, C), pixels from 0 to 1; `y` int32 (N,), classes from 0 on. Raises
    `DataError` where shapes or dtypes are others.

    >>> Split(np.zeros((5, 8, 8, 1), np.float32), np.zeros(5, np.int32)).x.shape
    (5, 8, 8, 1)
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self):
        if self.x.ndim != 4 or self.x.dtype != np.float32:
            kind = f"{self.x.dtype} {self.x.shape}"
            raise DataError(f"images must be float32 (N, H, W, C), found {kind}")
        if self.y.shape != self.x.shape[:1] or self.y.dtype != np.int32:
            kind = f"{self.y.dtype} {self.y.shape}"
            raise DataError(f"labels must be int32 ({len(self.x)},), found {kind}")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A `train` and a `test` Split with labels 0 to `classes` - 1, and the `name` for messages.

    >>> split = Split(np.zeros((5, 8, 8, 1), np.float32), np.zeros(5, np.int32))
    >>> Dataset(split, split, classes=10, name="zeros").classes
    10
    """

    train: Split
    test: Split
    classes: int
    name: str


def check_finite(dataset: Dataset) -> None:
    """Raise `DataError` naming the split and the image that holds the first NaN or infinity.

    >>> x, y = np.zeros((3, 8, 8, 1), np.float32), np.zeros(3, np.int32)
    >>> check_finite(Dataset(Split(x, y), Split(x / np.inf, y), 10, "zeros"))
    >>> check_finite(Dataset(Split(x, y), Split(x + np.nan, y), 10, "gaps"))
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: gaps: test image 0 holds nan at row 0, column 0, channel 0; ...
    """
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        finite = np.isfinite(split.x)
        if not finite.all():
            image, row, column, channel = np.argwhere(~finite)[0]
            raise DataError(
                f"{dataset.name}: {name} image {image} holds {split.x[image, row, column, channel]}"
                f" at row {row}, column {column}, channel {channel}; pixels must be finite numbers"
            )


def stratified(split: Split, test_size: int | float, seed: int) -> tuple[Split, Split]:
    """Cut one split into train and test: shuffled by `seed`, each class in its share.

    `test_size` is a number of images, or a fraction of them. Raises `DataError` where a class
    cannot be in both, `SplitError` where other sizes would do.

    >>> split = Split(np.zeros((20, 8, 8, 1), np.float32), np.arange(20, dtype=np.int32) % 2)
    >>> train, test = stratified(split, 0.2, seed=0)
    >>> np.bincount(train.y).tolist(), np.bincount(test.y).tolist()
    ([8, 8], [2, 2])
    """
    from sklearn.model_selection import train_test_split

    labels, counts = np.unique(split.y, return_counts=True)
    if counts.size == 0 or counts.min() < 2:
        rare = (
            f"class {labels[counts.argmin()]} has 1 image" if counts.size else "there is no image"
        )
        raise DataError(f"cannot be split: {rare}, and each class needs 2 or more")
    try:
        train, test = train_test_split(
            np.arange(len(split.y)), test_size=test_size, stratify=split.y, random_state=seed
        )
    except ValueError as error:
        raise SplitError(
            f"cannot be split: {len(split.y)} images of {labels.size} classes, "
            f"test_size {test_size}: {error}"
        ) from None
    return Split(split.x[train], split.y[train]), Split(split.x[test], split.y[test])
