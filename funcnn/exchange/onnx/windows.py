"""Convolutions and poolings, whose images are (N, C, *size) in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funcnn.exchange.onnx.graph import Graph, NotConverted, aval_of, both_ends
from funcnn.exchange.onnx.reshaping import reversed_along
from funcnn.types import Equation


def _conv(graph: Graph, eqn: Equation, x: str, w: str) -> str:
    params, out = eqn.params, aval_of(eqn.outvars[0]).dtype
    if params["batch_group_count"] != 1 or aval_of(eqn.invars[0]).dtype != out:
        raise NotConverted("a convolution in groups of the batch, or of two dtypes, has no ONNX")
    numbers = params["dimension_numbers"]
    x = graph.transpose(x, numbers.lhs_spec)  # (N, I, *size)
    w = graph.transpose(w, numbers.rhs_spec)  # (O, I / groups, *window)
    make = _plain if set(params["lhs_dilation"]) <= {1} else _transposed
    window = [aval_of(eqn.invars[1]).shape[axis] for axis in numbers.rhs_spec[2:]]
    y = make(graph, params, x, w, window)
    return graph.transpose(y, [int(axis) for axis in np.argsort(numbers.out_spec)])


def _plain(graph: Graph, params: Mapping, x: str, w: str, window: Sequence[int]) -> str:
    pairs = params["padding"]
    if min(n for pair in pairs for n in pair) < 0:  # what is cut, ONNX cuts by itself
        zero = graph.constant(np.zeros((), params["preferred_element_type"] or np.float32))
        x, pairs = graph.pad(x, [(0, 0), (0, 0), *pairs], zero), [(0, 0)] * len(pairs)
    return graph.node(
        *("Conv", x, w),
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=both_ends(pairs),
        group=params["feature_group_count"],
        kernel_shape=list(window),
    )


def _transposed(graph: Graph, params: Mapping, x: str, w: str, window: Sequence[int]) -> str:
    """Ours is y[q] = Σ_j z[q + j d - lo] w[j], ONNX's the sum of x[p] v[m] at p s + m d.

    With v[m] = w[k-1-m] the position q is t = q + (k-1) d - lo there: so much is cut in front.
    """
    if params["feature_group_count"] != 1 or set(params["window_strides"]) != {1}:
        raise NotConverted("a transposed convolution with groups or a stride has no ONNX here")
    order = [1, 0, *range(2, 2 + len(window))]
    w = reversed_along(graph, graph.transpose(w, order), order[2:])  # (I, O, *window)
    reach = [(k - 1) * d for k, d in zip(window, params["rhs_dilation"], strict=True)]
    cut = [(r - lo, r - hi) for r, (lo, hi) in zip(reach, params["padding"], strict=True)]
    # What other padding would leave beyond, is zero; a cut may be longer than what ONNX takes.
    y = graph.node(
        *("ConvTranspose", x, w),
        strides=list(params["lhs_dilation"]),
        dilations=list(params["rhs_dilation"]),
        kernel_shape=list(window),
    )
    zero = graph.constant(np.zeros((), params["preferred_element_type"] or np.float32))
    return graph.pad(y, [(0, 0), (0, 0), *((-a, -b) for a, b in cut)], zero)


def _max_pool(graph: Graph, eqn: Equation, x: str) -> str:
    return _pool(graph, eqn, x, "MaxPool", -np.inf)


def _sum_pool(graph: Graph, eqn: Equation, x: str) -> str:
    mean = _pool(graph, eqn, x, "AveragePool", 0.0, count_include_pad=1)
    number = math.prod(eqn.params["window_dimensions"])
    return graph.node(
        "Mul", mean, graph.constant(np.asarray(number, aval_of(eqn.outvars[0]).dtype))
    )


def _pool(
    graph: Graph, eqn: Equation, x: str, operation: str, outside: float, **attributes: Any
) -> str:
    params, dtype = eqn.params, aval_of(eqn.outvars[0]).dtype
    names = ("dimensions", "strides", "dilation")
    per_axis = (*(params[f"window_{name}"] for name in names), params["padding"])
    windows = [*zip(*per_axis, params["base_dilation"], strict=True)]
    still = [axis for axis, window in enumerate(windows) if window == (1, 1, 1, (0, 0), 1)]
    if len(still) < 2:
        raise NotConverted("windows over all axes of an array have no ONNX here")
    moved = [axis for axis in range(len(windows)) if axis not in (still[0], still[-1])]
    order = [still[0], still[-1], *moved]
    sizes, strides, dilations, pairs, base = map(
        list, zip(*(windows[axis] for axis in moved), strict=True)
    )
    if set(base) != {1} or (operation == "AveragePool" and set(dilations) != {1}):
        raise NotConverted("windows with gaps have no ONNX here")
    x = graph.transpose(x, order)  # (N, C, *size)
    if any(n >= k or n < 0 for k, pair in zip(sizes, pairs, strict=True) for n in pair):
        value = graph.constant(np.asarray(outside, dtype))
        x, pairs = graph.pad(x, [(0, 0), (0, 0), *pairs], value), [(0, 0)] * len(pairs)
    attributes |= {} if operation == "AveragePool" else {"dilations": dilations}
    options = {"kernel_shape": sizes, "strides": strides, "pads": both_ends(pairs)}
    y = graph.node(operation, x, **options, **attributes)
    return graph.transpose(y, [int(axis) for axis in np.argsort(order)])


WINDOWS: Mapping[str, Callable[..., str]] = {
    "conv_general_dilated": _conv,
    "reduce_window_max": _max_pool,
    "reduce_window_sum": _sum_pool,
}
