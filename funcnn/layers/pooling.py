"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcnn import rules
from funcnn.layer import Layer, constructor, layer_from_rule

global_average_pool = layer_from_rule(rules.global_average_pool)
global_max_pool = layer_from_rule(rules.global_max_pool)


def _options(window: Sequence[int], stride: Any, padding: Any) -> dict[str, Any]:
    as_tuple = tuple if isinstance(stride, (list, tuple)) else (lambda value: value)
    pairs = padding if isinstance(padding, str) else tuple(map(tuple, padding))
    return {"window": tuple(window), "stride": as_tuple(stride), "padding": pairs}


@constructor
def max_pool(
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> Layer:
    """The largest element of each window of x (N, H, W, C); windows stand `stride` apart.

    Args:
        window: its size along each spatial axis.
        stride: by default the window.
        padding: "SAME", "VALID" or a pair (before, after) for each spatial axis.

    >>> import jax.numpy as jnp
    >>> max_pool((2, 2))({}, jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return layer_from_rule(rules.max_pool, **_options(window, stride, padding))


@constructor
def average_pool(
    window: Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> Layer:
    """The mean of the elements of each window; padding does not count. Arguments as `max_pool`.

    >>> import jax.numpy as jnp
    >>> average_pool((2, 2))({}, jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    Array([1.5], dtype=float32)
    """
    return layer_from_rule(rules.average_pool, **_options(window, stride, padding))
