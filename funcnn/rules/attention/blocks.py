"""Attention in blocks: the pairs of a block of queries and one of keys, one after the other.

Both passes are one loop over the pairs that have any key to show (sight.py), ordered by the
queries, so that a block of queries is done when the next begins. Of a pair there are rows x columns
scores for each head, and nothing of the size T x S is ever there.

Heads come first here. The G query heads that share a key head are rows of one product: row
t G + g is query t of head g of the group. So q is (B, K, T G, W) and k (B, K, S, W).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.core.devices import varying_as
from funcnn.rules.attention.sight import Grid, Sight, block_of, part_of, seen, spared
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Key


class Operands(NamedTuple):
    """Heads first, filled up to whole blocks; bias and mask are (B|1, K|1, T|1, G|1, S|1)."""

    q: Array  # (B, K, T G, W)
    k: Array  # (B, K, S, W)
    v: Array  # (B, K, S, V)
    bias: Array | None
    mask: Array | None
    lengths: Array | None  # (B,)
    key: Key | None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What is known of a call before it runs: its grid, and how a score is made."""

    grid: Grid
    sight: Sight
    group: int  # query heads that share a key head
    scale: float
    soft_cap: float | None
    rate: float

    def scores(self, x: Operands, q: Array, i: Array | int, j: Array | int) -> Scores:
        """Those of block i of queries, given as q, with block j of keys."""
        grid = self.grid
        k = keys_of(x.k, grid, j)
        z = product(q, k, 3, 3) * self.scale  # (B, K, rows G, columns)
        z = z.reshape(*z.shape[:2], grid.rows, self.group, grid.columns)
        slope = None
        if self.soft_cap is not None:
            z = jnp.tanh(z / self.soft_cap)
            z, slope = self.soft_cap * z, 1 - z * z
        if x.bias is not None:
            z = z + block_of(x.bias, grid, i, j).astype(z.dtype)
        visible = seen(self.sight, grid, i, j, x.lengths, x.mask)
        z = z if visible is None else jnp.where(visible, z, -jnp.inf)
        return Scores(z, slope)

    def dropped(self, x: Operands, p: Array, i: Array | int, j: Array | int) -> Array:
        """p (B, K, rows, G, columns) with some of it 0 and the rest larger, where there is a key.

        It is linear: its backward pass is the same."""
        if x.key is None or not self.rate:
            return p
        b, k, _, g, _ = p.shape
        left = spared(x.key, self.rate, self.grid, i, j, (b, k, g))
        return jnp.where(left, p / (1 - self.rate), 0)


class Scores(NamedTuple):
    """z (B, K, rows, G, columns), -∞ where a key is not seen, and the slope of the soft cap."""

    z: Array
    slope: Array | None


def forward_in_blocks(blocks: Blocks, x: Operands) -> tuple[Array, Rows]:
    """y (B, K, T G, V), and of each row what its p is made with."""
    pairs = blocks.grid.pairs(blocks.sight)
    (b, k, r, _), width, precise = x.q.shape, x.v.shape[-1], accumulator(x.q)
    rows, share = blocks.grid.rows * blocks.group, _share(blocks.grid.keys, x.v)
    fresh = Online(
        jnp.zeros((b, k, rows, width), precise),
        jnp.full((b, k, rows), -jnp.inf, precise),
        jnp.zeros((b, k, rows), precise),
    )

    def step(
        carry: tuple[Array, Rows, Online], pair: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Rows, Online], None]:
        y, of_rows, online = carry
        i, j, first = pair
        online = jax.tree.map(lambda new, old: jnp.where(first, new, old), fresh, online)
        z = blocks.scores(x, rows_of(x.q, rows, i), i, j).z
        maximum = jnp.maximum(online.maximum, jnp.max(z, -1).reshape(online.maximum.shape))
        maximum = jax.lax.stop_gradient(maximum)  # y does not depend on it
        shift = jnp.where(maximum == -jnp.inf, 0, maximum)  # (B, K, rows G)
        e = jnp.exp(z - shift.reshape(*z.shape[:-1], 1))  # (B, K, rows, G, columns)
        shrink = jnp.exp(online.maximum - shift)  # 0 where nothing has been seen before
        total = online.total * shrink + jnp.sum(e, -1).reshape(shrink.shape)
        e = blocks.dropped(x, e * share, i, j).reshape(b, k, rows, blocks.grid.columns)
        e = e.astype(x.v.dtype)
        part = product(e, keys_of(x.v, blocks.grid, j), 3, 2)  # (B, K, rows G, V)
        online = Online(online.sum * shrink[..., None] + part, maximum, total)
        ended = online.ended(share)
        y, of_rows = jax.tree.map(
            lambda all, new: jax.lax.dynamic_update_slice_in_dim(
                all, new.astype(all.dtype), i * rows, 2
            ),
            (y, of_rows),
            ended,
        )
        return (y, of_rows, online), None

    nothing = jnp.zeros((b, k, r), precise)
    start = jnp.zeros((b, k, r, width), x.q.dtype), Rows(nothing, nothing), fresh
    fresh = varying_as(fresh, x)
    (y, of_rows, _), _ = jax.lax.scan(step, varying_as(start, x), _steps(pairs))
    return y, of_rows


