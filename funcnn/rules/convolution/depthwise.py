"""Depthwise convolutions on a CPU: each channel stands alone, so nothing is a matrix product.

They are sums of shifted elementwise products over the window, which XLA fuses into one pass:

    y[p] = Σ_j x[p s + j d - lo] w[j],    dw[j] = Σ_p x[p s + j d - lo] dy[p].

XLA:CPU's own grouped convolution, one channel a group, is tens of times slower; its weight gradient
is that of the dense convolution, of whose C x C windows it keeps the diagonal.
"""

from __future__ import annotations

import functools
import math
import operator

import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.chunks import largest_divisor, sum_in_a_loop
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows, blocks_of, cut, laid_out
from funcnn.types import Array

BLOCK = 300_000  # products at a time, for dw: their sums stay in the cache
WIDE = 64  # channels; from here, vectors are full without joining the columns


def convolve_depthwise(x: Array, w: Array, windows: Windows) -> Array:
    """y (N, *output, C m) from x (N, *size, C) and w (*window, 1, C m).

    >>> x, w = jnp.array([[[1.0, 1.0], [2.0, 3.0]]]), jnp.array([1.0, 10.0]).reshape(1, 1, 2)
    >>> convolve_depthwise(x, w, Windows.of("conv", (2,), 1, 1, "SAME")).tolist()
    [[[1.0, 10.0], [2.0, 30.0]]]
    """
    return _sum_over_window(_repeated(x, w.shape[-1]), w, windows).astype(x.dtype)


def _sum_over_window(x: Array, w: Array, windows: Windows) -> Array:
    """y (N, *output, C) from x (N, *size, C) and w (*window, 1, C), not yet rounded."""
    return functools.reduce(operator.add, _products(cut(x, windows, 0), w))


def _products(parts: list[Array], w: Array) -> list[Array]:
    """Each part (N, ..., C m) times the element of the window that it meets."""
    elements = w.reshape(-1, w.shape[-1]).astype(accumulator(w))
    return [
        part.astype(element.dtype) * jnp.broadcast_to(element, part.shape)
        for part, element in zip(parts, elements, strict=True)
    ]


def input_gradient_depthwise(dy: Array, w: Array, windows: Windows, channels: int) -> Array:
    """dx (N, *size, C) from dy (N, *output, C m) and w (*window, 1, C m).

    x[q s + r] meets the elements of the window whose distance o from its first one leaves the
    remainder r, in dy[q - o // s]: so for each r and each of the m outputs of a channel, a sum over
    slices of dy.

    >>> dy, w = jnp.ones((1, 2, 2)), jnp.array([[1.0, 2.0], [10.0, 20.0]]).reshape(2, 1, 2)
    >>> input_gradient_depthwise(dy, w, Windows.of("conv", (3,), 2, 1, "VALID"), 2).tolist()
    [[[1.0, 2.0], [11.0, 22.0], [10.0, 20.0]]]
    """
    each = dy.shape[-1] // channels
    parts = [_back(dy[..., k::each], w[..., k::each], windows) for k in range(each)]
    return functools.reduce(operator.add, parts).astype(dy.dtype)  # (N, *size, C)


