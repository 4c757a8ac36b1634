"""Where the windows of a convolution or a pooling lie; cutting their elements out and back.

Everything here follows from static shapes. In one dimension, with window k, stride s, dilation d
and padding (lo, hi), window p covers the positions p*s + j*d - lo of x, j = 0, ..., k-1.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.core.usage import as_integer
from funcnn.types import Array, Function, Padding, Shape


# A node without leaves: among the residuals it takes the shapes to the backward pass.
@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows on an array with spatial axes `size`; one entry for each of these axes.

    >>> windows = Windows.of("pool", (5, 4), 2, stride=2, padding="SAME")
    >>> windows.padding, windows.output
    (((0, 1), (0, 0)), (3, 2))
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        rule: str,
        size: tuple[int, ...],
        window: int | Shape,
        stride: int | Shape,
        padding: Padding,
        dilation: int | Shape = 1,
    ) -> Windows:
        """From what the user wrote: integers or tuples, "SAME", "VALID" or pairs.

        Raises:
            ValueError: one of them is wrong, in one line that begins with the name of the rule.
        """
        if 0 in size:
            raise ValueError(f"{rule}: a spatial axis of x is empty: {size}")
        window = positive(rule, "window", window, len(size))
        stride = positive(rule, "stride", stride, len(size))
        dilation = positive(rule, "dilation", dilation, len(size))
        extent = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
        pairs = _pairs(rule, padding, size, extent, stride)
        for n, e, (lo, hi) in zip(size, extent, pairs, strict=True):
            if e > n + lo + hi:
                raise ValueError(
                    f"{rule}: the window {window} with dilation {dilation} is larger than the "
                    f"padded input, {size} with padding {pairs}"
                )
        return cls(size, window, stride, dilation, pairs)

    @property
    def extent(self) -> tuple[int, ...]:
        """How far a window reaches, gaps of the dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """The number of windows along each axis."""
        return tuple(
            (n + lo + hi - e) // s + 1
            for n, e, s, (lo, hi) in zip(
                self.size, self.extent, self.stride, self.padding, strict=True
            )
        )

    @property
    def gradient_padding(self) -> tuple[tuple[int, int], ...]:
        """What to put round dy with stride - 1 zeros between, so that windows of stride 1 give dx.

        Negative where dy is cut.
        """
        axes = zip(self.size, self.output, self.stride, self.extent, self.padding, strict=True)
        # With its zeros dy has length (m-1)*s + 1, and n positions of the window must fit.
        return tuple((e - 1 - lo, n + lo - ((m - 1) * s + 1)) for n, m, s, e, (lo, _) in axes)

    @property
    def overlapping(self) -> bool:
        """Whether an element may lie in more than one window."""
        return any(e > s for e, s in zip(self.extent, self.stride, strict=True))

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """The elements of a window in row-major order, as distances from its first one."""
        steps = (range(0, e, d) for e, d in zip(self.extent, self.dilation, strict=True))
        return list(itertools.product(*steps))


def check_windows(
    rule: str, window: tuple[int, ...], stride: Any, padding: Any, dilation: Any = 1
) -> None:
    """A ValueError where these are no windows, whatever the size of what they lie on.

    >>> check_windows("conv", (3, 3), 1, "same")
    Traceback (most recent call last):
    ValueError: conv: padding must be "SAME", "VALID" or a pair (low, high) of numbers >= 0 ...
    """
    dilations = positive(rule, "dilation", dilation, len(window))
    size = tuple(k * d for k, d in zip(window, dilations, strict=True))
    Windows.of(rule, size, window, stride, padding, dilation)


def per_axis(value: object, axes: int) -> Sequence[Any]:
    """An integer repeated for each spatial axis; anything else as it is.

    >>> per_axis(2, 3), per_axis((1, 2), 2)
    ((2, 2, 2), (1, 2))
    """
    return value if isinstance(value, Sequence) else (value,) * axes


