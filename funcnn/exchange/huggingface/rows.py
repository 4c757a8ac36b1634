"""An array of theirs, and the leaves of our params that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from funcnn.types import Shape


class Row(NamedTuple):
    """What one name of theirs holds of ours.

    Attributes:
        name: of their array; with {} where each block has its own, which is stacked in ours.
        leaves: the paths of ours, side by side on the last axis where there are several.
        turned: whether theirs is (out, in), as of torch's Linear, and ours (in, out).

    >>> row = Row("h.{}.attn.c_attn.bias", ("q/b", "k/b"))
    >>> row.names(2), [a.tolist() for a in row.parts(np.arange(5), [3, 2])]
    (['h.0.attn.c_attn.bias', 'h.1.attn.c_attn.bias'], [[0, 1, 2], [3, 4]])
    >>> row.joined([np.arange(3), np.arange(2)]).tolist()
    [0, 1, 2, 0, 1]
    """

    name: str
    leaves: tuple[str, ...]
    turned: bool = False

    @property
    def stacked(self) -> bool:
        """Whether each block has an array of its own."""
        return "{}" in self.name

    def names(self, depth: int) -> list[str]:
        """The names of their arrays, of each block or of one for all."""
        return [self.name.format(i) for i in range(depth)] if self.stacked else [self.name]

    def shapes(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        """The shapes of our leaves, those of one block where they are stacked."""
        return [shapes[leaf][1 if self.stacked else 0 :] for leaf in self.leaves]

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The shape of their array, from those of our leaves."""
        own = self.shapes(shapes)
        whole = (*own[0][:-1], sum(shape[-1] for shape in own))
        return whole[::-1] if self.turned else whole

    def parts(self, a: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
        """Our leaves, out of their array."""
        return np.split(a.T if self.turned else a, np.cumsum(widths)[:-1], axis=-1)

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Their array, out of our leaves."""
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
        return np.ascontiguousarray(whole.T if self.turned else whole)


def in_force(rows: Sequence[Row], leaves: Mapping[str, object]) -> list[Row]:
    """The rows of a model that has these leaves: a bias or a head, say, may not be among them.

    >>> in_force([Row("wte.weight", ("tokens/table",)), Row("lm_head.weight", ("head/w",))],
    ...     {"tokens/table": 0})
    [Row(name='wte.weight', leaves=('tokens/table',), turned=False)]
    """
    return [row for row in rows if set(row.leaves) <= set(leaves)]