def _back(dy: Array, w: Array, windows: Windows) -> Array:
    """dx (N, *size, C) from dy (N, *output, C) and w (*window, 1, C), not yet rounded."""
    blocks, stride = blocks_of(windows), windows.stride
    furthest = tuple((e - 1) // s for e, s in zip(windows.extent, stride, strict=True))
    each = zip(furthest, blocks, windows.output, strict=True)
    borders = [(far, n - m, 0) for far, n, m in each]
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    elements = w.reshape(-1, w.shape[-1])
    sums: dict[tuple[int, ...], Array] = {}
    for element, offset in zip(elements, windows.offsets, strict=True):
        start = [far - o // s for far, o, s in zip(furthest, offset, stride, strict=True)]
        ends = [first + n for first, n in zip(start, blocks, strict=True)]
        part = lax.slice(dy, (0, *start, 0), (dy.shape[0], *ends, dy.shape[-1]))
        (product,) = _products([part], element)  # (N, *blocks, C)
        phase = tuple(o % s for o, s in zip(offset, stride, strict=True))
        sums[phase] = sums[phase] + product if phase in sums else product
    return laid_out(sums, windows)


def filter_gradient_depthwise(x: Array, dy: Array, windows: Windows) -> Array:
    """dw (*window, 1, C m) from x (N, *size, C) and dy (N, *output, C m), a block at a time.

    >>> x, dy = jnp.array([[[1.0, 1.0], [2.0, 3.0]]]), jnp.ones((1, 2, 2))
    >>> filter_gradient_depthwise(x, dy, Windows.of("conv", (2,), 1, 1, "VALID")).tolist()
    [[[3.0, 4.0]]]
    """
    channels, outputs = x.shape[-1], dy.shape[-1]
    shape = (*windows.window, 1, outputs)
    if 0 in (*x.shape, *dy.shape):
        return jnp.zeros(shape, x.dtype)
    if len(windows.size) == 1:  # a plane of one row
        x, dy, windows = x[:, None], dy[:, None], _as_plane(windows)
    each = outputs // channels
    dw = [_sums(x, dy[..., k::each], windows) for k in range(each)]  # m of (h*w, C)
    return jnp.stack(dw, -1).reshape(shape).astype(x.dtype)


def _as_plane(windows: Windows) -> Windows:
    return Windows(
        (1, *windows.size),
        (1, *windows.window),
        (1, *windows.stride),
        (1, *windows.dilation),
        ((0, 0), *windows.padding),
    )


def _sums(x: Array, dy: Array, windows: Windows) -> Array:
    """dw (h*w, C) from x (N, *size, C) and dy (N, *output, C).

    One array of the size of a block for each element of the window: the products are added to it
    block by block, elementwise, and only at the end it is summed.
    """
    channels = dy.shape[-1]
    images, rows = _block(dy.shape, len(windows.offsets))
    across, count = dy.shape[1] // rows, dy.shape[0] // images * (dy.shape[1] // rows)
    stride, borders = windows.stride[0], [(lo, hi, 0) for lo, hi in windows.padding]
    size = tuple(n + lo + hi for n, (lo, hi, _) in zip(windows.size, borders, strict=True))
    size = ((rows - 1) * stride + windows.extent[0], *size[1:])
    block = Windows(size, windows.window, windows.stride, windows.dilation, ((0, 0),) * len(size))
    in_rows = windows.stride[-1] == 1 and channels < WIDE
    if in_rows:
        x, dy = _in_rows(x), _in_rows(dy)
        lo, hi = windows.padding[-1]
        borders[-1] = (lo * channels, hi * channels, 0)
    else:
        borders.append((0, 0, 0))
    x = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders]))
    rest = (0,) * (dy.ndim - 2)

    def products(i: Array | int) -> list[Array]:
        image, row = i // across * images, i % across * rows
        x_part = lax.dynamic_slice(x, (image, row * stride, *rest), (images, size[0], *x.shape[2:]))
        dy_part = lax.dynamic_slice(dy, (image, row, *rest), (images, rows, *dy.shape[2:]))
        x_part, dy_part = lax.optimization_barrier((x_part, dy_part))
        dy_part = dy_part.astype(accumulator(dy))
        parts = _cut_rows(x_part, block, channels) if in_rows else cut(x_part, block, 0)
        return [part.astype(dy_part.dtype) * dy_part for part in parts]

    # h*w of (images, rows, ..., C)
    totals = lax.optimization_barrier(sum_in_a_loop(products, count))
    return jnp.stack([jnp.sum(total.reshape(-1, channels), 0) for total in totals])


# XLA:CPU runs an elementwise operation along the last axis only, so with few channels it would
# fill its vectors badly. A row of columns and channels is one long axis.


def _in_rows(x: Array) -> Array:
    """(N, ..., W, C) as (N, ..., W C)."""
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _cut_rows(x: Array, windows: Windows, channels: int) -> list[Array]:
    """What `cut` gives, of rows (N, ..., W C) without padding and with stride 1 along them."""
    stride = (*windows.stride[:-1], 1)
    length = windows.output[-1] * channels
    parts = []
    for offset in windows.offsets:
        start = (*offset[:-1], offset[-1] * channels)
        each = zip(start, (*windows.output[:-1], length), stride, strict=True)
        ends = tuple(first + (count - 1) * s + 1 for first, count, s in each)
        parts.append(lax.slice(x, (0, *start), (x.shape[0], *ends), (1, *stride)))
    return parts  # h*w of (N, ..., W' C)


def _block(shape: tuple[int, ...], elements: int) -> tuple[int, int]:
    """How many images of dy (N, H', ..., C), or else rows of one, are taken at a time.

    Divisors of theirs, so that all blocks are equal. The window has so many elements.

    >>> _block((16, 8, 8, 32), 9), _block((16, 56, 56, 16), 9), _block((16, 56, 56, 128), 9)
    ((16, 8), (1, 28), (1, 4))
    """
    images, rows, *rest = shape
    fitting = max(1, BLOCK // (elements * math.prod(rest)))  # rows
    if fitting >= rows:
        return largest_divisor(images, fitting // rows), rows
    return 1, largest_divisor(rows, fitting)


def _repeated(x: Array, outputs: int) -> Array:
    """x with each channel as often as it has outputs."""
    return x if x.shape[-1] == outputs else jnp.repeat(x, outputs // x.shape[-1], axis=-1)
