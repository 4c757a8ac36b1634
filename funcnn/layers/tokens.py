"""Tokens and their places at the entrance of a network, and tokens again at its end."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, constructor
from funcnn.core.memory import Memory, Piece
from funcnn.core.parts import require_key
from funcnn.core.usage import function, in_a_word, parameter, positive_integer
from funcnn.layers.attention import SMALL
from funcnn.layers.embedding import embedding
from funcnn.layers.parameters import parameter_dtype
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals


class Tokens(Layer):
    """The layer that makes of tokens numbers, and of numbers the logits of tokens."""


@constructor
def tokens(vocabulary: int, width: int, *, initializer: Function = SMALL) -> Layer:
    """One table for both ends: y = table[x] of integers x (...), y = x tableᵀ of floats (..., D).

    So a composite calls it at its beginning, and at its end for the logits, and the gradient of the
    table is the sum of both (tied weights).

    Args:
        vocabulary: how many rows the table has.
        width: how many numbers a row has.
        initializer: draws the table, as those of `jax.nn.initializers`.

    Raises:
        ValueError: vocabulary or width is not a positive integer.
        TypeError: at `init`, x holds no integers.

    >>> import jax
    >>> layer, x = tokens(5, 4), jnp.array([[2, 0, 1]])
    >>> params = layer.init(jax.random.key(0), x)
    >>> layer(params, x).shape, layer(params, layer(params, x)).shape
    ((1, 3, 4), (1, 3, 5))
    """
    rows = embedding(vocabulary, width, initializer=initializer)

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        if _is_token(x):
            return rows.apply(params, x, key)
        return rules.linear(x, parameter("tokens", params, "table").T)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        if _is_token(x):
            assert rows.forward is not None
            y, res = rows.forward(params, x, key)
            return y, {"rows": res}
        table = parameter("tokens", params, "table")
        return rules.linear.forward(x, table.T, None)[0], {"product": (x, table)}

    def recursion(
        params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        if "rows" in res:
            return *rows.backward(params, res["rows"], dy), {}
        x, table = res["product"]
        dx, dw, _ = rules.linear.backward((x, table.T, None), dy)
        return {"table": dw.T}, dx, {}

    return Tokens("tokens", rows.init, apply, forward, recursion, rule=rules.embedding)


def _is_token(x: PyTree) -> bool:
    return jnp.issubdtype(x.dtype, jnp.integer)


@constructor
def places(length: int, *, initializer: Function = SMALL) -> Layer:
    """y = x + table[:T], one learnt row for each place of x (B, T, D), at most `length` of them.

    Args:
        length: how many rows the table (length, D) has.
        initializer: draws the table, as those of `jax.nn.initializers`.

    Raises:
        ValueError: length is not a positive integer; at the call, x has more places.

    >>> import jax
    >>> layer, x = places(5), jnp.zeros((2, 3, 4))
    >>> params = layer.init(jax.random.key(0), x)
    >>> params["table"].shape, bool(jnp.all(layer(params, x)[1] == params["table"][:3]))
    ((5, 4), True)
    """
    length = positive_integer("places", "length", length)
    function("places", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        require_key(key)
        return {"table": initializer(key, (length, x.shape[-1]), parameter_dtype(x))}

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        table = parameter("places", params, "table")
        if x.ndim != 3 or x.shape[1] > table.shape[0]:
            raise ValueError(
                f"places: x has shape (B, T, D) with at most {table.shape[0]} places, "
                f"found {in_a_word(x)}"
            )
        return x + table[None, : x.shape[1]]

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        return apply(params, x, key), None

    def recursion(
        params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        total = jnp.sum(dy, 0, dtype=accumulator(dy)).astype(dy.dtype)  # (T, D)
        unused = params["table"].shape[0] - dy.shape[1]
        return {"table": jnp.pad(total, ((0, unused), (0, 0)))}, dy, {}

    def start(params: Params, x: PyTree, length: int) -> None:
        return None  # only where it goes on matters, which the piece says

    def go_on(params: Params, x: PyTree, cache: PyTree, piece: Piece) -> tuple[Array, None]:
        # Padding may reach beyond the end of the table, and must stay finite.
        return x + parameter("places", params, "table").at[piece.positions].get(mode="clip"), None

    def most(params: Params) -> int:
        return parameter("places", params, "table").shape[-2]

    memory = Memory(start, go_on, most)
    return Layer("places", init, apply, forward, recursion, memory=memory)
