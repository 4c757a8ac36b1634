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

from funcnn.rules.shared.arguments import at_least, is_known
from funcnn.rules.shared.chunks import largest_divisor, sum_in_a_loop
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows, add_back, cut
from funcnn.types import Array

# Measured on two CPU cores with windows of 3 to 7 a side, images of 7 to 64, 1 to 256 channels.
CHUNK_BYTES = 4_000_000
CHUNK_ROWS = 256


def images_per_chunk(images: int, rows: int, columns: int, itemsize: int) -> int:
    """How many images to turn into patches at once, with `rows` windows of `columns` values each.

    As many as keep the patches in the cache, but enough rows for an efficient product; one where
    it is left open how many images there are.

    >>> images_per_chunk(64, 28 * 28, 3 * 3 * 32, 4), images_per_chunk(64, 4 * 4, 3 * 3 * 256, 4)
    (4, 27)
    """
    fitting = CHUNK_BYTES // max(rows * columns * itemsize, 1)
    enough = math.ceil(CHUNK_ROWS / max(rows, 1))
    return max(1, min(at_least(images), max(fitting, enough)))


def equal_chunk(images: int, rows: int, columns: int, itemsize: int) -> int:
    """The same for chunks of equal size, whose results need no copy to be joined.

    >>> equal_chunk(64, 4 * 4, 3 * 3 * 256, 4)
    16
    """
    return largest_divisor(images, images_per_chunk(images, rows, columns, itemsize))


def are_chunks_large(images: int, rows: int, columns: int, itemsize: int) -> bool:
    """Whether equal chunks have rows enough for an efficient product.

    A prime number of small images leads to small ones.

    >>> are_chunks_large(64, 16, 2304, 4), are_chunks_large(67, 16, 2304, 4)
    (True, False)
    """
    chunk = equal_chunk(images, rows, columns, itemsize)
    return chunk == images or chunk * rows >= CHUNK_ROWS


