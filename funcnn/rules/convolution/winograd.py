r"""A 3x3 convolution with stride 1 in 16 products for each 2x2 outputs in place of 36.

In one dimension two neighbouring outputs of a window of three are

    y_0 = x_0 w_0 + x_1 w_1 + x_2 w_2,    y_1 = x_1 w_0 + x_2 w_1 + x_3 w_2,

six products. Four are enough:

    m_0 = (x_0 - x_2) w_0                 m_1 = (x_1 + x_2) (w_0 + w_1 + w_2) / 2
    m_3 = (x_1 - x_3) w_2                 m_2 = (x_2 - x_1) (w_0 - w_1 + w_2) / 2
    y_0 = m_0 + m_1 + m_2                 y_1 = m_1 - m_2 - m_3.

In two dimensions the same is done along both axes, and with channels each product is a matrix
product: m_k = V_k U_k over the input channels, k = 1, ..., 16, for all tiles of all images. V is
made of x by additions, U of w once, y of m by additions. As U_k are 16 matrices (I, O) against the
9 of w, and V is four times as large as x, it pays where there are many channels and many tiles.

All of that is linear in x and in w, so dw takes the same way back: the gradients of m are dy spread
out by the transpose of the last line,

    s_0 = dy_0,    s_1 = dy_0 + dy_1,    s_2 = dy_0 - dy_1,    s_3 = -dy_1,

those of U_k are V_kᵀ S_k over all tiles, again 16 products for 36, and dw is the transpose of what
made U of w:

    dw_0 = dU_0 + a,    dw_1 = (dU_1 - dU_2) / 2,    dw_2 = a + dU_3    with a = (dU_1 + dU_2) / 2.

Source: Winograd, Arithmetic complexity of computations, 1980; Lavin, Gray, Fast algorithms for
convolutional neural networks, 2015, F(2x2, 3x3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.chunks import largest_divisor, sum_in_a_loop
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array

CHUNK_BYTES = 16_000_000  # of V and m, or V and S; measured on two CPU cores


def convolve_winograd(x: Array, w: Array, windows: Windows) -> Array:
    """y (N, H', W', O) from x (N, H, W, I) and w (3, 3, I, O), a chunk of images at a time.

    >>> x, w = jnp.ones((1, 4, 5, 1)), jnp.ones((3, 3, 1, 1))
    >>> convolve_winograd(x, w, Windows.of("conv", (4, 5), (3, 3), 1, "VALID")).ravel()
    Array([9., 9., 9., 9., 9., 9.], dtype=float32)
    """
    # 16 matrices (I, O); without the barrier the loop below would make them anew for each chunk.
    u = lax.optimization_barrier(_on_both_axes(_of_w, w))
    chunk = _images_per_chunk(x, w.shape[-1], windows)
    y = lax.map(lambda part: _of_chunk(part, u, windows), _split(x, chunk))
    return y.reshape(x.shape[0], *y.shape[2:])


def _of_chunk(x: Array, u: Sequence[Array], windows: Windows) -> Array:
    """y of some images from the matrices U."""
    v = _of_tiles(x, windows)  # 16 of (N, h, w, I)
    axes = (((3,), (0,)), ((), ()))
    pairs = zip(v, u, strict=True)
    m = [lax.dot_general(a, b, axes, preferred_element_type=accumulator(x)) for a, b in pairs]
    m = lax.optimization_barrier(m)  # 16 of (N, h, w, O); else each y computes its sums again
    y = jnp.stack(_on_both_axes(_of_m, _in_rows(m)))
    y = y.reshape(2, 2, *y.shape[1:])  # (2, 2, N, h, w, O)
    h, w = (2 * n for n in y.shape[3:5])
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(x.shape[0], h, w, -1)
    return y[:, : windows.output[0], : windows.output[1]]


def filter_gradient_winograd(x: Array, dy: Array, windows: Windows) -> Array:
    """dw (3, 3, I, O) from x (N, H, W, I) and dy (N, H', W', O), a chunk of images at a time.

    >>> x, dy = jnp.ones((1, 4, 5, 1)), jnp.ones((1, 2, 3, 1))
    >>> dw = filter_gradient_winograd(x, dy, Windows.of("conv", (4, 5), (3, 3), 1, "VALID"))
    >>> dw.ravel()
    Array([6., 6., 6., 6., 6., 6., 6., 6., 6.], dtype=float32)
    """
    chunk = _images_per_chunk(x, dy.shape[-1], windows)
    parts = _split(x, chunk), _split(dy, chunk)

    def products(i: Array | int) -> list[Array]:
        x_part, dy_part = (lax.dynamic_index_in_dim(a, i, keepdims=False) for a in parts)
        odd = [(0, n % 2) for n in windows.output]
        dy_part = jnp.pad(dy_part, [(0, 0), *odd, (0, 0)])
        outputs = [[dy_part[:, i::2, j::2] for j in range(2)] for i in range(2)]
        s = lax.optimization_barrier(_on_both_axes(_of_dy, outputs))  # 16 of (N, h, w, O)
        pairs = zip(_of_tiles(x_part, windows), s, strict=True)
        return [_product_over_tiles(a, b) for a, b in pairs]

    du = sum_in_a_loop(products, x.shape[0] // chunk)  # 16 of (I, O)
    dw = jnp.stack(_on_both_axes(_of_du, _in_rows(lax.optimization_barrier(du))))
    return dw.reshape(3, 3, *dw.shape[1:]).astype(x.dtype)


def _product_over_tiles(v: Array, s: Array) -> Array:
    """Vᵀ S (I, O)."""
    v, s = (a.reshape(-1, a.shape[-1]) for a in (v, s))
    axes = (((0,), (0,)), ((), ()))
    return lax.dot_general(v, s, axes, preferred_element_type=accumulator(v))


def _images_per_chunk(x: Array, outputs: int, windows: Windows) -> int:
    """A divisor of the images, so that all chunks are equal."""
    images = x.shape[0]
    each = 4 * math.prod(windows.output) * (x.shape[-1] + outputs) * x.dtype.itemsize
    return largest_divisor(images, max(1, CHUNK_BYTES // max(each, 1)))


def _split(x: Array, chunk: int) -> Array:
    return x.reshape(x.shape[0] // chunk, chunk, *x.shape[1:])


def _of_tiles(x: Array, windows: Windows) -> list[Array]:
    """V of some images, 16 of (N, h, w, I).

    They are arrays of their own: XLA:CPU writes them three times as fast as one that joins them.
    """
    tiles = tuple(-(-n // 2) for n in windows.output)
    borders = [
        (lo, 2 * t + 2 - n - lo, 0)
        for (lo, _), t, n in zip(windows.padding, tiles, windows.size, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    h, w = (2 * t for t in tiles)
    # The elements (i, j) of all tiles: every second row and column, from i and j on.
    elements = [[x[:, i : i + h : 2, j : j + w : 2] for j in range(4)] for i in range(4)]
    return lax.optimization_barrier(_on_both_axes(_of_x, elements))


def _of_x(x: Sequence[Array]) -> list[Array]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _of_w(w: Sequence[Array]) -> list[Array]:
    return [w[0], (w[0] + w[1] + w[2]) / 2, (w[0] - w[1] + w[2]) / 2, w[2]]


def _of_m(m: Sequence[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _of_dy(dy: Sequence[Array]) -> list[Array]:
    return [dy[0], dy[0] + dy[1], dy[0] - dy[1], -dy[1]]


def _of_du(du: Sequence[Array]) -> list[Array]:
    half = (du[1] + du[2]) / 2
    return [du[0] + half, (du[1] - du[2]) / 2, half + du[3]]


def _on_both_axes(
    f: Callable[[Sequence[Array]], list[Array]], elements: Array | Sequence[Sequence[Array]]
) -> list[Array]:
    """f along the first index, then along the second; the results row by row."""
    columns = [f([row[j] for row in elements]) for j in range(len(elements[0]))]
    rows = [f([column[i] for column in columns]) for i in range(len(columns[0]))]
    return [element for row in rows for element in row]


def _in_rows(elements: Sequence[Array]) -> list[Sequence[Array]]:
    """The 16 as four rows of four."""
    return [elements[4 * i : 4 * i + 4] for i in range(4)]
