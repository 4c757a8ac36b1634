"""Layers that only rearrange or drop: flatten and dropout."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from funcnn import rules
from funcnn.core.layer import Layer, constructor, layer_from_rule, no_params
from funcnn.core.usage import in_a_word, number
from funcnn.types import Array, Key, Params, PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Shape:
    """A residual without arrays: what the backward pass of a reshape needs."""

    sizes: tuple[int, ...]


def _flat(params: Params, x: PyTree, key: Key | None) -> PyTree:
    if not getattr(x, "shape", ()):
        raise ValueError(f"flatten: x must have shape (N, ...), found {in_a_word(x)}")
    return x.reshape(x.shape[0], -1)  # (N, H * W * C)


def _flat_forward(params: Params, x: PyTree, key: Key | None) -> tuple[Any, _Shape]:
    return _flat(params, x, key), _Shape(x.shape)


def _flat_recursion(
    params: Params, res: _Shape, dy: PyTree
) -> tuple[Params, PyTree, dict[str, Array]]:
    return {}, dy.reshape(res.sizes), {}


# y is x with all axes but the first made one, so dx is dy in the shape of x.
flatten = Layer("flatten", no_params, _flat, _flat_forward, _flat_recursion)


@constructor
def dropout(rate: float) -> Layer:
    """With a key: each element is dropped with probability `rate`, the others grow by 1/(1-rate).

    Without a key it is the identity.

    Raises:
        ValueError: rate is not in [0, 1).

    >>> import jax, jax.numpy as jnp
    >>> drop = dropout(0.5)
    >>> drop({}, jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)
    >>> sorted(set(drop({}, jnp.ones(100), key=jax.random.key(0)).tolist()))
    [0.0, 2.0]
    """
    number("dropout", "rate", rate)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate is at least 0 and below 1, found {rate!r}")
    return layer_from_rule(rules.dropout, rate=rate)
