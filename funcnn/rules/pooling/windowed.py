"""Pooling: the largest element or the mean of each window."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.core.devices import varying_as
from funcnn.core.registry import Case, rule
from funcnn.rules.pooling.arguments import CONSERVED, counts, pool_windows, reduce_windows
from funcnn.rules.shared.arguments import is_known
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.shared.windows import Windows, add_back, cut, tile
from funcnn.types import Array, ArrayLike, Key, Padding, Shape


@rule
def max_pool(
    x: ArrayLike,
    *,
    window: int | Shape,
    stride: int | Shape | None = None,
    padding: Padding = "VALID",
) -> Array:
    r"""The largest element of each window, y[p] = max_j x[p s + j - lo].

    Shapes: x (N, H, W, C) or (N, W, C), y (N, H', W', C) or (N, W', C). `window` k and `stride` s
    are an integer, or one for each axis; the stride is the window unless given. `padding` is
    "VALID" (none), "SAME" (H' = ceil(H / s)) or a pair (lo, hi) for each axis; what is padded is
    -inf. Windows may overlap.

    Derivation: y[p] is the element at a(p), the place of the largest, and depends on no other:
        dx[i] = Σ_p dy[p] [a(p) = i].
    Windows that do not overlap have one p at most for each i: every window is compared with a(p)
    and joined to the others. Windows that overlap: for each place j in the window, dy where
    a(p) = j, put back at p s + j - lo, added in row-major order of j.
    Ties are the kinks: the first in row-major order takes all, as in the gradient of
    `lax.reduce_window` (`jnp.max` would split); after a relu, ties of zeros are the rule. The
    padding takes part: where all elements are -inf, dy goes to the first place, be it in x or not.
    NaN: the first NaN of a window is its maximum and takes dy; the gradient of `lax.reduce_window`
    goes to an element behind it.
    Kept for the backward pass: a(p) as its number in the window, one byte an output element
    (windows of more than 256 elements: two). Autodiff keeps x.

    Earns its place by time on a CPU: the automatic gradient is a select-and-scatter, which XLA:CPU
    runs an element at a time; it earns memory too, one byte an output against four an input.

    Source: Jarrett, Kavukcuoglu, Ranzato, LeCun, What is the best multi-stage architecture for
    object recognition?, 2009.

    Raises:
        TypeError: x is not floating point.
        ValueError: x, window, stride or padding do not fit; a padding of the window or more.

    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 2.0]).reshape(1, 4, 1), window=2).ravel()
    Array([3., 2.], dtype=float32)
    """
    x, windows = pool_windows("max_pool", x, window, stride, padding)
    return reduce_windows(x, windows, -np.inf, lax.max)


def max_pool_forward(
    x: Array, *, window: int | Shape, stride: int | Shape | None, padding: Padding
) -> tuple[Array, tuple[Array, Windows]]:
    x, windows = pool_windows("max_pool", x, window, stride, padding)
    y, place = _largest(x, windows)
    if windows.overlapping:
        place = _places(x, windows)
    return y, (place, windows)


def _largest(x: Array, windows: Windows) -> tuple[Array, Array]:
    """The largest element of each window and its number in the window, (N, H', W', C)."""
    number = np.min_scalar_type(math.prod(windows.window) - 1)
    y, *others = cut(x, windows, -np.inf)  # each (N, H', W', C)
    place = jnp.zeros(y.shape, number)
    for k, element in enumerate(others, 1):
        # Larger, or the first NaN: a comparison with NaN is false.
        later = ~(element <= y) & (y == y)
        place = jnp.where(later, jnp.array(k, number), place)
        y = lax.max(y, element)
    return y, place


@functools.partial(jax.jit, static_argnames="windows")
def _places(x: Array, windows: Windows) -> Array:
    """The places alone, on a CPU computed in a loop over the halves of the batch.

    XLA:CPU would find the place of a window anew wherever its backward pass asks for it, once for
    each element of a window. It does not look into what a loop has computed. The halves are carried
    and not stacked, as a single core computes what a loop stacks.
    """

    def in_a_loop(x: Array) -> Array:
        images = x.shape[0]
        known = is_known(images)
        if known and images < 2:
            return _largest(x, windows)[1]
        half = -(-images // 2)
        if not known or images % 2:  # both halves hold the image in the middle
            halves = jnp.stack([x[:half], x[images - half :]])
        else:
            halves = x.reshape(2, half, *x.shape[1:])

        def step(places: tuple[Array, Array], part: Array) -> tuple[tuple[Array, Array], None]:
            return (places[1], varying_as(_largest(part, windows)[1], part)), None

        shape = jax.eval_shape(lambda: _largest(x[:half], windows)[1])
        empty = varying_as(jnp.zeros(shape.shape, shape.dtype), x)
        (first, second), _ = lax.scan(step, (empty, empty), halves)
        return jnp.concatenate([first, second[2 * half - images :]])

    return lax.platform_dependent(x, cpu=in_a_loop, default=lambda x: _largest(x, windows)[1])


def max_pool_backward(
    res: tuple[Array, Windows],
    dy: Array,
    *,
    window: int | Shape,
    stride: int | Shape | None,
    padding: Padding,
) -> tuple[Array]:
    place, windows = res
    if not windows.overlapping:

        def chosen(k: np.ndarray, place: Array, dy: Array) -> Array:
            return jnp.where(place == k.astype(place.dtype), dy, 0)  # (N, H', h, W', w, C)

        return (tile(windows, chosen, place, dy),)
    wide = dy.astype(accumulator(dy))
    parts = [jnp.where(place == k, wide, 0) for k in range(math.prod(windows.window))]
    return (add_back(parts, windows).astype(dy.dtype),)


max_pool.defvjp(max_pool_forward, max_pool_backward)


def _pool_cases(key: Key) -> Iterator[Case]:
    """The windows on which both poolings are checked."""

    def case(name: str, shape: tuple[int, ...], **static: Hashable) -> Case:
        laws = CONSERVED if math.prod(shape) else {}
        return Case(name, (normal(key, shape),), static, laws=laws)

    yield case("2x2", (2, 6, 4, 3), window=2)
    yield case("border not covered", (2, 7, 5, 3), window=(3, 2))
    yield case("overlapping", (2, 7, 5, 3), window=3, stride=2)
    yield case("overlapping, same", (1, 5, 7, 2), window=(2, 3), stride=1, padding="SAME")
    yield case("tiles, same", (3, 7, 5, 1), window=2, padding="SAME")
    yield case("pairs", (2, 5, 3, 2), window=3, stride=2, padding=((2, 0), (1, 2)))
    yield case("stride beyond the window", (2, 11, 7, 2), window=2, stride=(3, 5))
    yield case("1-D", (3, 11, 5), window=3, stride=2)
    yield case("one element", (1, 1, 1, 1), window=1)
    yield case("no images", (0, 5, 4, 3), window=2)
    yield case("no channels", (2, 5, 4, 0), window=3, stride=1)


@max_pool.defcases
def max_pool_cases(key: Key) -> Iterator[Case]:
    yield from _pool_cases(key)
    ties = jnp.maximum(jnp.round(normal(key, (2, 7, 6, 3))), 0)
    signs = jnp.array([-0.0, 0.0, 0.0, -0.0, -1.0, -0.0]).reshape(1, 6, 1)
    low = jnp.full((1, 4, 1), -jnp.inf)
    yield Case("ties", (ties,), {"window": 2}, kinks=True, laws=CONSERVED)
    yield Case("ties, overlapping", (ties,), {"window": 3, "stride": 2}, kinks=True, laws=CONSERVED)
    yield Case("signed zeros", (signs,), {"window": 3, "stride": 1}, kinks=True)
    yield Case("all -inf", (low,), {"window": 3, "padding": ((1, 1),)}, kinks=True)


@rule
def average_pool(
    x: ArrayLike,
    *,
    window: int | Shape,
    stride: int | Shape | None = None,
    padding: Padding = "VALID",
) -> Array:
    r"""The mean of the elements of each window, y[p] = Σ_j x[p s + j - lo] / n[p].

    Shapes and arguments: as `max_pool`. n[p] is the number of elements of x in the window: padding
    does not count.

    Derivation: dx[i] = Σ_p dy[p] / n[p] over the windows p that hold i. Windows that do not overlap
    repeat dy / n over their elements; for those that overlap it is put back once for each place in
    the window and added, in row-major order.
    Kept for the backward pass: nothing but shapes; n follows from them. The map is linear: there
    are no kinks, and NaN reaches every window that holds it.

    Earns its place by time on a CPU, a little: autodiff sums dy over windows of its own, with the
    padding and zeros between written out. In bfloat16 the sums here are taken in float32.

    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
    recognition, 1998.

    Raises:
        TypeError: x is not floating point.
        ValueError: x, window, stride or padding do not fit; a padding of the window or more.

    >>> average_pool(jnp.array([1.0, 3.0, 5.0]).reshape(1, 3, 1), window=2, padding="SAME").ravel()
    Array([2., 5.], dtype=float32)
    """
    x, windows = pool_windows("average_pool", x, window, stride, padding)
    total = reduce_windows(x.astype(accumulator(x)), windows, 0, lax.add)  # (N, H', W', C)
    return (total / counts(windows, total)).astype(x.dtype)


def average_pool_forward(x: Array, **static: Any) -> tuple[Array, Windows]:
    windows = pool_windows("average_pool", x, **static)[1]
    return average_pool.reference(x, **static), windows


def average_pool_backward(
    windows: Windows,
    dy: Array,
    *,
    window: int | Shape,
    stride: int | Shape | None,
    padding: Padding,
) -> tuple[Array]:
    share = dy.astype(accumulator(dy))
    share = share / counts(windows, share)  # (N, H', W', C)
    if windows.overlapping:
        dx = add_back([share] * math.prod(windows.window), windows)
    else:
        dx = tile(windows, lambda k, each: each + jnp.zeros(k.shape, each.dtype), share)
    return (dx.astype(dy.dtype),)


average_pool.defvjp(average_pool_forward, average_pool_backward)


@average_pool.defcases
def average_pool_cases(key: Key) -> Iterator[Case]:
    yield from _pool_cases(key)
