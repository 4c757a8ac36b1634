"""The embedding layer: what a chain that starts with integers starts with."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, constructor
from funcnn.core.parts import require_key
from funcnn.core.usage import function, parameter, positive_integer
from funcnn.layers.parameters import parameter_dtype
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals

# Rows of length about 1, as flax draws them: the variance is 1 / width.
_UNIT_ROWS = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


@constructor
def embedding(vocabulary: int, width: int, *, initializer: Function = _UNIT_ROWS) -> Layer:
    """y = table[x]: a row of numbers for each integer; x (...) in [0, vocabulary), y (..., width).

    The table (vocabulary, width) is a parameter in JAX's default dtype. An x outside gives NaN, see
    `fnn.rules.embedding`. Integers have no cotangent: `fnn.backprop` returns None for dx.

    Args:
        vocabulary: how many rows the table has.
        width: how many numbers a row has.
        initializer: draws the table, as those of `jax.nn.initializers`.

    Raises:
        ValueError: vocabulary or width is not a positive integer.
        TypeError: x holds no integers; at `init` or at the call.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([[2, 0], [1, 1]])
    >>> layer = embedding(3, 4)
    >>> params = layer.init(jax.random.key(0), x)
    >>> parameter("embedding", params, "table").shape, layer(params, x).shape
    ((3, 4), (2, 2, 4))
    """
    vocabulary = positive_integer("embedding", "vocabulary", vocabulary)
    width = positive_integer("embedding", "width", width)
    function("embedding", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"embedding: x must be integers, found {x.dtype}{list(x.shape)}")
        require_key(key)
        return {"table": initializer(key, (vocabulary, width), parameter_dtype(x))}

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return rules.embedding(parameter("embedding", params, "table"), x)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        return rules.embedding.forward(parameter("embedding", params, "table"), x)

    def recursion(
        params: Params, res: Residuals, dy: PyTree
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        dtable, dx = rules.embedding.backward(res, dy)
        return {"table": dtable}, dx, {}

    return Layer("embedding", init, apply, forward, recursion, rule=rules.embedding)
