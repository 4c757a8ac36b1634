"""A convolution and its two gradients, each in the form that its platform runs fastest.

The derivation stands in convolution.py. On a CPU: matrix products, or convolutions of forward form.
Elsewhere: the convolutions, forward and transposed, that the vendor's library knows.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnn.rules.convolution_products import (
    LAYOUT,
    convolve,
    convolve_fastest,
    filter_gradient_products,
    input_gradient_products,
    product_over_rows,
)
from funcnn.rules.windows import Windows

# All three are jitted for eager use: a loop and a choice of platform are compiled anew at each
# eager call otherwise. Inside another jit this changes nothing.


@functools.partial(jax.jit, static_argnames="windows")
def convolution(x: Any, w: Any, windows: Windows) -> Any:
    """y (N, H', W', O) from x (N, H, W, I) and w, in the form that suits the platform.

    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolution(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    return lax.platform_dependent(
        x,
        w,
        cpu=functools.partial(convolve_fastest, windows=windows),
        default=functools.partial(convolve, windows=windows),
    )


@functools.partial(jax.jit, static_argnames="windows")
def input_gradient(dy: Any, w: Any, windows: Windows) -> Any:
    """dx (N, H, W, I) from dy (N, H', W', O) and w, in the form that suits the platform.

    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    return lax.platform_dependent(
        dy,
        w,
        cpu=functools.partial(input_gradient_fastest, windows=windows),
        default=functools.partial(input_gradient_transposed_form, windows=windows),
    )


@functools.partial(jax.jit, static_argnames="windows")
def filter_gradient(x: Any, dy: Any, windows: Windows) -> Any:
    """dw (h, w, I, O) from x (N, H, W, I) and dy (N, H', W', O), in the platform's form.

    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    if windows.output == windows.size and set(windows.window) == {1}:
        return product_over_rows(x, dy).reshape(*windows.window, x.shape[-1], -1).astype(x.dtype)
    return lax.platform_dependent(
        x,
        dy,
        cpu=functools.partial(filter_gradient_products, windows=windows),
        default=functools.partial(filter_gradient_convolution, windows=windows),
    )


def _gradient_padding(windows: Windows) -> list[tuple[int, int]]:
    """The padding of z (dy with its zeros between) in the derivation of dx; may be negative."""
    padding = []
    axes = zip(
        windows.size, windows.output, windows.stride, windows.extent, windows.padding, strict=True
    )
    for n, m, s, e, (lo, _) in axes:
        # z has length (m-1)*s + 1, and n positions of the window must fit.
        padding.append((e - 1 - lo, n + lo - ((m - 1) * s + 1)))
    return padding


def input_gradient_fastest(dy: Any, w: Any, windows: Windows) -> Any:
    """dx on a CPU: by products where these are faster, else as a convolution of forward form."""
    by_products = input_gradient_products(dy, w, windows)
    if by_products is None:
        return input_gradient_forward_form(dy, w, windows)
    return by_products


def input_gradient_forward_form(dy: Any, w: Any, windows: Windows) -> Any:
    """dx as a convolution of forward form: the zeros between and round dy are written out."""
    # Without the barriers XLA makes the zeros and the flip attributes of the convolution again, and
    # takes its slow path.
    ones = (1,) * len(windows.size)
    padding = _gradient_padding(windows)
    if windows.stride != ones or any(p < 0 for pair in padding for p in pair):
        interior = [(lo, hi, s - 1) for (lo, hi), s in zip(padding, windows.stride, strict=True)]
        zeros = jnp.zeros((), dy.dtype)
        dy = lax.optimization_barrier(lax.pad(dy, zeros, [(0, 0, 0), *interior, (0, 0, 0)]))
        padding = [(0, 0)] * len(ones)
    flipped = lax.rev(w, range(w.ndim - 2)).swapaxes(-1, -2)  # (h, w, O, I)
    flipped = lax.optimization_barrier(flipped)
    z = Windows(dy.shape[1:-1], windows.window, ones, windows.dilation, tuple(padding))
    return convolve_fastest(dy, flipped, z)


def input_gradient_transposed_form(dy: Any, w: Any, windows: Windows) -> Any:
    """dx as the transposed convolution that a GPU's library knows as "backward data"."""
    image, kernel, _ = LAYOUT[len(windows.size)]
    swapped = kernel.replace("IO", "OI")
    return lax.conv_general_dilated(
        dy,
        lax.rev(w, range(w.ndim - 2)),
        (1,) * len(windows.size),
        _gradient_padding(windows),
        lhs_dilation=windows.stride,
        rhs_dilation=windows.dilation,
        dimension_numbers=(image, swapped, image),
    )


def filter_gradient_convolution(x: Any, dy: Any, windows: Windows) -> Any:
    """dw as a convolution of x with dy as its window: "backward filter" in a GPU's library.

    Batch and channels change places: the sum runs over the images.
    """
    padding = []
    axes = zip(
        windows.size, windows.output, windows.stride, windows.extent, windows.padding, strict=True
    )
    for n, m, s, e, (lo, _) in axes:
        # Padded, x has e positions for dy, which reaches over (m-1)*s + 1; the rest is uncovered.
        padding.append((lo, e - 1 + (m - 1) * s + 1 - n - lo))
    space = LAYOUT[len(windows.size)][0][1:-1]
    return lax.conv_general_dilated(
        x,
        dy,
        windows.dilation,
        padding,
        rhs_dilation=windows.stride,
        dimension_numbers=(f"C{space}N", f"I{space}O", f"{space}NC"),
    )
