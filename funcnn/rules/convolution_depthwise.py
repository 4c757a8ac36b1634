"""Depthwise convolutions on a CPU: each channel stands alone, so nothing is a matrix product.

They are sums of shifted elementwise products over the window, which XLA fuses into one pass:

    y[p] = Σ_j x[p s + j d - lo] w[j],    dw[j] = Σ_p x[p s + j d - lo] dy[p].

XLA:CPU's own grouped convolution, one channel a group, is tens of times slower; its weight gradient
is that of the dense convolution, of whose C x C windows it keeps the diagonal.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from funcnn.rules.precision import accumulator
from funcnn.rules.windows import Windows, add_back, cut

MOST_OUTPUTS = 4  # of each input channel; above, products of patches are faster
BLOCK = 32_768  # elements of dy at a time, for dw: they and their windows stay in the cache
LONG_ROW = 3_000  # elements; a sum over a single row is the fastest where rows are that long


def is_depthwise(inputs: int, outputs: int, groups: int) -> bool:
    """Whether each input channel is a group of its own, with few outputs.

    >>> is_depthwise(8, 16, 8), is_depthwise(8, 16, 4), is_depthwise(1, 3, 1)
    (True, False, False)
    """
    return 1 < groups == inputs and outputs <= MOST_OUTPUTS * groups


def convolve_depthwise(x: Any, w: Any, windows: Windows) -> Any:
    """y (N, *output, C m) from x (N, *size, C) and w (*window, 1, C m).

    >>> x, w = jnp.array([[[1.0, 1.0], [2.0, 3.0]]]), jnp.array([1.0, 10.0]).reshape(1, 1, 2)
    >>> convolve_depthwise(x, w, Windows.of("conv", (2,), 1, 1, "SAME")).tolist()
    [[[1.0, 10.0], [2.0, 30.0]]]
    """
    x = _repeated(x, w.shape[-1])  # (N, *size, C m)
    y: Any = sum(_products(cut(x, windows, 0), w))
    return y.astype(x.dtype)  # (N, *output, C m)


def _products(parts: list[Any], w: Any) -> list[Any]:
    """Each part (N, ..., C m) times the element of the window that it meets."""
    elements = w.reshape(-1, w.shape[-1]).astype(accumulator(w))
    return [
        part.astype(element.dtype) * jnp.broadcast_to(element, part.shape)
        for part, element in zip(parts, elements, strict=True)
    ]


def input_gradient_depthwise(dy: Any, w: Any, windows: Windows, channels: int) -> Any:
    """dx (N, *size, C): dy w[j], added where x[. + j] was taken from.

    >>> dy, w = jnp.ones((1, 2, 2)), jnp.array([[1.0, 2.0], [10.0, 20.0]]).reshape(2, 1, 2)
    >>> input_gradient_depthwise(dy, w, Windows.of("conv", (3,), 2, 1, "VALID"), 2).tolist()
    [[[1.0, 2.0], [11.0, 22.0], [10.0, 20.0]]]
    """
    dx = add_back(_products([dy] * len(windows.offsets), w), windows)  # (N, *size, C m)
    dx = dx.reshape(*dx.shape[:-1], channels, dy.shape[-1] // channels)
    return jnp.sum(dx, -1).astype(dy.dtype)  # (N, *size, C)


def filter_gradient_depthwise(x: Any, dy: Any, windows: Windows) -> Any:
    """dw (*window, 1, C m) from x (N, *size, C) and dy (N, *output, C m), a block at a time.

    >>> x, dy = jnp.array([[[1.0, 1.0], [2.0, 3.0]]]), jnp.ones((1, 2, 2))
    >>> filter_gradient_depthwise(x, dy, Windows.of("conv", (2,), 1, 1, "VALID")).tolist()
    [[[3.0, 4.0]]]
    """
    shape = (*windows.window, 1, dy.shape[-1])
    if 0 in (*x.shape, *dy.shape):
        return jnp.zeros(shape, x.dtype)
    x = _repeated(x, dy.shape[-1])
    borders = ((0, 0, 0), *((lo, hi, 0) for lo, hi in windows.padding), (0, 0, 0))
    x = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), borders))
    images, rows = _block(dy.shape)
    stride = windows.stride[0]
    size = ((rows - 1) * stride + windows.extent[0], *x.shape[2:-1])
    block = Windows(size, windows.window, windows.stride, windows.dilation, ((0, 0),) * len(size))
    across, rest = dy.shape[1] // rows, (0,) * (dy.ndim - 2)

    def sums(i: Any) -> Any:
        image, row = i // across * images, i % across * rows
        x_part = lax.dynamic_slice(x, (image, row * stride, *rest), (images, *size, x.shape[-1]))
        dy_part = lax.dynamic_slice(dy, (image, row, *rest), (images, rows, *dy.shape[2:]))
        x_part, dy_part = lax.optimization_barrier((x_part, dy_part))
        dy_part = dy_part.astype(accumulator(dy))
        axes = range(dy.ndim - 1)
        parts = cut(x_part, block, 0)
        return jnp.stack([jnp.sum(a.astype(dy_part.dtype) * dy_part, axes) for a in parts])

    dw = sums(0)  # (h*w, C m)
    count = dy.shape[0] // images * across
    if count > 1:
        dw, _ = lax.scan(lambda total, i: (total + sums(i), None), dw, jnp.arange(1, count))
    return dw.reshape(shape).astype(x.dtype)


def _block(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many images of dy (N, H', ..., C), or else rows of one, are taken at a time.

    Divisors of theirs, so that all blocks are equal.

    >>> _block((16, 8, 8, 32)), _block((16, 56, 56, 16)), _block((16, 56, 56, 128))
    ((16, 8), (1, 28), (1, 1))
    """
    images, rows, *rest = shape
    if len(rest) == 2 and math.prod(rest) >= LONG_ROW:
        return 1, 1
    fitting = max(1, BLOCK // math.prod(rest))  # rows
    if fitting >= rows:
        return _divisor(images, fitting // rows), rows
    return 1, _divisor(rows, fitting)


def _divisor(number: int, limit: int) -> int:
    """The largest divisor that is not above the limit."""
    return next(n for n in range(min(limit, number), 0, -1) if number % n == 0)


def _repeated(x: Any, outputs: int) -> Any:
    """x with each channel as often as it has outputs."""
    return x if x.shape[-1] == outputs else jnp.repeat(x, outputs // x.shape[-1], axis=-1)
