"""Which keys a query sees: by its place, by lengths and masks; and which blocks have any."""

from __future__ import annotations

import functools
import math
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.types import Array, Key


class Sight(NamedTuple):
    """A query at t sees the keys from t - before to t + after; None is no bound."""

    before: int | None
    after: int | None


class Grid(NamedTuple):
    """How T queries and S keys are cut into blocks; the last ones may reach beyond the end."""

    queries: int  # of T
    keys: int  # of S
    rows: int  # queries in a block
    columns: int  # keys in a block

    @property
    def row_blocks(self) -> int:
        """How many blocks of queries, at least one."""
        return max(1, math.ceil(self.queries / self.rows))

    @property
    def column_blocks(self) -> int:
        """How many blocks of keys, at least one."""
        return max(1, math.ceil(self.keys / self.columns))

    def pairs(self, sight: Sight) -> list[tuple[int, int]]:
        """The pairs of a block of queries and a block of keys in which any query may see any key.

        Ordered by the queries; each of their blocks is there at least once.

        >>> Grid(4, 4, 2, 2).pairs(Sight(None, 0))
        [(0, 0), (1, 0), (1, 1)]
        >>> Grid(6, 2, 2, 2).pairs(Sight(0, 0))
        [(0, 0), (1, 0), (2, 0)]
        """
        found: list[tuple[int, int]] = []
        for i in range(self.row_blocks):
            first, last = i * self.rows, min((i + 1) * self.rows, self.queries) - 1
            low = 0 if sight.before is None else max(0, first - sight.before)
            high = self.keys - 1 if sight.after is None else min(self.keys - 1, last + sight.after)
            blocks = range(low // self.columns, high // self.columns + 1)
            found += [(i, j) for j in blocks] or [(i, 0)]
        return found


def block_of(a: Array, grid: Grid, i: Array | int, j: Array | int) -> Array:
    """The part of a (.., T or 1, .., S or 1) that belongs to block i of queries and j of keys.

    >>> block_of(jnp.arange(6).reshape(1, 1, 1, 1, 6), Grid(1, 6, 1, 2), 0, 2).ravel()
    Array([4, 5], dtype=int32)
    """
    _, _, t, _, s = a.shape
    a = part_of(a, i * grid.rows, grid.rows, 2) if t > 1 else a
    return part_of(a, j * grid.columns, grid.columns, 4) if s > 1 else a


def part_of(a: Array, start: Array | int, size: int, axis: int) -> Array:
    """So many numbers along an axis; a whole axis from 0 is left, which every exporter knows.

    >>> part_of(jnp.arange(5), 2, 2, 0)
    Array([2, 3], dtype=int32)
    """
    if isinstance(start, int) and start == 0 and a.shape[axis] <= size:
        return a
    return jax.lax.dynamic_slice_in_dim(a, start, min(size, a.shape[axis]), axis)


def seen(
    sight: Sight,
    grid: Grid,
    i: Array | int,
    j: Array | int,
    lengths: Array | None,
    mask: Array | None,
) -> Array | None:
    """Which keys of block j the queries of block i see, (B|1, K|1, rows|1, G|1, columns), or all.

    >>> seen(Sight(None, 0), Grid(4, 4, 2, 2), 1, 1, None, None)[0, 0, :, 0]
    Array([[ True, False],
           [ True,  True]], dtype=bool)
    """
    t = (i * grid.rows + jnp.arange(grid.rows)).reshape(1, 1, grid.rows, 1, 1)
    s = (j * grid.columns + jnp.arange(grid.columns)).reshape(1, 1, 1, 1, grid.columns)
    conditions: list[Array] = []
    if sight.after is not None:
        conditions.append(s <= t + sight.after)
    if sight.before is not None:
        conditions.append(s >= t - sight.before)
    if grid.columns * grid.column_blocks > grid.keys:
        conditions.append(s < grid.keys)
    if lengths is not None:
        conditions.append(s.astype(lengths.dtype) < lengths[:, None, None, None, None])
    if mask is not None:
        conditions.append(block_of(mask, grid, i, j))
    return functools.reduce(operator.and_, conditions) if conditions else None


def spared(
    key: Key, rate: float, grid: Grid, i: Array | int, j: Array | int, heads: tuple[int, int, int]
) -> Array:
    """What dropout leaves of a pair of blocks, (B, K, rows, G, columns), for `heads` = (B, K, G).

    The bits belong to the place (t, s) of query and key, however these are cut into blocks, so
    that the backward pass draws them again.
    """
    threshold = jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    t = i * grid.rows + jnp.arange(grid.rows)
    s = j * grid.columns + jnp.arange(grid.columns)

    def drawn(t: Array, s: Array) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(key, t), s)
        return jax.random.bits(own, heads, jnp.uint32)

    bits = jax.vmap(jax.vmap(drawn, (None, 0)), (0, None))(t, s)  # (rows, columns, B, K, G)
    return bits.transpose(2, 3, 0, 4, 1) >= threshold
