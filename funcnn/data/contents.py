"""A digest of each split: whether a run that goes on still has the rows that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from funcnn.data.dataset import Dataset, Split

_BYTES = 2**24  # hashed at a time: rows may be views of a file that does not fit into memory


class Content(NamedTuple):
    """What a split held.

    Fields: `split`, its name; `rows`, how many; `sha256`, the digest of its arrays.

    >>> Content("train", 5, "0f").rows
    5
    """

    split: str
    rows: int
    sha256: str


def contents_of(dataset: Dataset) -> tuple[Content, ...]:
    """The content of each split, for which all its rows are read once.

    Batches that are a function of the step, or come from an iterable, have none: what they will be
    is not known.

    >>> rows = Split(x=np.arange(6.0).reshape(3, 2))
    >>> [content.split for content in contents_of(Dataset(rows, rows, "numbers"))]
    ['train', 'test']
    """
    splits = dataset.splits()
    if dataset.stream is not None:
        del splits["train"]
    return tuple(Content(name, split.rows, _digest(split)) for name, split in splits.items())


def changes(before: Iterable[Content], now: Iterable[Content]) -> list[str]:
    """A phrase for each split that is not what it was; one that has no content is not compared.

    >>> changes([Content("train", 5, "0f")], [Content("train", 5, "10")])
    ['train has the same number of rows and other values, or another order']
    >>> changes([Content("train", 5, "0f")], [Content("train", 4, "10")])
    ['train had 5 rows and has 4']
    """
    old = {content.split: content for content in before}
    phrases = []
    for content in now:
        was = old.get(content.split, content)
        if was.rows != content.rows:
            phrases.append(f"{content.split} had {was.rows:,} rows and has {content.rows:,}")
        elif was != content:
            same = "has the same number of rows and other values, or another order"
            phrases.append(f"{content.split} {same}")
    return phrases


def _digest(split: Split) -> str:
    sha256 = hashlib.sha256()
    for name, array in sorted(split.items()):
        sha256.update(f"{name} {array.dtype.str} {list(array.shape)} ".encode())
        rows = max(1, _BYTES // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            part = np.ascontiguousarray(array[start : start + rows])
            sha256.update(part.reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()
