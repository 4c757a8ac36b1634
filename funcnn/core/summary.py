"""A model as a table: its layers, what they return, and how many parameters they hold."""

from __future__ import annotations

import jax

from funcnn.core.layer import Layer, parameter_count
from funcnn.core.parts import outputs_of
from funcnn.report import table
from funcnn.types import Params, PyTree


def summary(model: Layer, params: Params, x: PyTree) -> str:
    """The layers of a model with the shapes of their outputs and their parameters, as text.

    Nothing is computed: `x`, and the leaves of `params`, may be `jax.ShapeDtypeStruct`.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.dense(3), fnn.relu)
    >>> x = jnp.ones((2, 4))
    >>> print(summary(model, model.init(jax.random.key(0), x), x))
     layer     output          parameters
    --------------------------------------
     dense_0   float32[2, 3]           15
     relu_0    float32[2, 3]            0
     total     float32[2, 3]           15
    """
    key = jax.random.key(0)  # as in training: evaluation may need statistics
    y, outputs = jax.eval_shape(lambda p, x: outputs_of(model, p, x, key), params, x)
    # The order is that of the layers: what comes out of eval_shape is sorted by name.
    rows = [
        {"layer": path, "output": _shapes(outputs[path]), "parameters": count}
        for path, count in _counts(model, params).items()
    ]
    total = {"layer": "total", "output": _shapes(y), "parameters": parameter_count(params)}
    return table([*rows, total])


def _shapes(output: PyTree) -> str:
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(output))


def _counts(layer: Layer, params: Params, path: str = "") -> dict[str, int]:
    """Parameters by path; those of a part may be stacked in the composition's own."""
    counts: dict[str, int] = {}
    for name, part in layer.parts.items():
        inside = params if layer.stacked else params.get(name, {})
        here = f"{path}/{name}" if path else name
        counts[here] = parameter_count(inside)
        counts |= _counts(part, inside, here)
    return counts
