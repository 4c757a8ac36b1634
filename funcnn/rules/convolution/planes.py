"""Convolutions of volumes on a CPU as those of their planes.

XLA:CPU has a fast convolution in two dimensions and a slow one in three, and the patches of a
volume are k times those of its planes, with k elements of the window along the depth. But

    y[p] = Σ_j (the plane p + j d - lo of x) * w[j],

a sum of k convolutions of planes. All of them are one, of every plane with k O outputs, of which
shifted ones are added. In the same way dw is that of the planes with k I inputs, those of the
planes that meet w[0], w[1], ...; each needs stride 1 along the depth.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.windows import Windows, cut
from funcnn.types import Array


def _of_plane(windows: Windows) -> Windows:
    return Windows(
        windows.size[1:],
        windows.window[1:],
        windows.stride[1:],
        windows.dilation[1:],
        windows.padding[1:],
    )


def _along_depth(windows: Windows, depth: int) -> Windows:
    """The windows on (N, D, ., C), whose elements are whole planes."""
    return Windows(
        (depth, 1),
        (windows.window[0], 1),
        (1, 1),
        (windows.dilation[0], 1),
        (windows.padding[0], (0, 0)),
    )


def convolve_by_planes(
    convolve: Callable[[Array, Array, Windows], Array], x: Array, w: Array, windows: Windows
) -> Array:
    """y (N, D', H', W', O), where `convolve` is that of planes.

    >>> from funcnn.rules.convolution.forms import convolve
    >>> x, w = jnp.arange(12.0).reshape(1, 3, 2, 2, 1), jnp.ones((2, 2, 2, 1, 1))
    >>> windows = Windows.of("conv", (3, 2, 2), (2, 2, 2), 1, "VALID")
    >>> convolve_by_planes(convolve, x, w, windows).ravel()
    Array([28., 60.], dtype=float32)
    """
    images, depth = x.shape[:2]
    count, outputs = w.shape[0], w.shape[-1]
    w = jnp.moveaxis(w, 0, -2)  # (h, w, I, k, O)
    w = lax.optimization_barrier(w.reshape(*w.shape[:-2], count * outputs))
    planes = convolve(x.reshape(images * depth, *x.shape[2:]), w, _of_plane(windows))
    planes = lax.optimization_barrier(planes)  # (N D, H', W', k O)
    parts = []
    for j, of_one in enumerate(_elements(planes, count, outputs)):
        of_one = of_one.reshape(images, depth, 1, math.prod(of_one.shape[1:]))
        parts.append(cut(of_one, _along_depth(windows, depth), 0)[j])  # (N, D', 1, H' W' O)
    return functools.reduce(operator.add, parts).reshape(images, *windows.output, outputs)


def _elements(planes: Array, count: int, outputs: int) -> list[Array]:
    return [planes[..., j * outputs : (j + 1) * outputs] for j in range(count)]


def filter_gradient_by_planes(
    filter_gradient: Callable[[Array, Array, Windows], Array], x: Array, dy: Array, windows: Windows
) -> Array:
    """dw (d, h, w, I, O), where `filter_gradient` is that of planes.

    >>> from funcnn.rules.convolution.patches import filter_gradient_products
    >>> x, dy = jnp.arange(12.0).reshape(1, 3, 2, 2, 1), jnp.ones((1, 2, 1, 1, 1))
    >>> windows = Windows.of("conv", (3, 2, 2), (2, 2, 2), 1, "VALID")
    >>> filter_gradient_by_planes(filter_gradient_products, x, dy, windows).ravel()
    Array([ 4.,  6.,  8., 10., 12., 14., 16., 18.], dtype=float32)
    """
    images, depth, *plane, inputs = x.shape
    # The planes that meet each element of the window, side by side as channels.
    rows = x.reshape(images, depth, 1, math.prod(x.shape[2:]))
    parts = cut(rows, _along_depth(windows, depth), 0)
    total = images * windows.output[0]
    beside = [part.reshape(total, *plane, inputs) for part in parts]  # k of (N D', H, W, I)
    x = lax.optimization_barrier(jnp.concatenate(beside, -1))
    dy = dy.reshape(total, *dy.shape[2:])
    dw = filter_gradient(x, dy, _of_plane(windows))  # (h, w, k I, O)
    dw = dw.reshape(*dw.shape[:2], windows.window[0], inputs, dy.shape[-1])
    return jnp.moveaxis(dw, 2, 0)
