"""What a run keeps of its data: enough to use its model where the data are not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from funcnn.data.contents import Content
from funcnn.data.dataset import DataError, Dataset


class Known(NamedTuple):
    """What a model is made for.

    Attributes:
        arrays: the shapes and dtypes of a batch of one row, as JAX takes it.
        classes: how many classes the targets tell apart, or None.
        labels: the names of the classes, where they have any.
        vocabulary: what each token stands for, where the rows are text.
        contents: a digest of each split, where they have been looked through for it.

    >>> import numpy as np
    >>> from funcnn.data.dataset import Split
    >>> split = Split(x=np.zeros((5, 8, 8, 1), np.float32), y=np.zeros(5, np.int32))
    >>> known = Known.of(Dataset(split, split, "zeros", classes=10))
    >>> known.arrays["x"]
    ShapeDtypeStruct(shape=(1, 8, 8, 1), dtype=float32)
    >>> Known.from_json(known.to_json()) == known
    True
    """

    arrays: Mapping[str, jax.ShapeDtypeStruct]
    classes: int | None = None
    labels: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    contents: tuple[Content, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset, contents: tuple[Content, ...] = ()) -> Known:
        """What is known of a data set, with the contents of its splits if they are given."""
        arrays = {name: _row((1, *a.shape[1:]), a.dtype) for name, a in dataset.train.items()}
        vocabulary = tuple(dataset.vocabulary)
        return cls(arrays, dataset.classes, dataset.labels, vocabulary, contents)

    def given(self) -> dict[str, int]:
        """What a builder of models gets where it takes an argument of the name.

        >>> Known({}, vocabulary=("a", "b")).given()
        {'vocabulary': 2}
        """
        classes = {} if self.classes is None else {"classes": self.classes}
        return classes | ({"vocabulary": len(self.vocabulary)} if self.vocabulary else {})

    def to_json(self) -> str:
        """As text, for the folder of a run."""
        arrays = {name: [str(row.dtype), *row.shape[1:]] for name, row in self.arrays.items()}
        return json.dumps({**self._asdict(), "arrays": arrays}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Known:
        """What `to_json` has written; `DataError` where the text is something else."""
        try:
            read = json.loads(text)
            arrays = {name: _row((1, *shape), d) for name, (d, *shape) in read["arrays"].items()}
            classes = None if read["classes"] is None else int(read["classes"])
            contents = tuple(
                Content(str(n), int(rows), str(d)) for n, rows, d in read.get("contents", ())
            )
            texts = _texts(read["labels"]), _texts(read["vocabulary"])
            return cls(arrays, classes, *texts, contents)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError("is not as a run has written it") from error


def _row(shape: Sequence[int], dtype: object) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _texts(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(str, given))
