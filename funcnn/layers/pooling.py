"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcnn import rules
from funcnn.core.layer import Layer, constructor, layer_from_rule
from funcnn.core.usage import hashable
from funcnn.rules.shared.windows import check_windows, positive

global_average_pool = layer_from_rule(rules.global_average_pool)
global_max_pool = layer_from_rule(rules.global_max_pool)


def _options(layer: str, window: object, stride: object, padding: object) -> dict[str, Any]:
    window, stride, padding = map(hashable, (window, stride, padding))
    # One number is the size along each axis, of which there are one or two.
    axes = len(window) if isinstance(window, tuple) else max(1, *map(_axes, (stride, padding)))
    sizes = positive(layer, "window", window, axes)
    check_windows(layer, sizes, window if stride is None else stride, padding)
    return {"window": window, "stride": stride, "padding": padding}


def _axes(option: object) -> int:
    return len(option) if isinstance(option, tuple) else 1


@constructor
def max_pool(
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: str | Sequence[Sequence[int]] = "VALID",
) -> Layer:
    """The largest element of each window of x (N, H, W, C); windows stand `stride` apart.

    Args:
        window: its size along each spatial axis, (2, 2), or along every one, 2.
        stride: by default the window.
        padding: "SAME", "VALID" or a pair (before, after) for each spatial axis.

    >>> import jax.numpy as jnp
    >>> max_pool((2, 2))({}, jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return layer_from_rule(rules.max_pool, **_options("max_pool", window, stride, padding))


@constructor
def average_pool(
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: str | Sequence[Sequence[int]] = "VALID",
) -> Layer:
    """The mean of the elements of each window; padding does not count. Arguments as `max_pool`.

    >>> import jax.numpy as jnp
    >>> average_pool((2, 2))({}, jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    Array([1.5], dtype=float32)
    """
    return layer_from_rule(rules.average_pool, **_options("average_pool", window, stride, padding))
