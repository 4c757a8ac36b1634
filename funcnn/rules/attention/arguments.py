"""What is wrong with a call of attention, in one line; and its operands as the blocks want them."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.usage import is_positive_integer, number
from funcnn.rules.attention.blocks import Blocks, Operands
from funcnn.rules.attention.sight import Grid, Sight
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.types import Array, ArrayLike, Key

Window = int | tuple[int | None, int | None] | None
Implementation = Literal["blocks", "cudnn"]


class Given(NamedTuple):
    """The arrays of a call as they came, heads behind places."""

    q: Array  # (B, T, H, W)
    k: Array  # (B, S, K, W)
    v: Array  # (B, S, K, V)
    bias: Array | None  # (B|1, H|1, T|1, S|1)
    mask: Array | None  # (B|1, H|1, T|1, S|1)
    lengths: Array | None  # (B,)
    key: Key | None


class Options(NamedTuple):
    """The static arguments of a call."""

    causal: bool
    window: Window
    scale: float | None
    soft_cap: float | None
    dropout: float
    block: int | tuple[int, int] | None
    implementation: Implementation = "blocks"


def checked(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    bias: ArrayLike | None,
    mask: ArrayLike | None,
    lengths: ArrayLike | None,
    key: Key | None,
) -> Given:
    """The arrays of a call, or a TypeError or ValueError that says which is wrong and how."""
    name = "attention"
    q, k, v = floating(name, q=q, k=k, v=v)
    same_dtype(name, q=q, k=k, v=v)
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(
            f"{name}: q (B, T, heads, W), k (B, S, key heads, W) and v (B, S, key heads, V) have "
            f"four axes, found {describe(q)}, {describe(k)} and {describe(v)}"
        )
    if k.shape[:3] != v.shape[:3] or k.shape[0] != q.shape[0] or k.shape[3] != q.shape[3]:
        raise ValueError(
            f"{name}: q (B, T, heads, W) needs k (B, S, key heads, W) and v (B, S, key heads, V), "
            f"found {describe(q)}, {describe(k)} and {describe(v)}"
        )
    if not k.shape[2] or q.shape[2] % k.shape[2]:
        raise ValueError(
            f"{name}: the heads of q are shared out among those of k, found {q.shape[2]} and "
            f"{k.shape[2]}, which does not divide them"
        )
    everything = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    bias = None if bias is None else _bias(bias, everything)
    mask = None if mask is None else _mask(jnp.asarray(mask), everything)
    lengths = None if lengths is None else _lengths(jnp.asarray(lengths), q.shape[0])
    return Given(q, k, v, bias, mask, lengths, key)


def _bias(bias: ArrayLike, full: tuple[int, int, int, int]) -> Array:
    if isinstance(bias, jax.Array | np.ndarray) and bias.dtype == bool:
        raise TypeError(
            f"attention: bias is added to the scores, found {describe(jnp.asarray(bias))}; give "
            "what is True where a key is seen as mask"
        )
    (bias,) = floating("attention", bias=bias)
    _check_repeats("bias", bias, full)
    return bias


def _mask(mask: Array, full: tuple[int, int, int, int]) -> Array:
    if mask.dtype != bool:
        raise TypeError(
            f"attention: mask is True where a key is seen, found {describe(mask)}; numbers to add "
            "to the scores are the bias"
        )
    _check_repeats("mask", mask, full)
    return mask


def _lengths(lengths: Array, samples: int) -> Array:
    if not jnp.issubdtype(lengths.dtype, jnp.integer) or lengths.shape != (samples,):
        raise ValueError(
            f"attention: lengths are integers ({samples},), how many keys each sample has, "
            f"found {describe(lengths)}"
        )
    return lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)


def _check_repeats(what: str, a: Array, full: tuple[int, int, int, int]) -> None:
    if a.ndim != 4 or any(n not in (1, m) for n, m in zip(a.shape, full, strict=True)):
        # Of two axes nobody can tell which they are where B and T are equal.
        cure = "; of samples and keys it is {0}[:, None, None], of queries and keys {0}[None, None]"
        raise ValueError(
            f"attention: {what} has the axes (samples, heads, queries, keys), each of its length "
            f"in {full} or 1; found {describe(a)}{cure.format(what) if a.ndim == 2 else ''}"
        )


def blocks_of(given: Given, options: Options) -> Blocks:
    """The blocks of a call, or a ValueError for an option outside its range."""
    check_options(options)
    q, k = given.q, given.k
    scale = max(q.shape[3], 1) ** -0.5 if options.scale is None else options.scale
    rows, columns = _block(options.block, q.shape[1], k.shape[1])
    grid = Grid(q.shape[1], k.shape[1], rows, columns)
    group = q.shape[2] // k.shape[2]
    sight = sight_of(options.causal, options.window)
    return Blocks(grid, sight, group, scale, options.soft_cap, options.dropout)


def check_options(options: Options) -> None:
    """A ValueError for an option outside its range, whatever the arrays are.

    >>> check_options(Options(True, None, None, None, 1.0, None))
    Traceback (most recent call last):
    ValueError: attention: dropout is the probability of dropping, at least 0 and below 1, found 1.0
    """
    for name in ("scale", "soft_cap", "dropout"):
        if name == "dropout" or getattr(options, name) is not None:
            number("attention", name, getattr(options, name))
    if options.scale is not None and not math.isfinite(options.scale):
        raise ValueError(f"attention: scale is a finite number or None, found {options.scale}")
    if options.soft_cap is not None and not 0 < options.soft_cap < math.inf:
        raise ValueError(f"attention: soft_cap is positive or None, found {options.soft_cap}")
    if not 0 <= options.dropout < 1:
        raise ValueError(
            "attention: dropout is the probability of dropping, at least 0 and below 1, found "
            f"{options.dropout}"
        )
    if options.implementation not in get_args(Implementation):
        raise ValueError(
            f"attention: implementation is one of {get_args(Implementation)}, "
            f"found {options.implementation!r}"
        )
    sight_of(options.causal, options.window)
    _block(options.block, 1, 1)


def sight_of(causal: bool, window: Window) -> Sight:
    """Which keys a query sees by its place, or a ValueError for a window that is none.

    >>> sight_of(True, 3)
    Sight(before=3, after=0)
    """
    before, after = window if isinstance(window, tuple) and len(window) == 2 else (window, window)
    for bound in (before, after):
        if not (bound is None or (isinstance(bound, int) and bound >= 0)):
            raise ValueError(
                "attention: window is how many keys on each side of its own place a query sees, "
                f"or (before, after), or None; found {window!r}"
            )
    return Sight(before, 0 if causal else after)


# Queries and keys of a block, where nothing else is asked for.
BLOCK = 128


def _block(block: int | tuple[int, int] | None, queries: int, keys: int) -> tuple[int, int]:
    asked = block if isinstance(block, tuple) and len(block) == 2 else (block, block)
    sizes: list[int] = []
    for size, there in zip(asked, (queries, keys), strict=True):
        if not (size is None or is_positive_integer(size)):
            raise ValueError(
                f"attention: block is a positive number of queries and keys, or a pair of them, "
                f"or None, found {block!r}"
            )
        sizes.append(max(1, min(size or BLOCK, there)))
    return sizes[0], sizes[1]


def heads_first(given: Given, blocks: Blocks) -> Operands:
    """The operands as the loop over the blocks wants them, filled up to whole blocks."""
    grid, group = blocks.grid, blocks.group
    bias, mask = (_by_group(a, blocks) for a in (given.bias, given.mask))
    k, v = (_filled(a.transpose(0, 2, 1, 3), 2, grid.columns) for a in (given.k, given.v))
    return Operands(rows_first(given.q, grid, group), k, v, bias, mask, given.lengths, given.key)


def rows_first(a: Array, grid: Grid, group: int) -> Array:
    """(B, T, H, ..) as (B, K, T G, ..), filled up to whole blocks of queries.

    >>> rows_first(jnp.zeros((1, 3, 4, 5)), Grid(3, 3, 2, 2), 2).shape
    (1, 2, 8, 5)
    """
    b, t, h, *width = a.shape
    a = a.reshape(b, t, h // group, group, *width)
    a = _filled(jnp.moveaxis(a, 2, 1), 2, grid.rows)  # (B, K, T, G, ..)
    return a.reshape(b, h // group, a.shape[2] * group, *width)


def places_first(a: Array, grid: Grid, group: int) -> Array:
    """(B, K, T G, W) back as (B, T, H, W), without what was filled up.

    >>> places_first(jnp.zeros((1, 2, 8, 5)), Grid(3, 3, 2, 2), 2).shape
    (1, 3, 4, 5)
    """
    b, k, r, width = a.shape
    a = a.reshape(b, k, r // group, group, width)[:, :, : grid.queries]
    return jnp.moveaxis(a, 1, 2).reshape(b, grid.queries, k * group, width)


def keys_first(a: Array, grid: Grid) -> Array:
    """(B, K, S, W) back as (B, S, K, W), without what was filled up."""
    return a[:, :, : grid.keys].transpose(0, 2, 1, 3)


def bias_as_given(a: Array, given: Array) -> Array:
    """(B|1, K|1, T|1, G|1, S|1) back in the shape of the bias as it came."""
    b, h, t, s = given.shape
    a = a[:, :, :t, :, :s]  # without what was filled up
    return jnp.moveaxis(a, 3, 2).reshape(b, h, t, s)


def _by_group(a: Array | None, blocks: Blocks) -> Array | None:
    """A bias or mask (B|1, H|1, T|1, S|1) as (B|1, K|1, T|1, G|1, S|1)."""
    if a is None:
        return None
    b, h, t, s = a.shape
    a = a.reshape(b, *((1, 1) if h == 1 else (h // blocks.group, blocks.group)), t, s)
    a = jnp.moveaxis(a, 2, 3)  # (b, k, t, g, s)
    a = a if t == 1 else _filled(a, 2, blocks.grid.rows)
    return a if s == 1 else _filled(a, 4, blocks.grid.columns)


def _filled(a: Array, axis: int, block: int) -> Array:
    """Zeros behind the end, up to a multiple of the block, at least one."""
    missing = max(block, -(-a.shape[axis] // block) * block) - a.shape[axis]
    return jnp.pad(a, [(0, missing if n == axis else 0) for n in range(a.ndim)]) if missing else a
