import numpy as np
import pytest
from sklearn.datasets import load_digits

from funcnn.data import digits


def rows(split):
    return {(image.tobytes(), int(label)) for image, label in zip(split.x, split.y, strict=True)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_split_is_a_partition_of_the_digits(seed):
    data = digits(seed)
    assert data.test.y.shape == (360,)
    assert data.train.y.shape == (1437,)
    pixels, labels = load_digits(return_X_y=True)
    whole = np.concatenate([data.train.x, data.test.x]).reshape(-1, 64)
    known = np.column_stack([pixels / 16, labels])
    found = np.column_stack([whole, np.concatenate([data.train.y, data.test.y])])
    # As multisets of (image, label): nothing lost, doubled or given another label.
    assert np.array_equal(known[np.lexsort(known.T)], found[np.lexsort(found.T)])
    assert not rows(data.train) & rows(data.test)


def test_pixels_and_types():
    data = digits()
    for split in (data.train, data.test):
        assert split.x.dtype == np.float32
        assert split.y.dtype == np.int32
        assert split.x.shape[1:] == (8, 8, 1)
        assert split.x.min() == 0
        assert split.x.max() == 1
    assert data.classes == 10


def test_split_is_stratified():
    data = digits(3)
    counts = np.bincount(load_digits(return_X_y=True)[1])
    share = np.bincount(data.test.y, minlength=10) - 360 * counts / 1797
    assert np.abs(share).max() < 1


def test_split_depends_on_the_seed_alone():
    assert np.array_equal(digits(1).test.x, digits(1).test.x)
    assert not np.array_equal(digits(1).test.x, digits(2).test.x)


def test_split_is_shuffled():
    # The file runs 0 1 2 ... 9 0 1 2 ... in places; a shuffled one has few such steps.
    y = digits(0).train.y
    assert np.mean(np.diff(y) == 1) < 0.2
