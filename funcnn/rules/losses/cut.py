"""Rows in chunks, one after the other, on one device and on many."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.rules.shared.arguments import is_known
from funcnn.types import Array


class Cut(NamedTuple):
    """How rows (N, ...) are cut into chunks.

    Spread over many devices each chunk takes one row of every `chunks`, so that it has as many of
    each device; rows are filled up with what counts nowhere, (size, chunks, ...). On one device a
    chunk is rows that follow each other, of which nothing is copied: the last one reaches back over
    rows that are done, and count no more. Where nobody knows how many rows there are, it might
    reach back before the first: they are filled up, too.

    >>> cut, rows = Cut(5, 2, 3, spread=False), jnp.arange(5)
    >>> cut.taken(cut.laid(rows), jnp.array(1)).tolist()
    [2, 3, 4]
    >>> cut.for_the_first_time(jnp.ones(3, bool), jnp.array(1)).tolist()
    [False, True, True]
    >>> cut = Cut(5, 2, 3, spread=True)
    >>> cut.taken(cut.laid(rows), jnp.array(1)).tolist()
    [1, 3, 0]
    """

    rows: int  # N
    chunks: int
    size: int  # rows in a chunk
    spread: bool

    def laid(self, a: Array) -> Array:
        """The rows as the chunks are taken from."""
        more = self.chunks * self.size - self.rows
        if not is_known(more) or (more and self.spread):
            a = jnp.pad(a, [(0, more), *[(0, 0)] * (a.ndim - 1)])
        return a.reshape(self.size, self.chunks, *a.shape[1:]) if self.spread else a

    def taken(self, a: Array, number: Array) -> Array:
        """One chunk (size, ...)."""
        if self.spread:
            return jax.lax.dynamic_index_in_dim(a, number, 1, False)
        return jax.lax.dynamic_slice_in_dim(a, self._start(a, number), self.size)

    def for_the_first_time(self, mask: Array, number: Array) -> Array:
        """The mask of a chunk, less the rows of the chunk before."""
        if self.spread or not is_known(self.rows):
            return mask
        begins = number * self.size
        start = jnp.minimum(begins, self.rows - self.size)
        return mask & (start + jnp.arange(self.size, dtype=start.dtype) >= begins)

    def added(self, a: Array, new: Array, number: Array) -> Array:
        """The rows with a chunk of new ones."""
        if self.spread:
            return jax.lax.dynamic_update_index_in_dim(a, new, number, 1)
        start = self._start(a, number)
        there = jax.lax.dynamic_slice_in_dim(a, start, self.size)
        return jax.lax.dynamic_update_slice_in_dim(a, there + new, start, 0)

    def as_given(self, a: Array) -> Array:
        """Rows that lie as the chunks do, as (N, ...)."""
        if self.spread:
            a = a.reshape(self.size * self.chunks, *a.shape[2:])
        return a if is_known(self.rows) and not self.spread else a[: self.rows]

    def _start(self, a: Array, number: Array) -> Array:
        return jnp.minimum(number * self.size, a.shape[0] - self.size)
