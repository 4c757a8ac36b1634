"""Backprop itself, the lecture's three steps, without automatic differentiation anywhere.

1. Forward: z_l and a_l for l = 1 ... L, each layer keeping what its backward pass needs.
2. The error signal of the output: δ_L = dy, the derivative of the loss by the output.
3. Backward, l = L ... 1: from δ_l the gradient of layer l's parameters, and δ_{l-1}.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from funcnn.layer import Layer, Params
from funcnn.parts import missing_backward


def backprop(
    model: Layer, params: Params, x: Any, dy: Any, key: Any = None
) -> tuple[Params, Any, dict[str, Any]]:
    """The explicit recursion of backprop through a model of layers.

    Args:
        model: a layer, or a composition of layers that all have a hand-derived backward pass.
        params: its parameters.
        x: its input, (batch, ...).
        dy: the cotangent of its output, of the output's shape and dtype.
        key: as in `model(params, x, key=key)`.

    Returns:
        `(dparams, dx, deltas)`: the gradients of the parameters and of the input, and a dict from
        the path of each layer to the cotangent of its output, last layer first.

    Raises:
        TypeError: a layer has no hand-derived backward pass; the message names its path.
        ValueError: dy has not the shape of the output.

    >>> import jax
    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.dense(3), fnn.relu, fnn.dense(1))
    >>> x = jnp.ones((2, 4))
    >>> params = model.init(jax.random.key(0), x)
    >>> dparams, dx, deltas = fnn.backprop(model, params, x, jnp.ones((2, 1)))
    >>> list(deltas), dparams["dense_0"]["w"].shape
    (['dense_1', 'relu_0', 'dense_0'], (4, 3))
    """
    missing = missing_backward(model)
    if missing or model.forward is None or model.recursion is None:
        where = ", ".join(missing) or model.kind
        raise TypeError(
            f"backprop: no hand-derived backward pass in {where}: make the layer from a rule "
            "(fnn.layer_from_rule), or use jax.grad"
        )
    y, res = model.forward(params, x, key)
    if jnp.shape(dy) != jnp.shape(y):
        raise ValueError(f"backprop: dy has shape {jnp.shape(dy)}, the output {jnp.shape(y)}")
    dparams, dx, deltas = model.recursion(params, res, dy)
    return dparams, dx, deltas or {model.kind: dy}
