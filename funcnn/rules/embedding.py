"""Embedding: rows of a table by their numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.devices import device_count
from funcnn.core.registry import Case, rule
from funcnn.rules.shared.arguments import describe, floating, is_known
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, PyTree


@rule
def embedding(table: ArrayLike, indices: ArrayLike) -> Array:
    r"""Rows of a table, y[n] = table[i[n]].

    Shapes: table (V, D) floating point; indices i (...) integers in [0, V); y (..., D).

    Derivation: ∂y[n,d]/∂table[v,d] = [i[n] = v], so
        dtable[v] = Σ_{n: i[n] = v} dy[n],
    the sum over all places where the row was used, 0 for a row that was not. Indices have no
    cotangent. The map is linear in the table: there are no kinks. An index outside [0, V) is no
    row: its y is NaN, which shows in the loss, and it moves no row of the table (no error can be
    raised under jit). So is a negative one, as a label of `softmax_cross_entropy` is, where
    `jnp.take` and flax would count from the end and train the last row for a padding of -1.
    Kept for the backward pass: the indices, as autodiff does; of the table only its shape.

    On a CPU the sum is a scatter, which adds row after row and is the fastest there. Elsewhere
    rows that meet in one place would wait for one another in an atomic addition, in no fixed
    order: there the rows of dy are sorted by index, added up within each run of equal indices,
    neighbours first (a segmented scan), and the last row of each run, which holds its sum, is
    written to its place. A product with the one-hot matrix would hold N V numbers more. Where
    `jax.export` leaves N open, it is the scatter everywhere.

    On a mesh, which the types of i and dy name, the rows are sorted in as many equal pieces as it
    has devices: one sort would gather the rows of all on each, but of pieces each device sorts its
    own, and only the tables are summed over the devices. What two pieces of a device have for one
    place is added there by an atomic addition. A device has one piece, or, where n devices share
    the same rows, n of them; with more than two the order of these additions is not fixed.

    Earns its place by accuracy in bfloat16, where the sum is taken in float32: autodiff adds in
    bfloat16, in which 256 + 1 is 256. On a CPU in float32 it does what autodiff does; on a GPU it
    adds without atomics and gives the same bits each time.

    Source: Blelloch, Prefix sums and their applications, 1990, for the segmented scan.

    Raises:
        TypeError: the table is not floating point, or the indices no integers.
        ValueError: the table has not two axes.

    >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> embedding(table, jnp.array([2, 0, 2]))
    Array([[5., 6.],
           [1., 2.],
           [5., 6.]], dtype=float32)
    >>> jax.grad(lambda t: embedding(t, jnp.array([2, 0, 2])).sum())(table)
    Array([[1., 1.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """
    table, indices = _checked(table, indices)
    return table.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def embedding_forward(table: Array, indices: Array) -> tuple[Array, tuple[Array, Array]]:
    table, indices = _checked(table, indices)
    # The rows alone say how many there are; without columns they take no memory.
    return embedding.reference(table, indices), (table[:, :0], indices)


def embedding_backward(res: tuple[Array, Array], dy: Array) -> tuple[Array, None]:
    nothing, indices = res
    dy_rows = dy.reshape(indices.size, dy.shape[-1]).astype(accumulator(dy))  # (N, D)
    zeros = jnp.zeros((nothing.shape[0], dy.shape[-1]), dy_rows.dtype)  # (V, D)
    add = add_rows_by_scatter
    if is_known(indices.size):  # a scan in pairs needs to know of how many
        pieces = math.gcd(indices.size, device_count(indices, dy))
        add = functools.partial(add_rows_by_sorting, pieces=pieces)
    dtable = jax.lax.platform_dependent(
        zeros, indices.ravel(), dy_rows, cpu=add_rows_by_scatter, default=add
    )
    return dtable.astype(dy.dtype), None


def add_rows_by_scatter(table: Array, indices: Array, rows: Array) -> Array:
    """The table with row n added at indices[n]; those outside are left out.

    >>> add_rows_by_scatter(jnp.zeros((2, 1)), jnp.array([1, 1, 2]), jnp.ones((3, 1))).ravel()
    Array([0., 2.], dtype=float32)
    """
    return table.at[indices].add(rows, mode="drop", wrap_negative_indices=False)


def add_rows_by_sorting(table: Array, indices: Array, rows: Array, pieces: int = 1) -> Array:
    """The same by a sort and a scan, of each of so many equal pieces of the rows by itself.

    No two additions of one piece are at one place.

    >>> add_rows_by_sorting(jnp.zeros((2, 1)), jnp.array([1, 1, 2]), jnp.ones((3, 1))).ravel()
    Array([0., 2.], dtype=float32)
    """
    if indices.size == 0:
        return table
    summed = functools.partial(_sums_of_runs, outside=table.shape[0])
    if pieces > 1:
        indices, rows = (a.reshape(pieces, -1, *a.shape[1:]) for a in (indices, rows))
        summed = jax.vmap(summed)
    place, sums = summed(indices, rows)
    return table.at[place].add(
        sums, mode="drop", unique_indices=pieces == 1, wrap_negative_indices=False
    )


def _sums_of_runs(indices: Array, rows: Array, outside: int) -> tuple[Array, Array]:
    """Places (N,), none of them twice, and what is to be added there (N, D).

    The sum over all rows of one index stands at that one; all else is sent outside, as are the rows
    of an index that is no place.
    """
    order = jnp.argsort(indices, stable=True)
    indices, rows = indices[order], rows[order]
    changes = indices[1:] != indices[:-1]
    edge = jnp.ones(1, bool)

    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        (left_starts, left_sum), (right_starts, right_sum) = left, right
        total = jnp.where(right_starts, right_sum, left_sum + right_sum)
        return left_starts | right_starts, total

    starts = jnp.concatenate([edge, changes])[:, None]  # (N, 1)
    _, sums = jax.lax.associative_scan(join, (starts, rows))  # of each run up to here, (N, D)
    ends = jnp.concatenate([changes, edge])
    elsewhere = outside + jnp.arange(indices.size, dtype=indices.dtype)
    inside = ends & (indices >= 0) & (indices < outside)
    return jnp.where(inside, indices, elsewhere), sums


def _checked(table: ArrayLike, indices: ArrayLike) -> tuple[Array, Array]:
    (table,), indices = floating("embedding", table=table), jnp.asarray(indices)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"embedding: indices must be integers, found {describe(indices)}")
    if table.ndim != 2:
        raise ValueError(f"embedding: table must have shape (V, D), found {describe(table)}")
    # A narrow integer cannot count the rows.
    return table, indices if indices.dtype.itemsize >= 4 else indices.astype(jnp.int32)


embedding.defvjp(embedding_forward, embedding_backward)


@embedding.defcases
def embedding_cases(key: Key) -> Iterator[Case]:
    # Linear in the table: both sides are Σ y dy.
    def euler(
        args: tuple[Array, ...], dy: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[0][args[-1]] * dy)

    laws = {"sum table dtable = sum y dy": euler}

    def case(name: str, rows: int, width: int, indices: int | list[int] | list[list[int]]) -> Case:
        args = normal(key, (rows, width)), jnp.array(indices, int)
        return Case(name, args, laws=laws)

    yield case("repeated", 5, 3, [4, 0, 4, 1, 4, 4, 0])
    yield case("two leading axes", 7, 2, [[0, 5, 6], [6, 6, 1]])
    yield case("one index", 5, 3, 2)
    yield case("one row", 1, 11, [0, 0, 0])
    yield case("no indices", 5, 3, [])
    yield case("no columns", 5, 0, [4, 0])
    yield Case("narrow indices", (normal(key, (5, 1)), jnp.array([3, 3, 0], jnp.uint8)))
