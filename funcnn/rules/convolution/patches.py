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

LAYOUT = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}

# Measured on two CPU cores with windows of 3 to 7 a side, images of 7 to 64, 1 to 256 channels.
CHUNK_BYTES = 4_000_000
CHUNK_ROWS = 256
FEWEST_INPUTS = 16  # below, XLA's own 1x1 convolution is faster than the product
MANY_OUTPUTS = 128  # from here, and more than inputs, dx is faster as products
FEW_INPUTS = 4  # so, too, up to here where each has as many outputs
LARGE_WINDOW = 25  # elements in two dimensions; from here, the patches cost more than they save
FEWEST_OUTPUTS = 32  # below, the product for dw is too thin
FEWEST_MULTIPLICATIONS = 50_000_000  # below, the chunks for dw are too small
FEWEST_ROWS = 64  # and below so many outputs of an image, too


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


def _equal_chunks(images: int, rows: int, columns: int, itemsize: int) -> int | None:
    """The same for chunks of equal size, whose results need no copy to be joined.

    None where these would be too small for an efficient product, which a prime number of small
    images leads to.
    """
    largest = images_per_chunk(images, rows, columns, itemsize)
    chunk = largest_divisor(images, largest)
    return chunk if chunk == images or chunk * rows >= CHUNK_ROWS else None


def _in_chunks(f: Callable[[Array], Array], chunk: int, x: Array) -> Array:
    """f on `chunk` images of x (N, ...) at a time, joined along the images."""
    images = x.shape[0]
    if chunk == images:
        return f(x)
    y = lax.map(f, x.reshape(images // chunk, chunk, *x.shape[1:]))
    return y.reshape(images, *y.shape[2:])


def convolve(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y (N, *output, O) by XLA's own convolution.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolve(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    padding = windows.padding
    cut_off = [(min(lo, 0), min(hi, 0), 0) for lo, hi in padding]
    if any(map(any, cut_off)):
        # With a negative padding XLA:CPU reads past the end of x.
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *cut_off, (0, 0, 0)])
        x, padding = lax.optimization_barrier(x), [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
    return lax.conv_general_dilated(
        x,
        w,
        windows.stride,
        padding,
        rhs_dilation=windows.dilation,
        dimension_numbers=LAYOUT[len(windows.size)],
        feature_group_count=groups,
    )


def convolve_products(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array | None:
    """The same by products y = P w, one for each group; None where XLA's own is faster.

    XLA has a fast convolution for a single group in one and two dimensions.

    >>> x, w = jnp.ones((2, 4, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 2))
    >>> windows = Windows.of("conv", (4, 4, 4), (3, 3, 3), 1, "VALID")
    >>> bool(jnp.all(convolve_products(x, w, windows) == convolve(x, w, windows)))
    True
    """
    columns, rows = math.prod(windows.window) * x.shape[-1], math.prod(windows.output)
    chunk = _equal_chunks(x.shape[0], rows, columns, x.dtype.itemsize)
    plain = groups == 1 and len(windows.size) < 3
    if set(windows.window) == {1}:
        chunk = x.shape[0]  # one product; the patches are x itself
        thin = columns < FEWEST_INPUTS or len(windows.size) == 1
        plain = plain and (set(windows.stride) != {1} or thin)
    if chunk is None or plain:
        return None
    flat = _flat(w, groups)  # (G, h*w*I/G, O/G)

    def product(part: Array) -> Array:
        patches = _patches(part, windows, groups)  # (chunk, *output, G, h*w*I/G)
        return _times(patches, flat, 1).astype(x.dtype)  # (chunk, *output, O)

    return _in_chunks(product, chunk, x)


def input_gradient_products(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array | None:
    """dx (N, *size, I) by products: dP = dy wᵀ, whose columns are added where P took them from.

    None where another form is faster: in one and two dimensions with stride 1, unless the outputs
    are many or the inputs few; or where chunks are too small.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient_products(dy, w, Windows.of("conv", (4,), 2, 2, "VALID")).ravel()
    Array([ 1., 10.,  1., 10.], dtype=float32)
    """
    inputs, outputs = w.shape[-2] * groups, w.shape[-1]
    columns, rows = math.prod(windows.window) * inputs, math.prod(windows.output)
    chunk = _equal_chunks(dy.shape[0], rows, columns, dy.dtype.itemsize)
    if set(windows.window) == {1} and (groups > 1 or len(windows.size) > 1):
        chunk = dy.shape[0]
    elif groups == 1 and len(windows.size) < 3 and set(windows.stride) == {1}:
        many = outputs >= MANY_OUTPUTS and outputs > inputs and len(windows.size) == 2
        few = inputs <= FEW_INPUTS and outputs >= FEW_INPUTS * inputs
        chunk = chunk if many or few else None
    if chunk is None:
        return None
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


def is_dw_by_products(images: int, windows: Windows, inputs: int, outputs: int) -> bool:
    """Whether dw of a single group is faster as products of patches than as a convolution.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> is_dw_by_products(64, windows, 32, 64), is_dw_by_products(64, windows, 16, 16)
    (True, False)
    """
    elements = math.prod(windows.window)
    if elements == 1 or len(windows.size) > 2:
        return True
    if len(windows.size) == 1 or elements >= LARGE_WINDOW:
        return False
    wider = inputs if _is_exchanged(windows, inputs, outputs) else outputs
    rows = math.prod(windows.output)
    if rows < FEWEST_ROWS:
        return False
    patches = rows * elements * inputs  # elements, of one image
    # To write large patches costs more than a product with few outputs saves.
    fewest = FEWEST_OUTPUTS if 8 * patches <= CHUNK_BYTES else 2 * FEWEST_OUTPUTS
    return wider >= fewest and at_least(images) * patches * outputs >= FEWEST_MULTIPLICATIONS


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
    if groups == 1 and _is_exchanged(windows, x.shape[-1], dy.shape[-1]):
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


def _is_exchanged(windows: Windows, inputs: int, outputs: int) -> bool:
    """Whether the patches for dw are those of dy: it has to be narrower by half, and stride 1."""
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
