"""Transposed convolution: N..C arrays, windows (..., I, O); from few positions to many."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterator
from typing import Any

import jax
from jax import lax

from funcnn.core.registry import Case, rule
from funcnn.rules.convolution.choice import convolution, filter_gradient, input_gradient
from funcnn.rules.convolution.conv import add_bias, bias_gradient, bilinear, checked_arrays
from funcnn.rules.convolution.forms import LAYOUT
from funcnn.rules.shared.arguments import describe
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.windows import Windows, positive
from funcnn.types import Array, ArrayLike, Key, Padding, Shape


@rule
def conv_transposed(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: int | Shape = 1,
    padding: Padding = "SAME",
    dilation: int | Shape = 1,
) -> Array:
    r"""Transposed convolution, y[q] = Σ_j z[q + j d - lo] w[j] + b, z being x with zeros between.

    Shapes: x (N, H, W, I), w (h, w, I, O), b (O,) or None, y (N, H', W', O), or with one or three
    spatial axes, as in `conv`; one floating-point dtype. `stride` s puts s-1 zeros between
    neighbours of x: z[p s] = x[p]. `padding` is "SAME" (H' = H s), "VALID" (every position that an
    x reaches: H' = (H - 1) s + max((h - 1) d + 1, s)), or a pair (lo, hi) for each axis: so many
    zeros before and behind z. `stride` and `dilation` d are an integer, or one for each axis.
    The same as `jax.lax.conv_transpose`; w is not flipped.

    Derivation, for one axis with a window of k. This is the input gradient of a convolution (see
    `conv`) that leads from y to x, with the flipped window v[j] = w[k-1-j]ᵀ (channels exchanged),
    the same stride and dilation, and the padding (k-1) d - lo (where negative, y is cut). So what
    goes back is what goes forward there:

        dx[p] = Σ_j dy[p s + j d - ((k-1) d - lo)] v[j]           (a convolution of dy)
        dv[j] = Σ_p dy[p s + j d - ((k-1) d - lo)]ᵀ x[p],   dw[j] = dv[k-1-j]ᵀ
        db    = Σ_q dy[q]

    Kept for the backward pass: x and w, as autodiff does. There are no kinks; NaN reaches every
    output that it is a summand of; backwards it may also reach what it met only outside of y, where
    products multiply it by zero.

    Earns its place by time on a CPU, as `conv` does: no zeros are multiplied, and all three are
    products or convolutions of forward form, in a loop as well as outside.

    Source: Dumoulin, Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.

    Raises:
        ValueError: shapes, window, stride, dilation or padding do not fit.
        TypeError: the dtypes differ or are not floating point.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 2.0]).reshape(1, 2, 1)
    >>> w = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    >>> conv_transposed(x, w, stride=2, padding="VALID").ravel()
    Array([100.,  10., 201.,  20.,   2.], dtype=float32)
    >>> jax.grad(lambda x: conv_transposed(x, w, stride=2).sum())(x).ravel()
    Array([111., 110.], dtype=float32)
    """
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation)
    y = lax.conv_general_dilated(
        x,
        w,
        (1,) * len(windows.size),
        windows.gradient_padding,
        lhs_dilation=windows.stride,
        rhs_dilation=windows.dilation,
        dimension_numbers=LAYOUT[len(windows.size)],
    )  # (N, H', W', O)
    return add_bias(y, b)


def conv_transposed_forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation)
    y = input_gradient(x, _flipped(w), windows)  # (N, H', W', O)
    return add_bias(y, b), (x, w, b)


def conv_transposed_backward(
    res: tuple[Array, Array, Array | None],
    dy: Array,
    *,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
) -> tuple[Array, Array, Array | None]:
    x, w, b = res
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation)
    dx = convolution(dy, _flipped(w), windows)  # (N, H, W, I)
    dw = _flipped(filter_gradient(dy, x, windows))  # (h, w, I, O)
    return dx, dw, bias_gradient(dy, b)


conv_transposed.defvjp(conv_transposed_forward, conv_transposed_backward)


def _flipped(w: Array) -> Array:
    """v[j] = w[k-1-j]ᵀ; its own inverse."""
    return lax.rev(w, range(w.ndim - 2)).swapaxes(-1, -2)


@conv_transposed.defcases
def conv_transposed_cases(key: Key) -> Iterator[Case]:
    def case(
        name: str, image: tuple[int, ...], window: tuple[int, ...], outputs: int, **static: Hashable
    ) -> Case:
        kx, kw, kb = jax.random.split(key, 3)
        w, b = normal(kw, (*window, image[-1], outputs)), normal(kb, (outputs,))
        laws = {"sum x dx = sum w dw": bilinear}
        bias = None if name == "no bias" else b
        return Case(name, (normal(kx, image), w, bias), static, laws=laws)

    yield case("same, stride 2", (2, 3, 4, 2), (3, 2), 3, stride=2)
    yield case("valid, dilated", (2, 3, 2, 3), (2, 3), 2, padding="VALID", dilation=(2, 1))
    static = {"padding": ((3, 0), (1, 2)), "stride": (2, 3)}
    yield case("more padding than window", (2, 3, 4, 2), (2, 2), 3, **static)
    yield case("1-D", (3, 5, 2), (4,), 3, stride=3, padding="VALID")
    yield case("no bias", (1, 2, 3, 2, 1), (2, 1, 2), 2, stride=(1, 2, 1), padding="VALID")
    yield case("one pixel", (1, 1, 1, 1), (1, 1), 1)
    yield case("no images", (0, 3, 2, 2), (3, 3), 2)


def _checked(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
) -> tuple[Array, Array, Array | None, Windows]:
    """The arrays, and the windows of the convolution that leads from y to x."""
    x, w, b = checked_arrays("conv_transposed", x, w, b)
    if x.shape[-1] != w.shape[-2]:
        raise ValueError(
            f"conv_transposed: w takes {w.shape[-2]} channels and x has {x.shape[-1]}; "
            f"found x {describe(x)} and w {describe(w)}"
        )
    size, window = x.shape[1:-1], w.shape[:-2]
    if 0 in size or 0 in window:
        raise ValueError(f"conv_transposed: a spatial axis is empty: x {size}, window {window}")
    stride = positive("conv_transposed", "stride", stride, len(size))
    dilation = positive("conv_transposed", "dilation", dilation, len(size))
    extent = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    pairs = _pairs(padding, extent, stride)
    axes = list(zip(size, extent, stride, pairs, strict=True))
    outputs = tuple((n - 1) * s + 1 + lo + hi - e + 1 for n, e, s, (lo, hi) in axes)
    if min(outputs) < 1:
        raise ValueError(
            f"conv_transposed: nothing comes out of {size} with window {window}, stride {stride}, "
            f"dilation {dilation} and padding {pairs}: {outputs}"
        )
    borders = tuple((e - 1 - lo, e - 1 - hi) for _, e, _, (lo, hi) in axes)
    return x, w, b, Windows(outputs, window, stride, dilation, borders)


def _pairs(
    padding: Any, extent: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """How many zeros go before and behind z on each axis, as jax.lax.conv_transpose has it."""
    axes = list(zip(extent, stride, strict=True))
    if padding == "SAME":
        before = (e - 1 if s > e - 1 else math.ceil((e + s - 2) / 2) for e, s in axes)
        return tuple((lo, e + s - 2 - lo) for lo, (e, s) in zip(before, axes, strict=True))
    if padding == "VALID":
        return tuple((e - 1, max(e, s) - 1) for e, s in axes)
    try:
        pairs = tuple((operator.index(lo), operator.index(hi)) for lo, hi in padding)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != len(axes) or any(p < 0 for pair in pairs for p in pair):
        raise ValueError(
            f'conv_transposed: padding must be "SAME", "VALID" or a pair (low, high) of numbers '
            f">= 0 for each of the {len(axes)} spatial axes, found {padding!r}"
        )
    return pairs