def positive(rule: str, name: str, value: object, axes: int) -> tuple[int, ...]:
    """The positive integers of all axes; ValueError, in the name of the rule, where one is not.

    >>> positive("conv", "stride", 2, axes=3)
    (2, 2, 2)
    """
    entries = tuple(as_integer(v) or 0 for v in per_axis(value, axes))
    if len(entries) != axes or any(v < 1 for v in entries):
        each = "" if axes == 1 else f" or a tuple of {axes}"
        raise ValueError(f"{rule}: {name} must be a positive integer{each}, found {value!r}")
    return entries


def _pairs(
    rule: str,
    padding: Any,
    size: tuple[int, ...],
    extent: tuple[int, ...],
    stride: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """The padding of each axis; "SAME": ceil(size / stride) windows, an odd one behind."""
    if padding == "VALID":
        return ((0, 0),) * len(size)
    if padding == "SAME":
        missing = (
            max((math.ceil(n / s) - 1) * s + e - n, 0)
            for n, e, s in zip(size, extent, stride, strict=True)
        )
        return tuple((m // 2, m - m // 2) for m in missing)
    try:
        pairs = tuple((operator.index(lo), operator.index(hi)) for lo, hi in padding)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != len(size) or any(p < 0 for pair in pairs for p in pair):
        example = ((1, 1),) * len(size)
        raise ValueError(
            f'{rule}: padding must be "SAME", "VALID" or a pair (low, high) of numbers >= 0 for '
            f"each of the {len(size)} spatial axes, such as {example}; found {padding!r}"
        )
    return pairs


def cut(x: Array, windows: Windows, fill: float) -> list[Array]:
    """The first, second, ... elements of all windows: arrays (N, *output, C), padded with `fill`.

    >>> x = jnp.arange(4.0).reshape(1, 4, 1)
    >>> [a.ravel().tolist() for a in cut(x, Windows.of("pool", (4,), 2, 2, "VALID"), 0)]
    [[0.0, 2.0], [1.0, 3.0]]
    """
    padding = ((0, 0, 0), *((lo, hi, 0) for lo, hi in windows.padding), (0, 0, 0))
    padded = lax.pad(x, jnp.array(fill, x.dtype), padding) if any(map(any, padding)) else x
    stride = (1, *windows.stride, 1)
    parts = []
    for offset in windows.offsets:
        ends = (
            o + (m - 1) * s + 1
            for o, m, s in zip(offset, windows.output, windows.stride, strict=True)
        )
        limits = (x.shape[0], *ends, x.shape[-1])
        parts.append(lax.slice(padded, (0, *offset, 0), limits, stride))  # (N, *output, C)
    return parts


def add_back(parts: Sequence[Array], windows: Windows) -> Array:
    """The transpose of `cut`: each element (N, *output, C) is added where it was taken from.

    The sum runs over the elements of the window in row-major order, so it is the same everywhere.

    >>> parts = [jnp.ones((1, 3, 1)), jnp.ones((1, 3, 1))]
    >>> add_back(parts, Windows.of("pool", (4,), 2, 1, "VALID")).ravel().tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    blocks = blocks_of(windows)
    sums: dict[tuple[int, ...], Array] = {}
    for part, offset in zip(parts, windows.offsets, strict=True):
        each = list(zip(offset, windows.stride, blocks, windows.output, strict=True))
        shifts = [(o // s, m - o // s - n, 0) for o, s, m, n in each]
        zero = jnp.zeros((), part.dtype)
        shifted = lax.pad(part, zero, [(0, 0, 0), *shifts, (0, 0, 0)])  # (N, *blocks, C)
        phase = tuple(o % s for o, s, _, _ in each)
        sums[phase] = sums[phase] + shifted if phase in sums else shifted
    return laid_out(sums, windows)


def blocks_of(windows: Windows) -> tuple[int, ...]:
    """How many runs of stride positions cover the padding in front and x, along each axis.

    >>> blocks_of(Windows.of("pool", (5, 4), 3, 2, "SAME"))
    (3, 2)
    """
    axes = zip(windows.padding, windows.size, windows.stride, strict=True)
    return tuple(-(-(lo + n) // s) for (lo, _), n, s in axes)


def laid_out(sums: dict[tuple[int, ...], Array], windows: Windows) -> Array:
    """x (N, *size, C) from its padded elements at m s + r for each r (N, *blocks, C); or else 0.

    >>> sums = {(0,): jnp.array([[[1.0], [2.0]]]), (1,): jnp.array([[[3.0], [4.0]]])}
    >>> laid_out(sums, Windows.of("pool", (3,), 2, 2, "VALID")).ravel().tolist()
    [1.0, 3.0, 2.0]
    """
    x = _interleaved(sums, windows.stride)  # (N, *(blocks * stride), C)
    ends = ((lo, lo + n) for (lo, _), n in zip(windows.padding, windows.size, strict=True))
    borders = [(-lo, hi - m, 0) for (lo, hi), m in zip(ends, x.shape[1:-1], strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])


def _interleaved(sums: dict[tuple[int, ...], Array], stride: tuple[int, ...]) -> Array:
    """Of the sums at m s + r for each r, on all axes, one array; where there is no r, zeros.

    The elements of a window whose offsets leave the same remainders r meet the same positions, so
    that no sum runs over the gaps that a stride leaves.
    """
    some = next(iter(sums.values()))
    for axis in reversed(range(len(stride))):
        shorter: dict[tuple[int, ...], Array] = {}
        for phase in {phase[:axis] for phase in sums}:
            each = [sums.get((*phase, r), jnp.zeros_like(some)) for r in range(stride[axis])]
            if stride[axis] == 1:
                shorter[phase] = each[0]
                continue
            joined = jnp.stack(each, axis + 2)  # (N, ..., M, s, ..., C)
            shape = list(some.shape)
            shape[axis + 1] *= stride[axis]
            shorter[phase] = joined.reshape(shape)
        sums = shorter
        some = next(iter(sums.values()))
    return sums[()]


def tile(windows: Windows, of_window: Function, *arrays: Array) -> Array:
    """The transpose of `cut` for windows that do not overlap and have no gaps: no sum, one pass.

    `of_window` maps the numbers of the elements of a window and the `arrays` (N, *output, C), all
    spread out for broadcasting, to the elements (N, H', h, W', w, C) of all windows.

    >>> windows = Windows.of("pool", (5,), 2, 2, "VALID")
    >>> tile(windows, lambda k, y: y * (k == 1), jnp.array([[[3.0], [4.0]]])).ravel().tolist()
    [0.0, 3.0, 0.0, 4.0, 0.0]
    """
    spread = [_interleave(a.shape, windows.output, (1,) * len(windows.output)) for a in arrays]
    numbers = np.arange(math.prod(windows.window))
    numbers = numbers.reshape(_interleave((1, 1), (1,) * len(windows.window), windows.window))
    elements = of_window(
        numbers, *(a.reshape(shape) for a, shape in zip(arrays, spread, strict=True))
    )
    gaps = [(0, 0, 0)]  # a stride beyond the window leaves a gap behind each window
    for k, s in zip(windows.window, windows.stride, strict=True):
        gaps += [(0, 0, 0), (0, s - k, 0)]
    zero = jnp.zeros((), elements.dtype)
    elements = lax.pad(elements, zero, [*gaps, (0, 0, 0)])  # (N, H', s, W', s, C)
    covered = tuple(m * s for m, s in zip(windows.output, windows.stride, strict=True))
    joined = elements.reshape(elements.shape[0], *covered, elements.shape[-1])
    borders = [
        (-lo, n + lo - c, 0)
        for n, c, (lo, _) in zip(windows.size, covered, windows.padding, strict=True)
    ]
    return lax.pad(joined, zero, [(0, 0, 0), *borders, (0, 0, 0)])  # (N, *size, C)


def _interleave(
    outer: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...]
) -> tuple[int, ...]:
    """(N, H', h, W', w, C) from (N, ..., C), (H', W') and (h, w)."""
    pairs = zip(first, second, strict=True)
    return (outer[0], *itertools.chain.from_iterable(pairs), outer[-1])
