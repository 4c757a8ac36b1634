"""A convolution and its two gradients, each in the form that its platform runs fastest.

The derivation stands in conv.py. On a CPU: matrix products, or convolutions of forward form.
Elsewhere: the convolutions, forward and transposed, that the vendor's library knows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from funcnn.rules.convolution.depthwise import (
    convolve_depthwise,
    filter_gradient_depthwise,
    input_gradient_depthwise,
    is_depthwise,
)
from funcnn.rules.convolution.patches import (
    FEW_INPUTS,
    FEWEST_ROWS,
    LAYOUT,
    convolve,
    convolve_products,
    filter_gradient_products,
    input_gradient_products,
    is_dw_by_products,
)
from funcnn.rules.convolution.phases import input_gradient_in_phases, is_best_in_phases
from funcnn.rules.convolution.planes import (
    convolve_by_planes,
    filter_gradient_by_planes,
    is_by_planes,
)
from funcnn.rules.convolution.winograd import (
    convolve_winograd,
    filter_gradient_winograd,
    is_best_by_winograd,
    is_dw_best_by_winograd,
)
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array

# Up to so many channels that stand alone, the dw of a dense convolution costs less than their sums.
FEW_CHANNELS = 8
FEWEST_OF_GROUP = 16  # channels on either side; below, one product for each group is faster
MOST_UNROLLED = 4  # groups; more of them would take long to compile, so they are a loop

# All three are jitted for eager use: a loop and a choice of platform are compiled anew at each
# eager call otherwise. Inside another jit this changes nothing.


@functools.partial(jax.jit, static_argnames=("windows", "groups"))
def convolution(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y (N, *output, O) from x (N, *size, I) and w (*window, I/groups, O), as suits the platform.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolution(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    return lax.platform_dependent(
        x,
        w,
        cpu=functools.partial(convolve_fastest, windows=windows, groups=groups),
        default=functools.partial(convolve, windows=windows, groups=groups),
    )


@functools.partial(jax.jit, static_argnames=("windows", "groups"))
def input_gradient(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx (N, *size, I) from dy (N, *output, O) and w, in the form that suits the platform.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    return lax.platform_dependent(
        dy,
        w,
        cpu=functools.partial(input_gradient_fastest, windows=windows, groups=groups),
        default=functools.partial(input_gradient_transposed_form, windows=windows, groups=groups),
    )


@functools.partial(jax.jit, static_argnames=("windows", "groups"))
def filter_gradient(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw (*window, I/groups, O) from x (N, *size, I) and dy (N, *output, O), in its form.

    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    if windows.output == windows.size and set(windows.window) == {1} and groups == 1:
        return filter_gradient_products(x, dy, windows)  # one product, the best on every platform
    return lax.platform_dependent(
        x,
        dy,
        cpu=functools.partial(filter_gradient_fastest, windows=windows, groups=groups),
        default=functools.partial(filter_gradient_convolution, windows=windows, groups=groups),
    )


# On a CPU: sums over the window where each channel stands alone, group by group where groups are
# wide, plane by plane in a volume, else Winograd's products or those of patches where they are
# faster, else a convolution of forward form.


def convolve_fastest(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y on a CPU.

    >>> x, w = jnp.ones((8, 8, 8, 32)), jnp.ones((3, 3, 32, 2))
    >>> windows = Windows.of("conv", (8, 8), (3, 3), 1, "VALID")
    >>> bool(jnp.all(convolve_fastest(x, w, windows) == convolve(x, w, windows)))
    True
    """
    if is_depthwise(x.shape[-1], w.shape[-1], groups):
        return convolve_depthwise(x, w, windows)
    if _is_group_by_group(w.shape[-2], w.shape[-1], windows, groups):
        return _each_group(functools.partial(convolve_fastest, windows=windows), groups, x, w)
    if groups == 1 and is_by_planes(windows):
        return convolve_by_planes(convolve_fastest, x, w, windows)
    if groups == 1 and is_best_by_winograd(x, w, windows):
        return convolve_winograd(x, w, windows)
    by_products = convolve_products(x, w, windows, groups)
    return convolve(x, w, windows, groups) if by_products is None else by_products


