"""dx of a strided convolution on a CPU as one convolution with stride 1.

The element j = q s + r of a window with stride s only reaches positions i + lo = m s + r, so each
remainder r is a convolution of its own, with every s-th element of w:

    dx[m s + r - lo] = Σ_q dy[m - q] w[q s + r]ᵀ.

All of them are one, with the remainders as channels, which are then laid out side by side. No zero
between neighbours of dy is multiplied, but those that fill the window up to a multiple of s are.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from funcnn.rules.convolution.forms import convolve
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array


def input_gradient_in_phases(dy: Array, w: Array, windows: Windows) -> Array:
    """dx (N, *size, I) from dy (N, *output, O) and w (*window, I, O).

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    >>> input_gradient_in_phases(dy, w, Windows.of("conv", (5,), 3, 2, "VALID")).ravel()
    Array([  1.,  10., 101.,  10., 100.], dtype=float32)
    """
    axes, inputs = range(len(windows.size)), w.shape[-2]
    stride = windows.stride
    taps = tuple(-(-k // s) for k, s in zip(windows.window, stride, strict=True))
    filled = [(0, q * s - k) for q, s, k in zip(taps, stride, windows.window, strict=True)]
    w = jnp.pad(w, [*filled, (0, 0), (0, 0)])
    w = w.reshape(*(n for pair in zip(taps, stride, strict=True) for n in pair), *w.shape[-2:])
    q, r = [2 * a for a in axes], [2 * a + 1 for a in axes]
    w = lax.rev(w.transpose(*q, -1, *r, -2), axes).reshape(*taps, dy.shape[-1], -1)
    first = [lo for lo, _ in windows.padding]
    blocks = [-(-(lo + n) // s) for lo, n, s in zip(first, windows.size, stride, strict=True)]
    borders = zip(taps, blocks, windows.output, strict=True)
    padding = tuple((q - 1, max(0, m - n)) for q, m, n in borders)
    ones = (1,) * len(stride)
    every = Windows(dy.shape[1:-1], taps, ones, ones, padding)
    # Without the barrier XLA makes the flip an attribute of the convolution again: a slow path.
    dx = convolve(dy, lax.optimization_barrier(w), every)  # (N, M, M', s s' I)
    blocks = dx.shape[1:-1]
    dx = dx.reshape(dx.shape[0], *blocks, *stride, inputs)
    order = [axis for a in axes for axis in (1 + a, 1 + len(stride) + a)]
    dx = dx.transpose(0, *order, -1)  # (N, M, s, M', s', I)
    dx = dx.reshape(dx.shape[0], *(m * s for m, s in zip(blocks, stride, strict=True)), inputs)
    inside = (slice(lo, lo + n) for lo, n in zip(first, windows.size, strict=True))
    return dx[(slice(None), *inside)]  # (N, *size, I)
