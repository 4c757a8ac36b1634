"""A convolution and its two gradients as XLA's own convolutions, in the forms that it has fast.

On a CPU that is the forward form: what XLA's gradients say by attributes of a convolution (zeros
between, flips, exchanged axes) is written out here. A GPU's library knows these attributes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.windows import Windows
from funcnn.types import Array

LAYOUT = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


def convolve(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y (N, *output, O) by XLA's own convolution.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolve(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    padding = windows.padding
    if any(side < 0 for sides in padding for side in sides):
        # With a negative padding XLA:CPU reads past the end of x.
        cuts, padding = zip(*map(_cut_and_added, x.shape[1:-1], padding), strict=True)
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *cuts, (0, 0, 0)])
        x = lax.optimization_barrier(x)
    return lax.conv_general_dilated(
        x,
        w,
        windows.stride,
        padding,
        rhs_dilation=windows.dilation,
        dimension_numbers=LAYOUT[len(windows.size)],
        feature_group_count=groups,
    )


def _cut_and_added(
    n: int, padding: tuple[int, int]
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """A padding of n elements in two steps: what it cuts off, and the zeros that it adds.

    A cut past all of them takes zeros of the other side.

    >>> _cut_and_added(5, (4, -7))
    ((0, -5, 0), (2, 0))
    """
    lo, hi = padding
    cut_lo, cut_hi = max(min(lo, 0), -n), max(min(hi, 0), -n)
    added = max(lo, 0) + min(hi - cut_hi, 0), max(hi, 0) + min(lo - cut_lo, 0)
    return (cut_lo, cut_hi, 0), added


def _exchanged(w: Array, groups: int) -> Array:
    """w (*window, I/G, O) flipped, with the channels of each group exchanged: (*window, O/G, I)."""
    *window, inputs, outputs = w.shape
    flipped = lax.rev(w, range(len(window)))
    flipped = flipped.reshape(*window, inputs, groups, outputs // groups)
    return flipped.swapaxes(-3, -1).reshape(*window, outputs // groups, groups * inputs)


def input_gradient_forward_form(
    convolve: Callable[[Array, Array, Windows, int], Array],
    dy: Array,
    w: Array,
    windows: Windows,
    groups: int = 1,
) -> Array:
    """dx by `convolve`, a convolution of forward form: the zeros round and in dy are written out.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> windows = Windows.of("conv", (3,), 2, 1, "VALID")
    >>> input_gradient_forward_form(convolve, dy, w, windows).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    # Without the barriers XLA makes the zeros and the flip attributes of the convolution again, and
    # takes its slow path.
    ones = (1,) * len(windows.size)
    padding = windows.gradient_padding
    if windows.stride != ones or any(p < 0 for pair in padding for p in pair):
        interior = [(lo, hi, s - 1) for (lo, hi), s in zip(padding, windows.stride, strict=True)]
        zeros = jnp.zeros((), dy.dtype)
        dy = lax.optimization_barrier(lax.pad(dy, zeros, [(0, 0, 0), *interior, (0, 0, 0)]))
        padding = ((0, 0),) * len(ones)
    flipped = lax.optimization_barrier(_exchanged(w, groups))  # (h, w, O/G, I)
    z = Windows(dy.shape[1:-1], windows.window, ones, windows.dilation, padding)
    return convolve(dy, flipped, z, groups)


def input_gradient_transposed_form(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx as the transposed convolution that a GPU's library knows as "backward data"."""
    return lax.conv_general_dilated(
        dy,
        _exchanged(w, groups),
        (1,) * len(windows.size),
        windows.gradient_padding,
        lhs_dilation=windows.stride,
        rhs_dilation=windows.dilation,
        dimension_numbers=LAYOUT[len(windows.size)],
        feature_group_count=groups,
    )


def _filter_padding(windows: Windows) -> list[tuple[int, int]]:
    """The padding of x where dy is the window that slides over it."""
    padding = []
    axes = zip(
        windows.size, windows.output, windows.stride, windows.extent, windows.padding, strict=True
    )
    for n, m, s, e, (lo, _) in axes:
        # Padded, x has e positions for dy, which reaches over (m-1)*s + 1; the rest is uncovered.
        padding.append((lo, e - 1 + (m - 1) * s + 1 - n - lo))
    return padding


def filter_gradient_forward_form(x: Array, dy: Array, windows: Windows) -> Array:
    """dw as a convolution of forward form: the transposes are written out."""
    # Without the barriers XLA makes the transposes attributes of the convolution again, which it
    # runs slowly in a loop.
    x = jnp.swapaxes(x, 0, -1)  # (I, H, W, N)
    dy = jnp.moveaxis(dy, 0, -2)  # (H', W', N, O)
    x, dy = lax.optimization_barrier((x, dy))
    padding = tuple(_filter_padding(windows))
    over_x = Windows(windows.size, windows.output, windows.dilation, windows.stride, padding)
    dw = convolve(x, dy, over_x)  # (I, h, w, O)
    return jnp.moveaxis(lax.optimization_barrier(dw), 0, -2)  # (h, w, I, O)


def filter_gradient_convolution(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw as a convolution of x with dy as its window: "backward filter" in a GPU's library.

    Batch and channels change places: the sum runs over the images.
    """
    space = LAYOUT[len(windows.size)][0][1:-1]
    return lax.conv_general_dilated(
        x,
        dy,
        windows.dilation,
        _filter_padding(windows),
        rhs_dilation=windows.stride,
        dimension_numbers=(f"C{space}N", f"I{space}O", f"{space}NC"),
        batch_group_count=groups,
    )
