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

Source: Winograd, Arithmetic complexity of computations, 1980; Lavin, Gray, Fast algorithms for
convolutional neural networks, 2015, F(2x2, 3x3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from funcnn.rules.precision import accumulator
from funcnn.rules.windows import Windows

# Measured on two CPU cores.
FEWEST_CHANNELS = 32  # on either side, and twice as many on the other
FEWEST_TILES = 512
CHUNK_BYTES = 16_000_000  # of V and m


def is_best_by_winograd(x: Any, w: Any, windows: Windows) -> bool:
    """Whether y of a single group on a CPU is fastest so; with dy in place of x, whether dx is.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> x, w = jnp.zeros((64, 28, 28, 32)), jnp.zeros((3, 3, 32, 64))
    >>> is_best_by_winograd(x, w, windows), is_best_by_winograd(x, w[..., :8], windows)
    (True, False)
    """
    plain = windows.window == (3, 3) and windows.stride == windows.dilation == (1, 1)
    tiles = x.shape[0] * math.prod(windows.output) // 4
    # With fewer digits the sums would lose too many of them.
    exact = accumulator(x) == x.dtype
    narrow, wide = sorted(w.shape[-2:])
    many = narrow >= FEWEST_CHANNELS and wide >= 2 * FEWEST_CHANNELS
    return plain and exact and many and tiles >= FEWEST_TILES


def convolve_winograd(x: Any, w: Any, windows: Windows) -> Any:
    """y (N, H', W', O) from x (N, H, W, I) and w (3, 3, I, O), a chunk of images at a time.

    >>> x, w = jnp.ones((1, 4, 5, 1)), jnp.ones((3, 3, 1, 1))
    >>> convolve_winograd(x, w, Windows.of("conv", (4, 5), (3, 3), 1, "VALID")).ravel()
    Array([9., 9., 9., 9., 9., 9.], dtype=float32)
    """
    images, outputs = x.shape[0], w.shape[-1]
    # (16, I, O); without the barrier the loop below would make it anew for each chunk.
    u = lax.optimization_barrier(_on_both_axes(_of_w, w))
    area = math.prod(windows.output)
    each = 4 * area * (x.shape[-1] + outputs) * x.dtype.itemsize
    fitting = min(images, max(1, CHUNK_BYTES // max(each, 1)))
    chunk = next((n for n in range(fitting, 1, -1) if images % n == 0), 1)
    if chunk >= images:
        return _of_chunk(x, u, windows)
    parts = x.reshape(images // chunk, chunk, *x.shape[1:])
    y = lax.map(lambda part: _of_chunk(part, u, windows), parts)
    return y.reshape(images, *y.shape[2:])


def _of_chunk(x: Any, u: Any, windows: Windows) -> Any:
    """y of some images from U (16, I, O)."""
    tiles = tuple(-(-n // 2) for n in windows.output)
    borders = [
        (lo, 2 * t + 2 - n - lo, 0)
        for (lo, _), t, n in zip(windows.padding, tiles, windows.size, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    h, w = (2 * t for t in tiles)
    # The elements (i, j) of all tiles: every second row and column, from i and j on.
    elements = [[x[:, i : i + h : 2, j : j + w : 2] for j in range(4)] for i in range(4)]
    v = lax.optimization_barrier(_on_both_axes(_of_x, elements))  # (16, N, h, w, I)
    axes = (((4,), (1,)), ((0,), (0,)))
    m = lax.dot_general(v, u, axes, preferred_element_type=accumulator(x))
    m = lax.optimization_barrier(m)  # (16, N, h, w, O); else each y computes its sums again
    y = _on_both_axes(_of_m, [[m[4 * a + b] for b in range(4)] for a in range(4)])
    y = y.reshape(2, 2, *y.shape[1:])  # (2, 2, N, h, w, O)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(x.shape[0], h, w, -1)
    return y[:, : windows.output[0], : windows.output[1]]


def _of_x(x: Sequence[Any]) -> list[Any]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _of_w(w: Sequence[Any]) -> list[Any]:
    return [w[0], (w[0] + w[1] + w[2]) / 2, (w[0] - w[1] + w[2]) / 2, w[2]]


def _of_m(m: Sequence[Any]) -> list[Any]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _on_both_axes(f: Callable[[Sequence[Any]], list[Any]], elements: Any) -> Any:
    """f along the first index, then along the second; the results stacked, row by row."""
    columns = [f([row[j] for row in elements]) for j in range(len(elements[0]))]
    rows = [f([column[i] for column in columns]) for i in range(len(columns[0]))]
    return jnp.stack([element for row in rows for element in row])
