"""Self-attention: queries, keys and values of x, attention between its places, and a product."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.core.beside import apart, pass_beside, together
from funcnn.core.composition import chain, parallel
from funcnn.core.layer import Layer, constructor, no_params
from funcnn.core.memory import Memory, Piece, SeesAhead
from funcnn.core.usage import hashable, in_a_word, number, positive_integer
from funcnn.layers.linear import Initializer, dense
from funcnn.rules.attention.arguments import Implementation, Options, check_options, sight_of
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, DType, Key, Params, PyTree, Residuals

# Radford et al. 2019, for every product of a transformer.
SMALL = jax.nn.initializers.normal(0.02)


@constructor
def attend(
    heads: int,
    *,
    key_heads: int | None = None,
    causal: bool = False,
    window: int | tuple[int, int] | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    rotary: float | None = None,
    alibi: bool = False,
    dropout: float = 0.0,
    implementation: Implementation = "blocks",
) -> Layer:
    """Attention between the places of (q, k, v), each (B, T, heads W), by `fnn.rules.attention`.

    Of a pair ((q, k, v), seen) it makes (y, seen): `seen` are lengths (B,), integers, of which each
    query sees that many first keys, or a mask of keys, (B, S) or (B or 1, heads or 1, T or 1, S) of
    bool. So padding is not seen; what stands at padded queries means nothing.

    Args:
        heads: of q.
        key_heads: of k and v, which divide `heads`; None for as many.
        causal, window, scale, soft_cap: as in the rule.
        rotary: the base of rotary positions, 10000.0 say; None for none.
        alibi: whether scores fall with the distance (`alibi`), for `causal` attention.
        dropout: with a key, the probability with which a weight is dropped.
        implementation: "blocks", or "cudnn" where that is there, as in the rule.

    Raises:
        ValueError: an option is outside its range.

    >>> q = jnp.zeros((1, 3, 4))
    >>> attend(2, causal=True)({}, (q, q, jnp.arange(12.0).reshape(1, 3, 4)))[0, :, 0]
    Array([0., 2., 4.], dtype=float32)
    >>> attend(2)({}, ((q, q, jnp.arange(12.0).reshape(1, 3, 4)), jnp.array([2])))[0][0, :, 0]
    Array([2., 2., 2.], dtype=float32)
    """
    heads = positive_integer("attend", "heads", heads)
    key_heads = heads if key_heads is None else positive_integer("attend", "key_heads", key_heads)
    if heads % key_heads:
        raise ValueError(f"attend: key_heads divide heads, found {key_heads} and {heads}")
    if alibi and not causal:
        raise ValueError("attend: alibi is of distances to what came before: give causal=True")
    number("attend", "dropout", dropout)
    if rotary is not None:
        number("attend", "rotary", rotary)
        if not 1 < rotary < math.inf:
            raise ValueError(f"attend: rotary is a base above 1, or None, found {rotary}")
    window = hashable(window)  # a list, in a config
    static = {"causal": causal, "window": window, "scale": scale, "soft_cap": soft_cap}
    static = rules.attention.static_arguments(
        **static, dropout=dropout, implementation=implementation
    )
    check_options(Options(**static))
    of = _Attend(heads, key_heads, rotary, alibi, tuple(static.items()))
    passes, memory = (of.apply, of.forward, of.recursion), Memory(of.start, of.go_on)
    return Layer("attend", no_params, *passes, rule=rules.attention, memory=memory)


@dataclasses.dataclass(frozen=True)
class _Attend:
    heads: int
    key_heads: int
    rotary: float | None
    alibi: bool
    static: tuple[tuple[str, Any], ...]

    def apply(self, params: Params, x: PyTree, key: Key | None) -> PyTree:
        x, seen = apart(x)
        q, k, v = self.split(x)
        if self.rotary is not None:
            q, k = (rules.rotary(a, base=self.rotary) for a in (q, k))
        seen_by_rule = _as_rule(seen, k)
        y = rules.attention(q, k, v, self.bias(k), *seen_by_rule, key, **dict(self.static))
        return together(y.reshape(*y.shape[:2], y.shape[2] * y.shape[3]), seen)  # (B, T, H V)

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        x, seen = apart(x)
        q, k, v = self.split(x)
        if self.rotary is not None:
            q, k = (rules.rotary.forward(a, None, base=self.rotary)[0] for a in (q, k))
        args = (q, k, v, self.bias(k), *_as_rule(seen, k), key)
        y, (given, _, of_rows) = rules.attention.forward(*args, **dict(self.static))
        y = y.reshape(*y.shape[:2], y.shape[2] * y.shape[3])  # (B, T, H V)
        # The heads together, as the next layer takes them and keeps them: one array and not two.
        # Likewise `seen` as it came, of which a stack of layers keeps one.
        return together(y, seen), (given._replace(mask=None, lengths=None), seen, y, of_rows)

    def recursion(
        self, params: Params, res: Residuals, dy: PyTree
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        given, seen, y, of_rows = res
        dy = dy if seen is None else dy[0]
        mask, lengths = _as_rule(seen, given.k)
        given = given._replace(mask=mask, lengths=lengths)
        b, t, h, _ = given.q.shape
        y, dy = (a.reshape(b, t, h, given.v.shape[3]) for a in (y, dy))
        dq, dk, dv, *_ = rules.attention.backward((given, y, of_rows), dy, **dict(self.static))
        if self.rotary is not None:
            dq, dk = (rules.rotary.backward(None, a, base=self.rotary)[0] for a in (dq, dk))
        dx = tuple(a.reshape(*a.shape[:2], a.shape[2] * a.shape[3]) for a in (dq, dk, dv))
        return {}, dx if seen is None else (dx, None), {}

    def start(self, params: Params, x: PyTree, length: int) -> dict[str, Array]:
        _, k, v = self.split(x)
        if not dict(self.static)["causal"]:
            raise SeesAhead(
                "attend: a cache holds what came before, and this attention sees what comes after, "
                "too: causal=True"
            )
        return {
            name: jnp.zeros((a.shape[0], length, *a.shape[2:]), a.dtype)  # (B, S, K, W)
            for name, a in (("k", k), ("v", v))
        }

    def go_on(
        self, params: Params, x: PyTree, cache: PyTree, piece: Piece
    ) -> tuple[Array, dict[str, Array]]:
        if not cache:
            raise ValueError("attend: no cache of this layer: fnn.start_cache(model, ...) makes it")
        q, k, v = self.split(x)
        if self.rotary is not None:
            q, k = (rules.rotary(a, piece.positions, base=self.rotary) for a in (q, k))
        cache = {n: _written(cache[n], a, piece) for n, a in (("k", k), ("v", v))}  # (B, S, K, W)
        static = dict(self.static)
        sight = sight_of(static["causal"], static["window"])
        t = piece.positions[:, :, None]
        s = jnp.arange(cache["k"].shape[1], dtype=t.dtype)[None, None]
        seen = s <= t  # (B, T, S)
        seen = seen if sight.before is None else seen & (s >= t - sight.before)
        bias = None
        if self.alibi:
            bias = alibi(self.heads, s.size, accumulator(q), piece.positions[:, -1])
        if q.shape[1] == 1:
            static["block"] = (1, s.size)  # one query has no use for keys in pieces
        static |= {"causal": False, "window": None}
        y = rules.attention(q, cache["k"], cache["v"], bias, seen[:, None], None, None, **static)
        return y.reshape(*y.shape[:2], y.shape[2] * y.shape[3]), cache  # (B, T, H V)

    def split(self, x: PyTree) -> tuple[Array, Array, Array]:
        """The heads apart: q (B, T, H, W), k and v (B, T, K, W)."""
        if not (isinstance(x, tuple) and len(x) == 3 and all(a.ndim == 3 for a in x)):
            raise TypeError(
                "attend: x is (q, k, v), each of shape (B, T, heads W), or ((q, k, v), seen), "
                "where seen is lengths, integers (B,), or a mask of bool"
            )
        split: list[Array] = []
        for what, a, heads in zip("qkv", x, (self.heads, *2 * (self.key_heads,)), strict=True):
            b, t, width = a.shape
            if width % heads:
                raise ValueError(
                    f"attend: the last axis of {what} is shared out among {heads} heads, "
                    f"found {width} numbers"
                )
            split.append(a.reshape(b, t, heads, width // heads))
        return split[0], split[1], split[2]

    def bias(self, k: Array) -> Array | None:
        # In bfloat16 the distances would be rounded.
        return alibi(self.heads, k.shape[1], accumulator(k)) if self.alibi else None


def _as_rule(seen: Array | None, k: Array) -> tuple[Array | None, Array | None]:
    """The mask and the lengths that the rule takes for k (B, S, K, W), one of them None."""
    if seen is None or seen.dtype != bool:
        return None, seen
    if seen.ndim == 2 and seen.shape != k.shape[:2]:
        raise ValueError(
            f"attend: a mask of keys is (B, S), here {k.shape[:2]}, and one of queries and keys "
            f"(1, 1, T, S), found {in_a_word(seen)}"
        )
    return (seen[:, None, None] if seen.ndim == 2 else seen), None  # (B, 1, 1, S)


def _written(cache: Array, new: Array, piece: Piece) -> Array:
    """The cache with new keys or values in their places.

    Padding is written as zeros beyond the end of its row, where what comes next is written over it;
    NaN would reach all that looks at the row, 0 of it too.
    """
    b, t = new.shape[:2]
    there = jnp.arange(t, dtype=jnp.int32)[None] < piece.lengths[:, None]  # (B, T)
    new = jnp.where(there[:, :, None, None], new, 0)
    return cache.at[jnp.arange(b, dtype=jnp.int32)[:, None], piece.positions].set(new, mode="drop")


@constructor
def self_attention(
    width: int,
    heads: int,
    *,
    key_heads: int | None = None,
    bias: bool = True,
    initializer: Initializer = SMALL,
    last_initializer: Initializer | None = None,
    **options: Any,
) -> Layer:
    """y = attend(x w_q, x w_k, x w_v) w_o, with x (B, T, D) and y (B, T, width).

    Of a pair (x, seen) it makes (y, seen): lengths or a mask of keys, as in `attend`.

    Args:
        width: of y; each head has width // heads numbers.
        heads: of the queries.
        key_heads: of keys and values, which divide `heads`; None for as many.
        bias: whether the products have a b.
        initializer, last_initializer: draw w_q, w_k, w_v, and w_o (None: the same).
        options: of `attend`: causal, window, scale, soft_cap, rotary, alibi, dropout,
            implementation.

    Raises:
        ValueError: an option is outside its range, or heads do not divide width.

    >>> params = self_attention(6, 3).init(jax.random.key(0), jnp.ones((1, 2, 4)))
    >>> jax.tree.map(jnp.shape, params["heads"]["q"]), params["out"]["w"].shape
    ({'b': (6,), 'w': (4, 6)}, (6, 6))
    """
    of_heads = heads_of("self_attention", width, heads, key_heads, bias, initializer)
    out = dense(width, bias=bias, initializer=last_initializer or initializer)
    of_places = attend(heads, key_heads=key_heads, **options)
    return chain(heads=pass_beside(of_heads), attend=of_places, out=pass_beside(out))


def heads_of(
    what: str,
    width: int,
    heads: int,
    key_heads: int | None,
    bias: bool,
    initializer: Initializer,
) -> Layer:
    """The three products before attention: a tuple (q, k, v), each (B, T, its heads · W).

    >>> heads_of("block", 6, 3, 1, True, SMALL)
    parallel(q=dense, k=dense, v=dense)
    """
    heads, width = positive_integer(what, "heads", heads), positive_integer(what, "width", width)
    if width % heads:
        raise ValueError(f"{what}: heads divide width, found {heads} and {width}")
    of_keys = (key_heads or heads) * (width // heads)
    sizes = {"q": width, "k": of_keys, "v": of_keys}
    return parallel(**{n: dense(m, bias=bias, initializer=initializer) for n, m in sizes.items()})


def alibi(heads: int, keys: int, dtype: DType = float, last: Array | None = None) -> Array:
    """The bias of attention that makes distant keys count less, (1, heads, 1, keys).

    Head h adds -m_h (t - s) to the score of query t and key s ≤ t, with m_h from 2^(-8/heads) down
    to 2^-8 in equal ratios. The softmax of a row does not change where all of its scores change by
    the same, so m_h s is enough: one number for each key and no table of queries and keys. It is 0
    for the last key, or for those that are `last`, (B,): near the queries the numbers are small,
    and exact.
    Source: Press, Smith, Lewis, Train short, test long, 2021.

    >>> alibi(2, 3)[0, :, 0]
    Array([[-0.125     , -0.0625    ,  0.        ],
           [-0.0078125 , -0.00390625,  0.        ]], dtype=float32)
    """
    slopes = jnp.exp2(jnp.arange(1.0, heads + 1) * (-8 / heads))[None, :, None]  # (1, heads, 1)
    end = jnp.array([keys - 1], jnp.int32) if last is None else last
    distance = jnp.arange(keys, dtype=jnp.int32)[None] - end[:, None]  # (B or 1, keys)
    bias = slopes * distance.astype(slopes.dtype)[:, None]  # (B or 1, heads, keys)
    return bias[:, :, None].astype(dtype)