def _in_chunks(f: Callable[[Array], Array], chunk: int, x: Array) -> Array:
    """f on `chunk` images of x (N, ...) at a time, joined along the images."""
    images = x.shape[0]
    if chunk == images:
        return f(x)
    y = lax.map(f, x.reshape(images // chunk, chunk, *x.shape[1:]))
    return y.reshape(images, *y.shape[2:])


def convolve_products(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y (N, *output, O) by products y = P w, one for each group.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolve_products(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    columns, rows = math.prod(windows.window) * x.shape[-1], math.prod(windows.output)
    chunk = equal_chunk(x.shape[0], rows, columns, x.dtype.itemsize)
    if set(windows.window) == {1}:
        chunk = x.shape[0]  # one product; the patches are x itself
    flat = _flat(w, groups)  # (G, h*w*I/G, O/G)

    def product(part: Array) -> Array:
        patches = _patches(part, windows, groups)  # (chunk, *output, G, h*w*I/G)
        return _times(patches, flat, 1).astype(x.dtype)  # (chunk, *output, O)

    return _in_chunks(product, chunk, x)


def input_gradient_products(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx (N, *size, I) by products: dP = dy wᵀ, whose columns are added where P took them from.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient_products(dy, w, Windows.of("conv", (4,), 2, 2, "VALID")).ravel()
    Array([ 1., 10.,  1., 10.], dtype=float32)
    """
    inputs, outputs = w.shape[-2] * groups, w.shape[-1]
    columns, rows = math.prod(windows.window) * inputs, math.prod(windows.output)
    chunk = equal_chunk(dy.shape[0], rows, columns, dy.dtype.itemsize)
    if set(windows.window) == {1} and (groups > 1 or len(windows.size) > 1):
        chunk = dy.shape[0]
    flat = _flat(w, groups)  # (G, h*w*I/G, O/G)

    def product(part: Array) -> Array:
        grouped = part.reshape(*part.shape[:-1], groups, outputs // groups)
        dp = _times(grouped, flat, 2)  # (chunk, *output, G*h*w*I/G)
        if len(windows.offsets) == 1:
            return add_back([dp], windows).astype(dy.dtype)
        dp = lax.optimization_barrier(dp)
        return add_back(_columns(dp, windows, groups), windows).astype(
            dy.dtype
        )  # (chunk, *size, I)

    return _in_chunks(product, chunk, dy)


def _columns(dp: Array, windows: Windows, groups: int) -> list[Array]:
    """The columns of dP (..., G*h*w*I/G) that belong to each element of the window: (..., I)."""
    count = len(windows.offsets)
    inputs = dp.shape[-1] // count
    if groups == 1:
        return [dp[..., i * inputs : (i + 1) * inputs] for i in range(count)]
    dp = dp.reshape(*dp.shape[:-1], groups, count, inputs // groups)
    return [dp[..., i, :].reshape(*dp.shape[:-3], inputs) for i in range(count)]


def filter_gradient_products(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw (h, w, I/G, O) as matrix products of patches of x with dy, one for each of the G groups.

    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient_products(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    if groups == 1 and set(windows.window) == {1}:
        (x,) = cut(x, windows, 0)
        dw = product_over_rows(x[..., None, :], dy[..., None, :])  # (1, I, O)
        return dw.reshape(*windows.window, *dw.shape[1:]).astype(dy.dtype)
    if groups == 1 and is_exchanged(windows, x.shape[-1], dy.shape[-1]):
        return _filter_gradient_exchanged(x, dy, windows)
    images, columns = x.shape[0], math.prod(windows.window) * x.shape[-1]
    chunk = images_per_chunk(images, math.prod(windows.output), columns, x.dtype.itemsize)
    if set(windows.window) == {1}:
        chunk = max(images, 1)

    def product(start: Array | int, count: int) -> Array:
        part = lax.dynamic_slice_in_dim(x, start, count)  # (count, H, W, I)
        dy_part = lax.dynamic_slice_in_dim(dy, start, count)  # (count, H', W', O)
        dy_part = dy_part.reshape(*dy_part.shape[:-1], groups, dy.shape[-1] // groups)
        # dyᵀ P, not Pᵀ dy: the short side first is up to twice as fast.
        return product_over_rows(dy_part, _patches(part, windows, groups))

    dw = _sum_over_images(product, images, chunk)  # (G, O/G, h*w*I/G)
    shape = (*windows.window, x.shape[-1] // groups, dy.shape[-1])
    return jnp.moveaxis(dw, -1, 0).reshape(shape).astype(x.dtype)


def _sum_over_images(
    product: Callable[[Array | int, int], Array], images: Any, chunk: int
) -> Array:
    """The sum of product(start, count) over all images, `chunk` of them at a time."""
    if not is_known(images):
        return sum_in_a_loop(lambda i: product(i * chunk, chunk), images // chunk)
    # The first product takes the images left over, so the sum begins with it instead of with 0.
    first = images % chunk or min(images, chunk)
    dw = product(0, first)
    if first < images:
        starts = jnp.arange(first, images, chunk)
        dw, _ = lax.scan(lambda total, i: (total + product(i, chunk), None), dw, starts)
    return dw


def is_exchanged(windows: Windows, inputs: int, outputs: int) -> bool:
    """Whether the patches for dw are those of dy: it has to be narrower by half, and stride 1.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> is_exchanged(windows, 64, 32), is_exchanged(windows, 63, 32)
    (True, False)
    """
    return set(windows.stride) == {1} and 2 * outputs <= inputs


def _filter_gradient_exchanged(x: Array, dy: Array, windows: Windows) -> Array:
    """dw for stride 1 by patches of dy, which is narrower: dw[j] = Σ_i x[i]ᵀ dy[i + lo - j d].

    That is the same sum for the windows that lead from dy to x, with flipped elements.
    """
    ones = (1,) * len(windows.size)
    back = Windows(windows.output, windows.window, ones, windows.dilation, windows.gradient_padding)
    flipped = filter_gradient_products(dy, x, back)  # (h, w, O, I)
    return lax.rev(flipped, range(len(ones))).swapaxes(-1, -2)


# Products over groups. A single group gets the plain product, which is the faster one.


def _flat(w: Array, groups: int) -> Array:
    """w (h, w, I/G, O) as a matrix for each group: (G, h*w*I/G, O/G)."""
    rows = math.prod(w.shape[:-1])
    return jnp.moveaxis(w.reshape(rows, groups, w.shape[-1] // groups), 1, 0)


def _patches(x: Array, windows: Windows, groups: int) -> Array:
    """The slices of x that meet each element of the window: (N, *output, G, h*w*I/G)."""
    shape = (x.shape[0], *windows.output, groups, x.shape[-1] // groups)
    parts = [part.reshape(shape) for part in cut(x, windows, 0)]
    if len(parts) == 1:
        return parts[0]
    # Without the barrier XLA computes the patches inside the product, again and again.
    return lax.optimization_barrier(jnp.concatenate(parts, -1))


def _times(a: Array, flat: Array, contracted: int) -> Array:
    """a (..., G, K) times the matrix of each group, whose axis `contracted` is K: (..., G*M)."""
    groups, leading = a.shape[-2], a.shape[:-2]
    out = groups * flat.shape[3 - contracted]
    dtype = accumulator(a)
    if groups == 1:
        axes = (((len(leading),), (contracted - 1,)), ((), ()))
        a = a.reshape(*leading, a.shape[-1])
        return lax.dot_general(a, flat[0], axes, preferred_element_type=dtype)
    rows = a.reshape(math.prod(leading), groups, a.shape[-1])
    axes = (((2,), (contracted,)), ((1,), (0,)))
    y = lax.dot_general(rows, flat, axes, preferred_element_type=dtype)  # (G, rows, M)
    return jnp.moveaxis(y, 0, 1).reshape(*leading, out)


def product_over_rows(a: Array, b: Array) -> Array:
    """aᵀ b over all axes but the last two, for each of the groups: (G, K, M).

    a is (..., G, K) and b (..., G, M); the product is in the accumulator's dtype.

    >>> product_over_rows(jnp.ones((2, 3, 1, 1)), jnp.ones((2, 3, 1, 1)))
    Array([[[6.]]], dtype=float32)
    """
    rows = math.prod(a.shape[:-2])
    a, b = a.reshape(rows, *a.shape[-2:]), b.reshape(rows, *b.shape[-2:])
    dtype = accumulator(a)
    if a.shape[1] == 1:
        axes = (((0,), (0,)), ((), ()))
        return lax.dot_general(a[:, 0], b[:, 0], axes, preferred_element_type=dtype)[None]
    axes = (((0,), (0,)), ((1,), (1,)))
    return lax.dot_general(a, b, axes, preferred_element_type=dtype)