class Rows(NamedTuple):
    """Of each row p = exp(z - shift) / total; (B, K, T G) each, and (B, T, H) between the passes.

    Their one number shift + log total would do, and be rounded: p would be wrong by as much as that
    is, in all of a row alike, and what should cancel in dz would not.
    """

    shift: Array
    total: Array


class Online(NamedTuple):
    """What is known of a block of queries after some blocks of keys: all of it but for a factor.

    Source: Milakov, Gimelshein, Online normalizer calculation for softmax, 2018."""

    sum: Array  # Σ share exp(z - maximum) v, (B, K, rows G, V)
    maximum: Array  # of the scores so far, (B, K, rows G)
    total: Array  # Σ exp(z - maximum)

    def ended(self, share: float) -> tuple[Array, Rows]:
        """y of the block, and what its p is made with; 0 for a row that has seen nothing."""
        total = jnp.where(self.total == 0, 1, self.total)
        shift = jnp.where(self.maximum == -jnp.inf, 0, self.maximum)
        return self.sum / (total * share)[..., None], Rows(shift, total)


def _share(keys: int, v: Array) -> float:
    """What exp(z - maximum) ≤ 1 is multiplied by, so that no sum over keys exceeds the largest v.

    A power of two, which rounds nothing; 1 where the sums have more range than v (float16).
    """
    if jnp.finfo(accumulator(v)).maxexp > jnp.finfo(v.dtype).maxexp:
        return 1.0
    return 2.0 ** -max(keys - 1, 0).bit_length()


