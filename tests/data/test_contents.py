"""The digest of a split: of names, dtypes, shapes, values and their order, and nothing else."""

import numpy as np

from funcnn.data import contents as contents_module
from funcnn.data.contents import Content, changes, contents_of
from funcnn.data.dataset import Dataset, Split
from funcnn.data.windows import windows

X = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
Y = np.arange(7, dtype=np.int32)


def digest(**arrays):
    split = Split(**arrays)
    return contents_of(Dataset(split, split, "numbers"))[0].sha256


def test_whatever_changes_in_a_split_changes_its_digest():
    other = X.copy()
    other[6, 2, 1] = np.nextafter(other[6, 2, 1], np.float32(9))
    order = [1, 0, *range(2, 7)]
    others = [
        digest(x=other, y=Y),
        digest(x=X[order], y=Y),
        digest(x=X, y=Y[order]),
        digest(x=X[:6], y=Y[:6]),
        digest(x=X.reshape(7, 2, 3), y=Y),
        digest(x=X.view(np.int32), y=Y),
        digest(x=X, z=Y),
        digest(x=X),
        digest(x=-X * 0, y=Y),
        digest(x=X * 0, y=Y),
    ]
    assert len({digest(x=X, y=Y), *others}) == 1 + len(others)


def test_how_an_array_lies_in_memory_changes_nothing():
    same = [X.copy(), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]]
    assert {digest(x=x, y=Y) for x in same} == {digest(y=Y, x=X)}


def test_many_rows_are_read_piece_by_piece(monkeypatch):
    """Also of a view of tokens, which is no array of its own."""
    rows = windows(np.arange(100, dtype=np.uint16), 8)
    whole = digest(**rows), digest(x=X, y=Y)
    for size in (1, 48, 50, 2**20):
        monkeypatch.setattr(contents_module, "_BYTES", size)
        assert (digest(**rows), digest(x=X, y=Y)) == whole


def test_a_split_that_was_not_there_is_not_compared():
    train, test = Content("train", 5, "0f"), Content("test", 2, "aa")
    assert changes([train], [train, test]) == changes([train, test], [train]) == []
    assert changes([test, train], [train._replace(rows=4), test._replace(sha256="ab")]) == [
        "train had 5 rows and has 4",
        "test has the same number of rows and other values, or another order",
    ]


def test_batches_by_the_step_have_none():
    split = Split(x=X, y=Y)
    data = Dataset(split, split, "stream", validation=split, stream=lambda step: {"x": X})
    assert [content.split for content in contents_of(data)] == ["validation", "test"]
