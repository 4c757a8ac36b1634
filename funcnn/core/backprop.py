"""Backprop itself, the lecture's three steps, without automatic differentiation anywhere.

1. Forward: z_l and a_l for l = 1 ... L, each layer keeping what its backward pass needs.
2. The error signal of the output: δ_L = dy, the derivative of the loss by the output.
3. Backward, l = L ... 1: from δ_l the gradient of layer l's parameters, and δ_{l-1}.

`backprop_steps` takes step 3 one layer at a time; `backprop` takes all of them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.explicit import placed_as_rows
from funcnn.core.given import described
from funcnn.core.layer import Layer
from funcnn.types import Array, Key, Params, PyTree, Residuals

# (path, dparams, delta) of one layer after another; the return value is dx.
Steps = Generator[tuple[str, Params, Any], None, Any]


def backprop(
    model: Layer, params: Params, x: PyTree, dy: PyTree, key: Key | None = None
) -> tuple[Params, PyTree, dict[str, Array]]:
    """The explicit recursion of backprop through a model of layers.

    Args:
        model: a layer, or a composition of layers that all have a hand-derived backward pass.
        params: its parameters.
        x: its input, (batch, ...).
        dy: the cotangent of its output, of the output's shape and dtype; None for integers.
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
    steps = backprop_steps(model, params, x, dy, key)
    gradients, deltas = {}, {}
    while True:
        try:
            path, gradient, deltas[path] = next(steps)
        except StopIteration as end:
            return _nested(model, params, gradients), end.value, deltas
        # A part may be called what its model is, "parallel"; the model's own gradient came first.
        gradients.setdefault(path, gradient)


def backprop_steps(
    model: Layer, params: Params, x: PyTree, dy: PyTree, key: Key | None = None
) -> Steps:
    """The same recursion, one layer at a time: a gradient is there as soon as its delta is.

    The forward pass runs at the call. Each `next` then runs the backward pass of one layer, the
    last one first, and those of earlier layers have not begun: a gradient can be looked at, or used
    and let go, before the next one is computed.

    A chain is walked part by part, and a chain inside a chain likewise. Any other composition
    (`residual`, `parallel`, `repeat`) is one layer here: it is taken back whole, its gradient comes
    under its own path, and the deltas of the layers inside follow it.

    Args:
        model, params, x, dy, key: as in `fnn.backprop`.

    Returns:
        A generator of `(path, dparams, delta)`: the path of a layer, the gradients of its
        parameters (empty where it has none, or where they come under another path) and the
        cotangent of its output. The generator's return value, which `yield from` gives, is dx.

    Raises:
        TypeError, ValueError: as `fnn.backprop`, at the call.

    >>> import jax
    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.dense(3), fnn.relu, fnn.dense(1))
    >>> x = jnp.ones((2, 4))
    >>> params = model.init(jax.random.key(0), x)
    >>> for path, dparams, delta in fnn.backprop_steps(model, params, x, jnp.ones((2, 1))):
    ...     print(path, delta.shape, {name: gradient.shape for name, gradient in dparams.items()})
    dense_1 (2, 1) {'w': (3, 1), 'b': (1,)}
    relu_0 (2, 3) {}
    dense_0 (2, 3) {'w': (4, 3), 'b': (3,)}
    """
    if not isinstance(model, Layer):
        raise TypeError(f"backprop: expected a fnn.Layer, found {described(model)}")
    missing = missing_backward(model)
    if missing or model.forward is None or model.recursion is None:
        where = ", ".join(missing) or model.kind
        raise TypeError(
            f"backprop: no hand-derived backward pass in {where}: make the layer from a rule "
            "(fnn.layer_from_rule), or use jax.grad"
        )
    y, res = placed_as_rows(model.forward, params, x, key)
    # Integers, which may stand beside y, have the cotangent None.
    of_y = jax.tree.map(lambda a: jnp.shape(a) if _is_inexact(a) else None, y)
    of_dy = jax.tree.map(lambda a: None if a is None else jnp.shape(a), dy, is_leaf=_is_none)
    if of_dy != of_y:
        raise ValueError(f"backprop: dy has shape {of_dy}, the output {of_y}")
    return _steps(model, params, res, dy)


def _is_inexact(leaf: PyTree) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _is_none(leaf: PyTree) -> bool:
    return leaf is None


def _steps(layer: Layer, params: Params, res: Residuals, dy: PyTree, path: str = "") -> Steps:
    """The steps through one layer; the parts of a sequential one are steps of their own."""
    if not layer.sequential:
        assert layer.recursion is not None
        with jax.named_scope(path or layer.kind):
            dparams, dx, deltas = placed_as_rows(layer.recursion, params, res, dy)
        yield path or layer.kind, dparams, dy
        for inner, delta in deltas.items():
            yield _join(path, inner), {}, delta
        return dx
    if path:
        yield path, {}, dy
    for name in reversed(list(layer.parts)):
        part = layer.parts[name]
        dy = yield from _steps(part, params.get(name, {}), res[name], dy, _join(path, name))
    return dy


def _nested(layer: Layer, params: Params, gradients: dict[str, Params], path: str = "") -> Params:
    """The gradients by path as a tree like params, in its order."""
    if not layer.sequential:
        return gradients[path or layer.kind]
    return {
        name: _nested(layer.parts[name], params[name], gradients, _join(path, name))
        for name in params
    }


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def missing_backward(layer: Layer, path: str = "") -> list[str]:
    """The paths of the layers inside that have no hand-derived backward pass.

    >>> import funcnn as fnn
    >>> missing_backward(fnn.as_layer(lambda params, x: x))
    ['function']
    """
    inside = [
        inner_path
        for name, part in layer.parts.items()
        for inner_path in missing_backward(part, _join(path, name))
    ]
    return inside or ([] if layer.forward else [path or layer.kind])
