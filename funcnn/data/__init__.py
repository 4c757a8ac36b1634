"""Data as NumPy arrays: images (N, H, W, C) float32 from 0 to 1, labels (N,) int32.

digits: the default, 1,797 real images that come with scikit-learn. idx: a folder of MNIST's format.
batches: which images a step sees. dataset: what the others return, and its checks.
"""

from pathlib import Path

from funcnn.data.batches import make_batches
from funcnn.data.dataset import DataError, Dataset, Split, check_finite
from funcnn.data.digits import digits
from funcnn.data.idx import idx, read_idx
from funcnn.spelling import did_you_mean

__all__ = [
    "DataError",
    "Dataset",
    "Split",
    "check_finite",
    "digits",
    "idx",
    "load",
    "make_batches",
    "read_idx",
]

NAMES = ("digits", "idx")


def load(
    name: str,
    *,
    path: str | Path | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    classes: int | None = None,
) -> Dataset:
    """A data set by name: "digits", or "idx" with the folder as `path`.

    `test_fraction` matters for a folder with one pair of files only. `classes`: how many the model
    tells apart; a label beyond them is an error. Raises `DataError`, one line.

    >>> load("digits", seed=1).test.y.shape
    (360,)
    """
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, quote='"')
        raise DataError(f'unknown data "{name}"{hint}; known: {", ".join(NAMES)}')
    if (path is None) == (name == "idx"):
        need = "needs a path, the folder of its files" if path is None else "takes no path"
        raise DataError(f'data "{name}" {need}')
    if path is not None:
        dataset = idx(path, test_fraction, seed, classes)
    else:
        dataset = digits(seed)
        if classes is not None and classes < dataset.classes:
            raise DataError(f'data "digits" has {dataset.classes} classes, the model {classes}')
    check_finite(dataset)
    return dataset
