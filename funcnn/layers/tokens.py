"""Tokens and their places at the entrance of a network, and tokens again at its end."""

from __future__ import annotations

import math

import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, constructor, no_params
from funcnn.core.memory import Memory, Piece
from funcnn.core.parts import require_key
from funcnn.core.usage import function, in_a_word, number, parameter, positive_integer
from funcnn.layers.attention import SMALL
from funcnn.layers.embedding import embedding
from funcnn.layers.parameters import parameter_dtype
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals


class Tokens(Layer):
    """The layer that makes of tokens numbers, and of numbers the logits of tokens."""


@constructor
def tokens(
    vocabulary: int, width: int, *, bias: bool = False, initializer: Function = SMALL
) -> Layer:
    """One table for both ends: y = table[x] of integers x (...), y = x tableᵀ of floats (..., D).

    So a composite calls it at its beginning, and at its end for the logits, and the gradient of the
    table is the sum of both (tied weights).

    Args:
        vocabulary: how many rows the table has.
        width: how many numbers a row has.
        bias: whether a b (vocabulary,) is added to the logits; it starts at 0.
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

    def bias_of(params: Params) -> Array | None:
        return parameter("tokens", params, "b") if bias else None

    def init(key: Key, x: PyTree) -> Params:
        params = rows.init(key, x)
        return {**params, "b": jnp.zeros(vocabulary, params["table"].dtype)} if bias else params

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        if _is_token(x):
            return rows.apply(params, x, key)
        return rules.linear(x, parameter("tokens", params, "table").T, bias_of(params))

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        if _is_token(x):
            assert rows.forward is not None
            y, res = rows.forward(params, x, key)
            return y, {"rows": res}
        table = parameter("tokens", params, "table")
        return rules.linear.forward(x, table.T, bias_of(params))[0], {"product": (x, table)}

    def recursion(
        params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        b = bias_of(params)
        if "rows" in res:
            dparams, dx = rows.backward(params, res["rows"], dy)
            return {**dparams, **({} if b is None else {"b": jnp.zeros_like(b)})}, dx, {}
        x, table = res["product"]
        dx, dw, db = rules.linear.backward((x, table.T, b), dy)
        return {"table": dw.T, **({} if b is None else {"b": db})}, dx, {}

    return Tokens("tokens", init, apply, forward, recursion, rule=rules.embedding)


def _is_token(x: PyTree) -> bool:
    return jnp.issubdtype(x.dtype, jnp.integer)


@constructor
def places(length: int | None = None, *, initializer: Function = SMALL) -> Layer:
    """y = x + table[:T], one learnt row for each place of x (B, T, D), at most `length` of them.

    Args:
        length: how many rows the table (length, D) has; None for as many as the x of `init`.
        initializer: draws the table, as those of `jax.nn.initializers`.

    Raises:
        ValueError: length is not a positive integer; at the call, x has more places.

    >>> import jax
    >>> layer, x = places(5), jnp.zeros((2, 3, 4))
    >>> params = layer.init(jax.random.key(0), x)
    >>> params["table"].shape, bool(jnp.all(layer(params, x)[1] == params["table"][:3]))
    ((5, 4), True)
    """
    length = length if length is None else positive_integer("places", "length", length)
    function("places", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        require_key(key)
        rows = x.shape[1] if length is None else length
        return {"table": initializer(key, (rows, x.shape[-1]), parameter_dtype(x))}

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


@constructor
def sinusoids(*, base: float = 10000.0) -> Layer:
    """y = x + table[:T] for x (B, T, D), of waves and not of parameters: any number of places.

    table[t, 2i] = sin(t base^(-2i/D)) and table[t, 2i + 1] = cos of the same angle; the table of
    t + s is a rotation of that of t. Angles are taken in float32 at least, as in `rotary`.

    Args:
        base: how much longer the longest wave is than the shortest, about.

    Raises:
        ValueError: base is not above 1; at the call, x has not three axes.

    Source: Vaswani et al., Attention is all you need, 2017.

    >>> sinusoids(base=100.0)({}, jnp.zeros((1, 2, 4)))[0, 1]  # sin and cos of 1 and of 0.1
    Array([0.84147096, 0.5403023 , 0.09983341, 0.9950042 ], dtype=float32)
    """
    number("sinusoids", "base", base)
    if not 1 < base < math.inf:
        raise ValueError(f"sinusoids: base is a number above 1, found {base!r}")

    def waves(x: PyTree, positions: Array) -> Array:
        """Those of the positions (B or 1, T), in the dtype of x."""
        if x.ndim != 3:
            raise ValueError(f"sinusoids: x has shape (B, T, D), found {in_a_word(x)}")
        precise, width = accumulator(x), x.shape[-1]
        i = jnp.arange((width + 1) // 2, dtype=precise)
        frequency = jnp.exp(i * (-2 * math.log(base) / max(width, 1)))  # (D/2,)
        angle = positions.astype(precise)[:, :, None] * frequency[None, None]  # (B or 1, T, D/2)
        both = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)  # (B or 1, T, D/2, 2)
        return both.reshape(*positions.shape, -1)[..., :width].astype(x.dtype)  # (B or 1, T, D)

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        steps = x.shape[1] if x.ndim > 1 else 0
        return x + waves(x, jnp.arange(steps)[None])

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        return apply(params, x, key), None

    def recursion(
        params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        return {}, dy, {}

    def start(params: Params, x: PyTree, length: int) -> None:
        return None  # only where it goes on matters, which the piece says

    def go_on(params: Params, x: PyTree, cache: PyTree, piece: Piece) -> tuple[Array, None]:
        return x + waves(x, piece.positions), None

    memory = Memory(start, go_on)
    return Layer("sinusoids", no_params, apply, forward, recursion, memory=memory)


@constructor
def class_token(*, initializer: Function = SMALL) -> Layer:
    """y (B, T + 1, D): x (B, T, D) behind a learnt place, the same for each row, that sees it all.

    What a network makes of that place stands for the whole row: the head reads y[:, 0].

    Args:
        initializer: draws the place, as those of `jax.nn.initializers`.

    Raises:
        ValueError: at the call, x has not three axes.

    Source: Devlin et al., BERT, 2018; Dosovitskiy et al., An image is worth 16x16 words, 2020.

    >>> class_token()({"token": jnp.ones(2)}, jnp.zeros((1, 2, 2)))
    Array([[[1., 1.],
            [0., 0.],
            [0., 0.]]], dtype=float32)
    """
    function("class_token", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        require_key(key)
        # Initializers of a matrix have no shape (D,).
        return {"token": initializer(key, (1, x.shape[-1]), parameter_dtype(x))[0]}

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        token = parameter("class_token", params, "token")
        if x.ndim != 3:
            raise ValueError(f"class_token: x has shape (B, T, D), found {in_a_word(x)}")
        first = jnp.broadcast_to(token[None, None], (x.shape[0], 1, x.shape[2]))
        return jnp.concatenate([first, x], 1)  # (B, T + 1, D)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        return apply(params, x, key), None

    def recursion(
        params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        total = jnp.sum(dy[:, 0], 0, dtype=accumulator(dy)).astype(dy.dtype)  # (D,)
        return {"token": total}, dy[:, 1:], {}

    return Layer("class_token", init, apply, forward, recursion)
