"""Convolutions as matrix products of patches, a chunk of images at a time.

That is how a CPU runs them fastest, in a loop as well as outside: the patches of a chunk stay in
the cache. They would be h*w times as large as x if they were made all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from funcnn.rules.precision import accumulator
from funcnn.rules.windows import Windows, add_back, cut

LAYOUT = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

# Measured on two CPU cores with 3x3 windows, 14x14 and 28x28 images, 32 and 64 channels.
CHUNK_BYTES = 4_000_000
CHUNK_ROWS = 256
FEWEST_COLUMNS = 128  # below, XLA's own convolution is faster than the product
MOST_INPUTS = 2  # input channels for each output channel; above, dx is faster as a convolution


def images_per_chunk(images: int, rows: int, columns: int, itemsize: int) -> int:
    """How many images to turn into patches at once, with `rows` windows of `columns` values each.

    As many as keep the patches in the cache, but enough rows for an efficient product.

    >>> images_per_chunk(64, 28 * 28, 3 * 3 * 32, 4), images_per_chunk(64, 4 * 4, 3 * 3 * 256, 4)
    (4, 27)
    """
    fitting = CHUNK_BYTES // max(rows * columns * itemsize, 1)
    enough = math.ceil(CHUNK_ROWS / max(rows, 1))
    return max(1, min(images, max(fitting, enough)))


def _equal_chunks(images: int, rows: int, columns: int, itemsize: int) -> int | None:
    """The same for chunks of equal size, whose results need no copy to be joined.

    None where these would be too small for an efficient product, which a prime number of small
    images leads to.
    """
    largest = images_per_chunk(images, rows, columns, itemsize)
    chunk = next((n for n in range(largest, 0, -1) if images % n == 0), 1)
    return chunk if chunk == images or chunk * rows >= CHUNK_ROWS else None


def _in_chunks(f: Callable[[Any], Any], chunk: int, x: Any) -> Any:
    """f on `chunk` images of x (N, ...) at a time, joined along the images."""
    images = x.shape[0]
    if chunk == images:
        return f(x)
    y = lax.map(f, x.reshape(images // chunk, chunk, *x.shape[1:]))
    return y.reshape(images, *y.shape[2:])


def convolve(x: Any, w: Any, windows: Windows) -> Any:
    """y (N, *output, O) by XLA's own convolution.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolve(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    return lax.conv_general_dilated(
        x,
        w,
        windows.stride,
        windows.padding,
        rhs_dilation=windows.dilation,
        dimension_numbers=LAYOUT[len(windows.size)],
    )


def convolve_fastest(x: Any, w: Any, windows: Windows) -> Any:
    """The same on a CPU: by products where the patches are wide enough, else by XLA.

    >>> x, w = jnp.ones((4, 8, 8, 32)), jnp.ones((3, 3, 32, 2))
    >>> windows = Windows.of("conv", (8, 8), (3, 3), 1, "VALID")
    >>> bool(jnp.all(convolve_fastest(x, w, windows) == convolve(x, w, windows)))
    True
    """
    columns, rows = math.prod(windows.window) * x.shape[-1], math.prod(windows.output)
    chunk = _equal_chunks(x.shape[0], rows, columns, x.dtype.itemsize)
    wide = columns >= FEWEST_COLUMNS and x.shape[0] * rows >= CHUNK_ROWS and w.shape[-1] > 1
    if chunk is None or not wide or set(windows.window) == {1}:
        return convolve(x, w, windows)
    flat = w.reshape(columns, w.shape[-1])  # (h*w*I, O)

    def product(part: Any) -> Any:
        patches = _patches(part, windows)  # (chunk, *output, h*w*I)
        contracted = (((patches.ndim - 1,), (0,)), ((), ()))
        y = lax.dot_general(patches, flat, contracted, preferred_element_type=accumulator(x))
        return y.astype(x.dtype)  # (chunk, *output, O)

    return _in_chunks(product, chunk, x)


def input_gradient_products(dy: Any, w: Any, windows: Windows) -> Any | None:
    """dx (N, *size, I) by products: dP = dy wᵀ, whose columns are added where P took them from.

    None where another form is faster: few output channels for many input channels, as dP is wide
    then and its product short, or chunks that come out too small.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient_products(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    inputs, outputs = w.shape[-2:]
    columns, rows = math.prod(windows.window) * inputs, math.prod(windows.output)
    chunk = _equal_chunks(dy.shape[0], rows, columns, dy.dtype.itemsize)
    stretched = set(windows.stride) != {1}  # other forms multiply the zeros between, too
    if chunk is None or (inputs > MOST_INPUTS * outputs and not stretched):
        return None
    flat = w.reshape(columns, outputs)  # (h*w*I, O)

    def product(part: Any) -> Any:
        contracted = (((part.ndim - 1,), (1,)), ((), ()))
        dp = lax.dot_general(part, flat, contracted, preferred_element_type=accumulator(dy))
        dp = lax.optimization_barrier(dp)  # (chunk, *output, h*w*I)
        slices = [dp[..., i * inputs : (i + 1) * inputs] for i in range(len(windows.offsets))]
        return add_back(slices, windows).astype(dy.dtype)  # (chunk, *size, I)

    return _in_chunks(product, chunk, dy)


def _patches(x: Any, windows: Windows) -> Any:
    """The slices of x that meet each element of the window, side by side: (N, *output, h*w*I)."""
    # Without the barrier XLA computes the patches inside the product, again and again.
    return lax.optimization_barrier(jnp.concatenate(cut(x, windows, 0), -1))


def filter_gradient_products(x: Any, dy: Any, windows: Windows) -> Any:
    """dw (h, w, I, O) as matrix products of patches of x with dy.

    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient_products(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    images, columns = x.shape[0], math.prod(windows.window) * x.shape[-1]
    chunk = images_per_chunk(images, math.prod(windows.output), columns, x.dtype.itemsize)

    def product(start: Any, count: int) -> Any:
        part = lax.dynamic_slice_in_dim(x, start, count)  # (count, H, W, I)
        dy_part = lax.dynamic_slice_in_dim(dy, start, count)  # (count, H', W', O)
        # dyᵀ P, not Pᵀ dy: the short side first is up to twice as fast.
        return product_over_rows(dy_part, _patches(part, windows))

    # The first product takes the images left over, so the sum begins with it instead of with 0.
    first = images % chunk or min(images, chunk)
    dw = product(0, first)  # (O, h*w*I)
    if first < images:
        starts = jnp.arange(first, images, chunk)
        dw, _ = lax.scan(lambda total, i: (total + product(i, chunk), None), dw, starts)
    return dw.T.reshape(*windows.window, x.shape[-1], dy.shape[-1]).astype(x.dtype)


def product_over_rows(a: Any, b: Any) -> Any:
    """a^T b over all axes but the last ones, in the accumulator's dtype.

    >>> product_over_rows(jnp.ones((2, 3, 1)), jnp.ones((2, 3, 1)))
    Array([[6.]], dtype=float32)
    """
    rows = math.prod(a.shape[:-1])
    a, b = a.reshape(rows, a.shape[-1]), b.reshape(rows, b.shape[-1])
    first = (((0,), (0,)), ((), ()))
    return lax.dot_general(a, b, first, preferred_element_type=accumulator(a))
