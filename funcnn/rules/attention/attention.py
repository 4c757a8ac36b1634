"""Attention: each query takes a weighted mean of the values, by how well its keys fit."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.attention.arguments import (
    Given,
    Implementation,
    Options,
    Window,
    bias_as_given,
    blocks_of,
    check_options,
    checked,
    heads_first,
    keys_first,
    places_first,
    rows_first,
)
from funcnn.rules.attention.blocks import Blocks, Rows, backward_in_blocks, forward_in_blocks
from funcnn.rules.attention.choice import Choice, chosen
from funcnn.rules.attention.cudnn import backward_by_cudnn, forward_by_cudnn
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, PyTree


@rule
def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    key: Key | None = None,
    *,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    dropout: float = 0.0,
    block: int | tuple[int, int] | None = None,
    implementation: Implementation = "blocks",
) -> Array:
    r"""Attention, y_t = Σ_s p_ts v_s, p_ts = softmax over s of z_ts = scale q_t · k_s + bias_ts.

    Shapes: q (B, T, H, W); k (B, S, K, W) and v (B, S, K, V), where K divides H: head h of the
    queries uses head h // (H / K) of the keys (K = H: each its own; K = 1: all the same); y (B, T,
    H, V); one floating-point dtype. scale is 1/√W unless given. soft_cap c makes c tanh(z/c) of z
    before the bias is added. bias is floating point, (B or 1, H or 1, T or 1, S or 1).

    Which keys query t sees: all, or with `causal` those at s ≤ t, with `window` (before, after), or
    one number for both, those from t - before to t + after; of them the first `lengths` (B,) of a
    sample, all where it is S or more, and those where `mask`, shaped as a bias, is True. A query
    that sees none has y = 0. With `dropout` and a key each p is 0 with that probability, else
    p / (1 - dropout).

    Derivation, for one head, with m_t the largest z of a row, n_t = Σ_s exp(z_ts - m_t) and so
    p_ts = exp(z_ts - m_t) / n_t:
        dv_s = Σ_t p_ts dy_t        dp_ts = dy_t · v_s
        dz_ts = p_ts (dp_ts - Σ_r p_tr dp_tr) = p_ts (dp_ts - Δ_t)
        Δ_t = Σ_r p_tr dy_t · v_r = dy_t · y_t
        dq_t = scale Σ_s dz_ts k_s  dk_s = scale Σ_t dz_ts q_t  dbias_ts = dz_ts,
    summed over the query heads that share a key head, and over the axes along which the bias is
    repeated; a soft cap puts the factor 1 - tanh²(z/c) between dz and dq, dk. Dropout multiplies p
    in dv and dp by the same mask, and leaves Δ = dy · y. That Δ is a sum over W numbers that are
    there, and not over S that are not, is what makes the blocks possible: from m, n and Δ of its
    row each score has its dz, whatever the others are.
    Both passes take `block` queries and keys at a time (one number for both, or a pair). The
    forward pass keeps the largest score so far, and corrects the sums when a larger one comes;
    pairs of blocks in which no query sees a key are left out. Products are summed in float32 at
    least; p and dz are rounded to the dtype of q before they are multiplied, as the inputs are.
    With implementation="cudnn" both passes are those of NVIDIA's cuDNN where the program is
    compiled for CUDA and cuDNN does what is asked: bfloat16 or float16, no bias, mask, soft cap or
    dropout, a window that ends at the place of its query. Else it is the blocks;
    `attention_implementation` says which, and why. cuDNN has no second derivative: JAX refuses it.
    Kept for the backward pass: q, k, v, y, which the layers around keep anyway, and m and n of each
    row. Autodiff keeps three arrays T x S a head. There are no kinks. NaN spreads as in the
    products.

    Earns its place in memory, which grows with T and not with T S, and in time where few of the
    pairs are seen or the scores of all heads do not fit into the cache.

    Source: Vaswani et al., Attention is all you need, 2017; Milakov, Gimelshein, Online normalizer
    calculation for softmax, 2018; Dao et al., FlashAttention, 2022 (blocks, and Δ from y).

    Raises:
        TypeError: q, k, v or the bias is not floating point, their dtypes differ, or the mask is
            not of bool.
        ValueError: the shapes do not fit, or an option is outside its range.

    >>> q = k = jnp.zeros((1, 3, 1, 2))
    >>> v = jnp.array([1.0, 3.0, 5.0]).reshape(1, 3, 1, 1)
    >>> attention(q, k, v, causal=True).ravel()
    Array([1., 2., 3.], dtype=float32)
    >>> attention(q, k, v, lengths=jnp.array([2])).ravel()
    Array([2., 2., 2.], dtype=float32)
    """
    given = checked(q, k, v, bias, mask, lengths, key)
    whole = (max(given.q.shape[1], 1), max(given.k.shape[1], 1))
    options = Options(causal, window, scale, soft_cap, dropout, whole, implementation)
    blocks = blocks_of(given, options)
    x = heads_first(given, blocks)
    z = blocks.scores(x, x.q, 0, 0).z  # (B, K, T, G, S)
    highest = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    e = jnp.exp(z - jnp.where(highest == -jnp.inf, 0, highest))
    total = jnp.sum(e, -1, keepdims=True)
    p = blocks.dropped(x, e / jnp.where(total == 0, 1, total), 0, 0)
    p = p.reshape(*x.q.shape[:3], x.k.shape[2]).astype(x.v.dtype)  # (B, K, T G, S)
    y = jnp.einsum("bkts,bksv->bktv", p, x.v, preferred_element_type=accumulator(x.v))
    return places_first(y, blocks.grid, blocks.group).astype(given.q.dtype)


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    mask: Array | None,
    lengths: Array | None,
    key: Key | None,
    **static: Any,
) -> tuple[Array, tuple[Given, Array, Rows]]:
    given = checked(q, k, v, bias, mask, lengths, key)
    options = Options(**static)
    blocks = blocks_of(given, options)
    in_blocks = functools.partial(_forward_in_blocks, blocks)
    if chosen(given, options).name == "cudnn":
        by_cudnn = functools.partial(forward_by_cudnn, blocks)
        y, of_rows = jax.lax.platform_dependent(given, cuda=by_cudnn, default=in_blocks)
    else:
        y, of_rows = in_blocks(given)
    return y, (given, y, of_rows)


def _forward_in_blocks(blocks: Blocks, given: Given) -> tuple[Array, Rows]:
    grid, group = blocks.grid, blocks.group
    y, of_rows = forward_in_blocks(blocks, heads_first(given, blocks))
    # As q lies, so that on many devices they stay with its heads.
    of_rows = jax.tree.map(lambda a: places_first(a[..., None], grid, group)[..., 0], of_rows)
    return places_first(y, grid, group), of_rows  # (B, T, H, V), (B, T, H)


def attention_backward(
    res: tuple[Given, Array, Rows], dy: Array, **static: Any
) -> tuple[Array | None, ...]:
    given, y, of_rows = res
    options = Options(**static)
    blocks = blocks_of(given, options)
    if chosen(given, options).name != "cudnn":
        return (*_backward_in_blocks(blocks, given, y, of_rows, dy), None, None, None)

    def in_blocks(*saved: Any) -> tuple[Array, ...]:
        return _backward_in_blocks(blocks, *saved)[:3]

    by_cudnn = functools.partial(backward_by_cudnn, blocks)
    saved = (given, y, of_rows, dy)
    gradients = jax.lax.platform_dependent(*saved, cuda=by_cudnn, default=in_blocks)
    return (*gradients, None, None, None, None)


def _backward_in_blocks(
    blocks: Blocks, given: Given, y: Array, of_rows: Rows, dy: Array
) -> tuple[Array, Array, Array, Array | None]:
    grid, group, precise = blocks.grid, blocks.group, accumulator(dy)
    delta = jnp.sum(dy.astype(precise) * y.astype(precise), -1)  # (B, T, H)
    delta, dy, shift, total = (rows_first(a, grid, group) for a in (delta, dy, *of_rows))
    of_rows = Rows(shift, jnp.where(total == 0, 1, total))  # 0 where a block was filled up
    dq, dk, dv, dbias = backward_in_blocks(blocks, heads_first(given, blocks), of_rows, delta, dy)
    if given.bias is not None and dbias is not None:
        dbias = bias_as_given(dbias, given.bias).astype(given.bias.dtype)
    dq = places_first(dq, grid, group)
    return dq, keys_first(dk, grid), keys_first(dv, grid), dbias


attention.defvjp(attention_forward, attention_backward)


def attention_implementation(
    *args: ArrayLike | Key | jax.ShapeDtypeStruct | None, **options: Any
) -> Choice:
    """What computes `attention(*args, **options)`, and why, in one line.

    Args:
        args: of the rule, or their shapes as `jax.ShapeDtypeStruct`.
        options: of the rule.

    Returns:
        (name, reason): the name is "cudnn" where a program compiled for CUDA calls cuDNN.

    Raises:
        TypeError, ValueError: as the rule does.

    >>> q = jax.ShapeDtypeStruct((2, 16, 4, 64), jnp.bfloat16)
    >>> attention_implementation(q, q, q, causal=True, implementation="cudnn").name
    'cudnn'
    >>> attention_implementation(q, q, q, window=3, implementation="cudnn").reason
    "cuDNN's window ends at the place of the query: causal=True, or after=0"
    """
    arrays, static = attention.bind(*args, **options)
    check_options(Options(**static))
    return chosen(jax.eval_shape(checked, *arrays), Options(**static))


@attention.defcases
def attention_cases(key: Key) -> Iterator[Case]:
    kq, kk, kv, kb, km, kd = jax.random.split(key, 6)

    def case(
        name: str,
        shape: tuple[int, int, int, int, int, int, int] = (2, 7, 5, 4, 2, 3, 2),
        extra: tuple[PyTree, ...] = (),
        **static: PyTree,
    ) -> Case:
        b, t, s, h, k, width, width_v = shape
        args = normal(kq, (b, t, h, width)), normal(kk, (b, s, k, width))
        return Case(name, (*args, normal(kv, (b, s, k, width_v)), *extra), static, laws=laws)

    # A function of q · k: both sides are Σ dz z.
    def euler(
        args: tuple[PyTree, ...], dy: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[1] * cotangents[1])

    laws = {"sum q dq = sum k dk": euler}
    bias, mask = normal(kb, (2, 4, 7, 5)), normal(km, (2, 1, 7, 5)) > 0
    yield case("one block")
    yield case("blocks", block=(3, 2))
    yield case("causal", (2, 7, 7, 2, 2, 3, 3), causal=True, block=3)
    yield case("window", (1, 9, 9, 2, 1, 2, 2), window=(2, 1), block=2)
    yield case("causal window", (1, 9, 9, 3, 3, 2, 2), window=2, causal=True, block=(2, 3))
    yield case("lengths", extra=(None, None, jnp.array([0, 3])), block=2)
    yield case(
        "every option", extra=(bias, mask, jnp.array([5, 4])), soft_cap=0.75, scale=0.5, block=3
    )
    yield case("bias of keys", extra=(bias[:1, :, :1], mask[:, :, :1]), block=(4, 2))
    yield case("dropout", extra=(None, None, None, kd), dropout=0.3, causal=True, block=(3, 2))
    yield case("nothing seen", extra=(None, jnp.zeros((2, 1, 1, 5), bool)))
    yield case("one query", (2, 1, 5, 2, 2, 3, 2), block=2)
    yield case("size one", (1, 1, 1, 1, 1, 1, 1))
    yield case("no queries", (2, 0, 5, 2, 2, 3, 2))
    yield case("no keys", (2, 3, 0, 2, 2, 3, 2))
    yield case("no samples", (0, 3, 5, 2, 2, 3, 2))
    yield case("more keys seen than there are", (1, 6, 3, 1, 1, 2, 2), window=1, block=2)
