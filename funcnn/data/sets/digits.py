"""The default data: scikit-learn's 1,797 handwritten digits, on disk with scikit-learn."""

import numpy as np

from funcnn.data.dataset import Dataset, Split, cut

TEST_IMAGES = 360


def digits(seed: int = 0, pixels: bool = False) -> Dataset:
    """1,437 images to train and 360 to test, 8x8 grey, 10 classes, split by `seed`.

    `x` float32 (N, 8, 8, 1), the 17 grey levels over 16; `y` int32 (N,). Each seed has its own
    shuffled, stratified split: the shares of the classes are those of the whole. The test images
    are for the test alone: nothing is chosen by them. With `pixels` each pixel has a label: `y`
    int32 (N, 8, 8), the digit where there is ink and 10 where there is none, 11 classes.

    >>> data = digits(seed=0)
    >>> data.train.x.shape, data.test.x.shape, data.classes
    ((1437, 8, 8, 1), (360, 8, 8, 1), 10)
    """
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    x = (levels / 16).astype(np.float32).reshape(-1, 8, 8, 1)  # (1797, 8, 8, 1)
    split = Split(x=x, y=np.asarray(labels, np.int32))
    train, test = cut(split, TEST_IMAGES, seed, by="y")
    if pixels:
        train, test = (Split(x=s.x, y=_of_pixels(s)) for s in (train, test))
    return Dataset(train, test, "digits", classes=11 if pixels else 10)


def _of_pixels(split: Split) -> np.ndarray:
    ink = split.x[..., 0] >= 0.5  # (N, 8, 8)
    return np.where(ink, split.y[:, None, None], 10).astype(np.int32)