def backward_in_blocks(
    blocks: Blocks, x: Operands, of_rows: Rows, delta: Array, dy: Array
) -> tuple[Array, Array, Array, Array | None]:
    """dq, dk, dv in the shapes of q, k, v, and dbias in that of the bias."""
    pairs = blocks.grid.pairs(blocks.sight)
    grid, rows, precise = blocks.grid, blocks.grid.rows * blocks.group, accumulator(x.q)
    # dz is near 1 / S of dy, which float16 can only hold with few digits, and bfloat16 as dy.
    narrow = x.q.dtype if jnp.finfo(x.q.dtype).minexp < -100 else precise

    def step(carry: Gradients, pair: tuple[Array, Array, Array]) -> tuple[Gradients, None]:
        i, j, first = pair
        q, dy_i = rows_of(x.q, rows, i), rows_of(dy, rows, i)
        z, slope = blocks.scores(x, q, i, j)
        shift, total, of_dp = (
            rows_of(a, rows, i).reshape(*z.shape[:-1], 1) for a in (*of_rows, delta)
        )  # (B, K, rows, G, 1)
        p = jnp.exp(z - shift) / total  # (B, K, rows, G, columns)
        flat = (*q.shape[:3], grid.columns)  # (B, K, rows G, columns)
        dp = product(dy_i, keys_of(x.v, grid, j), 3, 3).reshape(z.shape)
        dp = blocks.dropped(x, dp, i, j)
        dz = p * (dp - of_dp)
        dbias = carry.bias
        if dbias is not None:
            dbias = _add_block(dbias, grid, i, j, dz)
        ds = (dz if slope is None else dz * slope).reshape(flat).astype(narrow)
        weights = blocks.dropped(x, p, i, j).reshape(flat).astype(dy.dtype)
        k_j = keys_of(x.k, grid, j).astype(narrow)
        dq_i = jnp.where(first, 0, carry.q_i) + product(ds, k_j, 3, 2)
        dq = jax.lax.dynamic_update_slice_in_dim(
            carry.q, (dq_i * blocks.scale).astype(q.dtype), i * rows, 2
        )
        dk = _add_rows(carry.k, j * grid.columns, product(ds, q.astype(narrow), 2, 2))
        dv = _add_rows(carry.v, j * grid.columns, product(weights, dy_i, 2, 2))
        return Gradients(dq, dq_i, dk, dv, dbias), None

    b, k, _, width = x.q.shape
    start = Gradients(
        jnp.zeros(x.q.shape, x.q.dtype),
        jnp.zeros((b, k, rows, width), precise),
        jnp.zeros(x.k.shape, precise),
        jnp.zeros(x.v.shape, precise),
        None if x.bias is None else jnp.zeros(x.bias.shape, precise),
    )
    ended, _ = jax.lax.scan(step, varying_as(start, x, dy), _steps(pairs))
    dk = (ended.k * blocks.scale).astype(x.k.dtype)
    return ended.q, dk, ended.v.astype(x.v.dtype), ended.bias


class Gradients(NamedTuple):
    """What the backward pass has summed up so far; q_i is dq of the block of queries at hand."""

    q: Array
    q_i: Array
    k: Array
    v: Array
    bias: Array | None


def product(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    """The product for each sample and head that sums over one axis of each, in float32 at least.

    >>> product(jnp.ones((1, 2, 3, 4)), jnp.ones((1, 2, 5, 4)), 3, 3).shape
    (1, 2, 3, 5)
    """
    axes = (((left_axis,), (right_axis,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(left, right, axes, preferred_element_type=accumulator(left))


def rows_of(a: Array, rows: int, i: Array | int) -> Array:
    """Block i of the rows of a, (B, K, T G, ..)."""
    return part_of(a, i * rows, rows, 2)


def keys_of(a: Array, grid: Grid, j: Array | int) -> Array:
    """Block j of keys or values, (B, K, S, ..)."""
    return part_of(a, j * grid.columns, grid.columns, 2)


def _steps(pairs: list[tuple[int, int]]) -> tuple[Array, Array, Array]:
    """The numbers of the blocks of each pair, and whether it is the first with its queries."""
    i = [i for i, _ in pairs]
    first = [n == 0 or i[n - 1] != i[n] for n in range(len(i))]
    return jnp.array(i), jnp.array([j for _, j in pairs]), jnp.array(first)


def _add_rows(a: Array, start: Array, new: Array) -> Array:
    there = jax.lax.dynamic_slice_in_dim(a, start, new.shape[2], 2)
    return jax.lax.dynamic_update_slice_in_dim(a, there + new, start, 2)


def _add_block(dbias: Array, grid: Grid, i: Array, j: Array, dz: Array) -> Array:
    """dbias with dz added to its block, summed over the axes along which the bias is repeated."""
    there = block_of(dbias, grid, i, j)
    repeated = [n for n, (a, z) in enumerate(zip(there.shape, dz.shape, strict=True)) if a != z]
    there = there + jnp.sum(dz, repeated, keepdims=True)
    start = (0, 0, i * grid.rows if dbias.shape[2] > 1 else 0, 0, 0)
    start = (*start[:4], j * grid.columns if dbias.shape[4] > 1 else 0)
    return jax.lax.dynamic_update_slice(dbias, there, start)
