"""Groups of channels: each by itself, or all as one dense convolution."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.windows import Windows
from funcnn.types import Array

MOST_UNROLLED = 4  # groups; more of them would take long to compile, so they are a loop


def each_group(
    product: Callable[[Array, Array, Windows], Array],
    a: Array,
    b: Array,
    windows: Windows,
    groups: int,
) -> Array:
    """The product of the channels (..., C/G) of each group of a and b, joined along the channels.

    >>> from funcnn.rules.convolution.forms import convolve
    >>> x, w = jnp.array([[[1.0, 2.0]]]), jnp.array([[[3.0, 4.0]]])
    >>> each_group(convolve, x, w, Windows.of("conv", (1,), 1, 1, "SAME"), 2)
    Array([[[3., 8.]]], dtype=float32)
    """

    def of_group(pair: tuple[Array, Array]) -> Array:
        return product(*pair, windows)

    if groups <= MOST_UNROLLED:
        pairs = zip(*(jnp.split(array, groups, -1) for array in (a, b)), strict=True)
        return jnp.concatenate([of_group(lax.optimization_barrier(pair)) for pair in pairs], -1)
    apart = [x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups) for x in (a, b)]
    stacked = tuple(jnp.moveaxis(x, -2, 0) for x in apart)  # each (G, ..., C/G)
    joined = jnp.moveaxis(lax.map(of_group, stacked), 0, -2)
    return joined.reshape(*joined.shape[:-2], groups * joined.shape[-1])


def filter_gradient_diagonal(
    filter_gradient: Callable[[Array, Array, Windows], Array],
    x: Array,
    dy: Array,
    windows: Windows,
    groups: int,
) -> Array:
    """dw (*window, 1, O) of channels that stand alone, from `filter_gradient` as if all were one.

    Of that dense dw (*window, I, O) it is the input channel of each output.

    >>> from funcnn.rules.convolution.patches import filter_gradient_products
    >>> x, dy = jnp.array([[[1.0, 2.0]]]), jnp.array([[[3.0, 4.0]]])
    >>> windows = Windows.of("conv", (1,), 1, 1, "SAME")
    >>> filter_gradient_diagonal(filter_gradient_products, x, dy, windows, 2)
    Array([[[3., 8.]]], dtype=float32)
    """
    dense = filter_gradient(x, dy, windows)
    outputs = dense.shape[-1]
    own = jnp.arange(outputs) // (outputs // groups)
    own = own.reshape((1,) * (dense.ndim - 1) + (outputs,))
    return jnp.take_along_axis(dense, own, -2)
