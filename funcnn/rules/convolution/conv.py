"""Convolution in one, two and three dimensions: N..C arrays, windows (..., I, O)."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.core.usage import is_positive_integer
from funcnn.rules.convolution.choice import convolution, filter_gradient, input_gradient
from funcnn.rules.convolution.forms import convolve
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array, ArrayLike, Key, Padding, PyTree, Shape

LAYOUT_OF_RANK = {3: "(N, W, I)", 4: "(N, H, W, I)", 5: "(N, D, H, W, I)"}


@rule
def conv(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: int | Shape = 1,
    padding: Padding = "SAME",
    dilation: int | Shape = 1,
    groups: int = 1,
) -> Array:
    r"""Convolution (cross-correlation), y[p] = Σ_j x[p s + j d - lo] w[j] + b.

    Shapes: x (N, H, W, I), w (h, w, I / G, O), b (O,) or None, y (N, H', W', O); with one spatial
    axis x (N, W, I), w (w, I / G, O), with three x (N, D, H, W, I), w (d, h, w, I / G, O); one
    floating-point dtype. `stride` s and `dilation` d are an integer, or one for each axis.
    `padding` is "SAME" (H' = ceil(H / s)), "VALID" (none), or a pair (lo, hi) for each axis: so
    many zeros before and behind. `groups` G divides the input and the output channels into so many
    runs of neighbours; each run of outputs sees its own run of inputs. With G = I every channel
    stands alone (depthwise), and output o belongs to input o // (O / I).

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
    With groups, all of it holds for each group by itself: a product for each.

    On a CPU y and dx are such products too, where they are faster: y = P w, and dP = dy wᵀ, whose
    columns are added where P took them from; no zeros are multiplied, whatever the stride. Windows
    of 3x3 with many channels take Winograd's products, 16 for 36 (winograd.py). A
    volume is convolved plane by plane (planes.py), and wide groups one by one. Where
    channels stand alone, w[j] is a number for each, and y, dx and dw are sums of elementwise
    products. With large or thin windows, whose patches cost more than they save, dw is the
    convolution of x with dy as its window, with batch and channels exchanged in memory. Which of
    them y, dx and dw take stands in three ordered tables (choice.py).

    Kept for the backward pass: x and w, as autodiff does. P is made anew, for a few images at a
    time: it is h w times as large as x, and the product is fastest from the cache. There are no
    kinks; NaN reaches every output whose window holds it, by Winograd's products those beside, too.

    Earns its place by time on a CPU: the automatic gradients are convolutions with exchanged axes,
    which XLA:CPU runs many times slower than forward ones, in a loop above all; products and
    convolutions of forward form are as fast inside a loop as outside. With groups the automatic dw
    is that of the dense convolution, of which most is thrown away. On other platforms dx and dw are
    the convolutions that the vendor's library knows, the same as autodiff's, and in bfloat16 as
    accurate. XLA accumulates 16-bit convolutions in 32 bits by itself.

    Source: Dumoulin, Visin, A guide to convolution arithmetic for deep learning, 2016.

    Raises:
        ValueError: shapes, window, stride, dilation or padding do not fit, or groups do not divide
            the channels.
        TypeError: the dtypes differ or are not floating point.

    >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> w = jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> conv(x, w, padding="VALID").ravel()
    Array([21., 32.], dtype=float32)
    >>> jax.grad(lambda x: conv(x, w, padding="VALID").sum())(x).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    y = convolve(x, w, windows, groups)  # (N, H', W', O)
    return add_bias(y, b)


def conv_forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
    groups: int,
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    # b is kept for its dtype and because None has no cotangent.
    return add_bias(convolution(x, w, windows, groups), b), (x, w, b)


def add_bias(y: Array, b: Array | None) -> Array:
    """y + b, or y where b is None.

    >>> add_bias(jnp.zeros((1, 2)), jnp.array([1.0, 2.0]))
    Array([[1., 2.]], dtype=float32)
    """
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def bias_gradient(dy: Array, b: Array | None) -> Array | None:
    """db = Σ_p dy[p] (O,), or None where b is None.

    >>> bias_gradient(jnp.ones((3, 2)), jnp.zeros(2))
    Array([3., 3.], dtype=float32)
    """
    if b is None:
        return None
    return jnp.sum(dy, range(dy.ndim - 1), dtype=accumulator(dy)).astype(dy.dtype)


def conv_backward(
    res: tuple[Array, Array, Array | None],
    dy: Array,
    *,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
    groups: int,
) -> tuple[Array, Array, Array | None]:
    x, w, b = res
    x, w, b, windows = _checked(x, w, b, stride, padding, dilation, groups)
    dx = input_gradient(dy, w, windows, groups)  # (N, H, W, I)
    dw = filter_gradient(x, dy, windows, groups)  # (h, w, I / G, O)
    return dx, dw, bias_gradient(dy, b)


conv.defvjp(conv_forward, conv_backward)


@conv.defcases
def conv_cases(key: Key) -> Iterator[Case]:
    def arrays(
        image: tuple[int, ...],
        window: tuple[int, ...],
        outputs: int,
        groups: int = 1,
        bias: bool = True,
    ) -> tuple[Array, Array, Array | None]:
        kx, kw, kb = jax.random.split(key, 3)
        w = normal(kw, (*window, image[-1] // groups, outputs))
        return normal(kx, image), w, normal(kb, (outputs,)) if bias else None

    laws = {"sum x dx = sum w dw": bilinear}
    yield Case("same 3x3", arrays((3, 7, 5, 2), (3, 3), 4), laws=laws)
    yield Case("no bias", arrays((2, 5, 7, 3), (3, 2), 5, bias=False), laws=laws)
    yield Case("stride 2", arrays((2, 8, 7, 3), (3, 3), 2), {"stride": 2}, laws=laws)
    static = {"stride": (3, 2), "padding": "VALID", "dilation": (2, 1)}
    yield Case("uncovered rows, dilated", arrays((2, 11, 7, 2), (2, 3), 3), static, laws=laws)
    static = {"padding": ((3, 0), (1, 4)), "stride": (2, 1)}
    yield Case("more padding than window", arrays((2, 5, 3, 2), (2, 2), 3), static, laws=laws)
    yield Case("1x1", arrays((2, 3, 5, 7), (1, 1), 3), laws=laws)
    yield Case("1-D", arrays((3, 11, 2), (4,), 5), {"stride": 2, "dilation": 2}, laws=laws)
    yield Case("3-D", arrays((2, 4, 3, 5, 2), (2, 1, 3), 3), {"stride": (2, 1, 1)}, laws=laws)
    static = {"groups": 2, "stride": (1, 2)}
    yield Case("groups", arrays((2, 4, 5, 4), (2, 3), 6, groups=2), static, laws=laws)
    static = {"groups": 3, "stride": (2, 1), "dilation": (1, 2)}
    yield Case("depthwise", arrays((2, 5, 6, 3), (3, 2), 6, groups=3), static, laws=laws)
    yield Case("one pixel", arrays((1, 1, 1, 1), (1, 1), 1), laws=laws)
    yield Case("no images", arrays((0, 5, 4, 3), (3, 3), 2), laws=laws)
    yield Case("no outputs", arrays((2, 5, 4, 3), (3, 3), 0), laws=laws)


def bilinear(
    args: tuple[PyTree, ...], dy: Array | None, cotangents: tuple[PyTree, ...]
) -> tuple[Array, Array]:
    """The law of a rule whose y - b is linear in x and in w: <dx, x> and <dw, w> are equal.

    >>> bilinear((jnp.ones(2), jnp.ones(1)), None, (jnp.ones(2), jnp.array([2.0])))
    (Array(2., dtype=float32), Array(2., dtype=float32))
    """
    return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[1] * cotangents[1])


def _checked(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    stride: int | Shape,
    padding: Padding,
    dilation: int | Shape,
    groups: int,
) -> tuple[Array, Array, Array | None, Windows]:
    """The arrays and the windows, or one line that says which argument does not fit."""
    x, w, b = checked_arrays("conv", x, w, b)
    given = f"found x {describe(x)} and w {describe(w)}"
    if not is_positive_integer(groups):
        raise ValueError(f"conv: groups must be a positive integer, found {groups!r}")
    if x.shape[-1] % groups or w.shape[-1] % groups:
        raise ValueError(
            f"conv: groups={groups} must divide the {x.shape[-1]} input and the {w.shape[-1]} "
            f"output channels; {given}"
        )
    if x.shape[-1] != w.shape[-2] * groups:
        each = f"{x.shape[-1]}" if groups == 1 else f"{x.shape[-1]} / {groups} in each group"
        raise ValueError(f"conv: w takes {w.shape[-2]} channels and x has {each}; {given}")
    windows = Windows.of("conv", x.shape[1:-1], w.shape[:-2], stride, padding, dilation)
    return x, w, b, windows


def checked_arrays(
    rule: str, x: ArrayLike, w: ArrayLike, b: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """x, w and b as arrays of one dtype and of ranks that fit, or one line that says what does not.

    >>> checked_arrays("conv", jnp.zeros((5, 3)), jnp.zeros((2, 3, 1)), None)
    Traceback (most recent call last):
    ValueError: conv: x has no batch axis; add one with x[None]; found x float32[5, 3] and w \
float32[2, 3, 1]
    """
    x, w = floating(rule, x=x, w=w)
    if b is not None:
        (b,) = floating(rule, b=b)
    same_dtype(rule, x=x, w=w, b=b)
    given = f"found x {describe(x)} and w {describe(w)}"
    if w.ndim not in LAYOUT_OF_RANK:
        raise ValueError(
            f"{rule}: w must have shape (window, I, O), (h, w, I, O) or (d, h, w, I, O); {given}"
        )
    if x.ndim == w.ndim - 1:
        raise ValueError(f"{rule}: x has no batch axis; add one with x[None]; {given}")
    if x.ndim != w.ndim:
        raise ValueError(f"{rule}: x must have shape {LAYOUT_OF_RANK[w.ndim]} for this w; {given}")
    if b is not None and b.shape != w.shape[-1:]:
        raise ValueError(
            f"{rule}: b must have shape ({w.shape[-1]},), one for each output channel of w "
            f"{describe(w)}, found {describe(b)}"
        )
    return x, w, b