def input_gradient_fastest(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx on a CPU.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient_fastest(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    inputs, outputs = w.shape[-2], w.shape[-1]
    if is_depthwise(inputs * groups, outputs, groups):
        return input_gradient_depthwise(dy, w, windows, groups)
    if _is_group_by_group(inputs, outputs, windows, groups):
        each = functools.partial(input_gradient_fastest, windows=windows)
        return _each_group(each, groups, dy, w)
    if groups == 1 and is_best_in_phases(windows):
        return input_gradient_in_phases(dy, w, windows)
    by_planes = is_by_planes(windows) and set(windows.stride) == {1} and inputs > FEW_INPUTS
    if groups > 1 or not (by_planes or is_best_by_winograd(dy, w, windows)):
        by_products = input_gradient_products(dy, w, windows, groups)
        if by_products is not None:
            return by_products
    return input_gradient_forward_form(dy, w, windows, groups)


def filter_gradient_fastest(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw on a CPU.

    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient_fastest(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    inputs, outputs = x.shape[-1], dy.shape[-1]
    if is_depthwise(inputs, outputs, groups):
        if outputs > FEW_CHANNELS:
            return filter_gradient_depthwise(x, dy, windows)
        dense = filter_gradient_fastest(x, dy, windows)  # (*window, I, O)
        return _own_channel(dense, groups)
    if groups > 1:
        if set(windows.stride) != {1} or set(windows.window) == {1}:
            return filter_gradient_products(x, dy, windows, groups)
        each = functools.partial(filter_gradient_fastest, windows=windows)
        return _each_group(each, groups, x, dy)
    if is_by_planes(windows) and math.prod(windows.output[1:]) >= FEWEST_ROWS:
        return filter_gradient_by_planes(filter_gradient_fastest, x, dy, windows)
    if is_dw_best_by_winograd(x, dy, windows):
        return filter_gradient_winograd(x, dy, windows)
    if is_dw_by_products(x.shape[0], windows, inputs, outputs):
        return filter_gradient_products(x, dy, windows)
    return filter_gradient_forward_form(x, dy, windows)


def _is_group_by_group(inputs: int, outputs: int, windows: Windows, groups: int) -> bool:
    """Whether y and dx of groups with so many inputs each are faster one group after the other."""
    wide = min(inputs, outputs // groups) >= FEWEST_OF_GROUP
    return groups > 1 and wide and len(windows.size) > 1 and set(windows.window) != {1}


def _each_group(f: Callable[..., Array], groups: int, *arrays: Array) -> Array:
    """f of the channels (..., C/G) of each group of the arrays, joined along the channels."""
    if groups <= MOST_UNROLLED:
        parts = [jnp.split(a, groups, -1) for a in arrays]
        results = [f(*lax.optimization_barrier(of_group)) for of_group in zip(*parts, strict=True)]
        return jnp.concatenate(results, -1)
    apart = [a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups) for a in arrays]
    stacked = tuple(jnp.moveaxis(a, -2, 0) for a in apart)  # each (G, ..., C/G)
    joined = jnp.moveaxis(lax.map(lambda of_group: f(*of_group), stacked), 0, -2)
    return joined.reshape(*joined.shape[:-2], groups * joined.shape[-1])


def _own_channel(dense: Array, groups: int) -> Array:
    """Of a dense dw (*window, I, O), the input channel of each output: (*window, 1, O)."""
    outputs = dense.shape[-1]
    own = jnp.arange(outputs) // (outputs // groups)
    own = own.reshape((1,) * (dense.ndim - 1) + (outputs,))
    return jnp.take_along_axis(dense, own, -2)


def _exchanged(w: Array, groups: int) -> Array:
    """w (*window, I/G, O) flipped, with the channels of each group exchanged: (*window, O/G, I)."""
    *window, inputs, outputs = w.shape
    flipped = lax.rev(w, range(len(window)))
    flipped = flipped.reshape(*window, inputs, groups, outputs // groups)
    return flipped.swapaxes(-3, -1).reshape(*window, outputs // groups, groups * inputs)


def input_gradient_forward_form(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx as a convolution of forward form: the zeros between and round dy are written out."""
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
    return convolve_fastest(dy, flipped, z, groups)


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
