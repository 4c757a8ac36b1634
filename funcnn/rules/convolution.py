"""Convolution in one and two dimensions: N..C arrays, windows (..., I, O)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.registry import Case, rule
from funcnn.rules.arguments import describe, floating, same_dtype
from funcnn.rules.convolution_forms import convolution, filter_gradient, input_gradient
from funcnn.rules.convolution_products import convolve
from funcnn.rules.draws import normal
from funcnn.rules.precision import accumulator
from funcnn.rules.windows import Windows

LAYOUT_OF_RANK = {3: "(N, W, I)", 4: "(N, H, W, I)"}


@rule
def conv(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = "SAME",
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    r"""Convolution (cross-correlation), y[p] = Σ_j x[p s + j d - lo] w[j] + b.

    Shapes: x (N, H, W, I), w (h, w, I, O), b (O,) or None, y (N, H', W', O); in one dimension
    x (N, W, I), w (w, I, O), y (N, W', O); one floating-point dtype. `stride` s and `dilation` d
    are an integer, or one for each axis. `padding` is "SAME" (H' = ceil(H / s)), "VALID" (none),
    or a pair (lo, hi) for each axis: so many zeros before and behind.

    Derivation, for one axis with a window of k; the others are like it. x[i] meets w[j] in those
    outputs p with p s + j d - lo = i. Let z be dy with s-1 zeros between neighbours, so that
    z[p s] = dy[p]:

        dx[i] = Σ_j z[i + lo - j d] w[j]ᵀ
              = Σ_j z[i + j d - ((k-1) d - lo)] v[j]   with v[j] = w[k-1-j]ᵀ,

    again a convolution of forward form: of z with stride 1, the flipped window with its channel
    axes swapped, the same dilation and the padding (k-1) d - lo (where negative, z is cut). And

        dw[j] = Σ_p x[p s + j d - lo]ᵀ dy[p]
        db    = Σ_p dy[p]

    where dw is one matrix product Pᵀ dy over all rows p of all images: the columns of the patches
    P are the slices of x that meet w[0], w[1], ... (h w of them in two dimensions) side by side.

    On a CPU y and dx are such products too, where they are faster: y = P w, and dP = dy wᵀ, whose
    columns are added where P took them from; no zeros are multiplied, whatever the stride.
    Kept for the backward pass: x and w, as autodiff does. P is made anew, for a few images at a
    time: it is h w times as large as x, and the product is fastest from the cache. There are no
    kinks; NaN reaches every output whose window holds it.

    Earns its place by time on a CPU: the automatic gradients are convolutions with exchanged axes,
    which XLA:CPU runs many times slower than forward ones, in a loop above all; products and
    convolutions of forward form are as fast inside a loop as outside. On other platforms dx and
    dw are the convolutions that the vendor's library knows, the same as autodiff's, and in
    bfloat16 as accurate. XLA accumulates 16-bit convolutions in 32 bits by itself.

    Source: Dumoulin, Visin, A guide to convolution arithmetic for deep learning, 2016.

    Raises:
        ValueError: shapes, window, stride, dilation or padding do not fit; groups other than 1 and
            3 dimensions come later.
        TypeError: the dtypes differ or are not floating point.

    >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> w = jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> conv(x, w, padding="VALID").ravel()
    Array([21., 32.], dtype=float32)
    >>> jax.grad(lambda x: conv(x, w, padding="VALID").sum())(x).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    y = convolve(x, w, windows)  # (N, H', W', O)
    return _add_bias(y, b)


def conv_forward(
    x: Any, w: Any, b: Any, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    # b is kept for its dtype and because None has no cotangent.
    return _add_bias(convolution(x, w, windows), b), (x, w, b)


def _add_bias(y: Any, b: Any) -> Any:
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def conv_backward(
    res: Any, dy: Any, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    x, w, b = res
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    dx = input_gradient(dy, w, windows)  # (N, H, W, I)
    dw = filter_gradient(x, dy, windows)  # (h, w, I, O)
    db = None
    if b is not None:
        db = jnp.sum(dy, range(dy.ndim - 1), dtype=accumulator(dy)).astype(dy.dtype)  # (O,)
    return dx, dw, db


conv.defvjp(conv_forward, conv_backward)


@conv.defcases
def conv_cases(key: Any) -> Iterator[Case]:
    def arrays(image: tuple[int, ...], window: tuple[int, ...], outputs: int, bias: bool = True):
        kx, kw, kb = jax.random.split(key, 3)
        w = normal(kw, (*window, image[-1], outputs))
        return normal(kx, image), w, normal(kb, (outputs,)) if bias else None

    laws = {"sum x dx = sum w dw": _bilinear}
    yield Case("same 3x3", arrays((3, 7, 5, 2), (3, 3), 4), laws=laws)
    yield Case("no bias", arrays((2, 5, 7, 3), (3, 2), 5, bias=False), laws=laws)
    yield Case("stride 2", arrays((2, 8, 7, 3), (3, 3), 2), {"stride": 2}, laws=laws)
    static = {"stride": (3, 2), "padding": "VALID", "dilation": (2, 1)}
    yield Case("uncovered rows, dilated", arrays((2, 11, 7, 2), (2, 3), 3), static, laws=laws)
    static = {"padding": ((3, 0), (1, 4)), "stride": (2, 1)}
    yield Case("more padding than window", arrays((2, 5, 3, 2), (2, 2), 3), static, laws=laws)
    yield Case("1x1", arrays((2, 3, 5, 7), (1, 1), 3), laws=laws)
    yield Case("1-D", arrays((3, 11, 2), (4,), 5), {"stride": 2, "dilation": 2}, laws=laws)
    yield Case("one pixel", arrays((1, 1, 1, 1), (1, 1), 1), laws=laws)
    yield Case("no images", arrays((0, 5, 4, 3), (3, 3), 2), laws=laws)
    yield Case("no outputs", arrays((2, 5, 4, 3), (3, 3), 0), laws=laws)


def _bilinear(args: Any, dy: Any, cotangents: Any) -> Any:
    """y - b is linear in x and in w, so <dx, x> = <dw, w>."""
    return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[1] * cotangents[1])


def _checked(
    x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> tuple[Any, Any, Any, Windows]:
    """The arrays and the windows, or one line that says which argument does not fit."""
    if groups != 1:
        raise ValueError(f"conv: groups come later, only groups=1 works now; found {groups!r}")
    x, w = floating("conv", x=x, w=w)
    if b is not None:
        (b,) = floating("conv", b=b)
    same_dtype("conv", x=x, w=w, b=b)
    found = f"found x {describe(x)} and w {describe(w)}"
    if 5 in (w.ndim, x.ndim):
        raise ValueError(f"conv: 3 dimensions come later, only 1 and 2 work now; {found}")
    if w.ndim not in LAYOUT_OF_RANK:
        raise ValueError(f"conv: w must have shape (window, I, O) or (h, w, I, O); {found}")
    if x.ndim == w.ndim - 1:
        raise ValueError(f"conv: x has no batch axis; add one with x[None]; {found}")
    if x.ndim != w.ndim:
        raise ValueError(f"conv: x must have shape {LAYOUT_OF_RANK[w.ndim]} for this w; {found}")
    if x.shape[-1] != w.shape[-2]:
        raise ValueError(f"conv: w takes {w.shape[-2]} channels and x has {x.shape[-1]}; {found}")
    if b is not None and b.shape != w.shape[-1:]:
        raise ValueError(
            f"conv: b must have shape ({w.shape[-1]},), one for each output channel of w "
            f"{describe(w)}, found {describe(b)}"
        )
    windows = Windows.of("conv", x.shape[1:-1], w.shape[:-2], stride, padding, dilation)
    return x, w, b, windows
