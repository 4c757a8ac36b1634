"""Operations that move elements, and reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from funcnn.exchange.onnx.graph import Graph, NotConverted, aval_of
from funcnn.rules.shared.arguments import is_known
from funcnn.types import Equation


def _reshape(graph: Graph, eqn: Equation, x: str) -> str:
    order = eqn.params.get("dimensions")
    if order is not None and list(order) != sorted(order):
        raise NotConverted("a reshape in another order of axes has no ONNX here")
    return graph.reshape(x, aval_of(eqn.outvars[0]).shape)


def _broadcast(graph: Graph, eqn: Equation, x: str, *sizes: str) -> str:
    """The operand with sizes of 1 where it is repeated: a narrow array."""
    shape, axes = aval_of(eqn.outvars[0]).shape, eqn.params["broadcast_dimensions"]
    given = aval_of(eqn.invars[0]).shape
    thin = [1] * len(shape)
    for axis, size in zip(axes, given, strict=True):
        thin[axis] = size
    y = x if tuple(thin) == tuple(given) else graph.reshape(x, thin)
    if tuple(thin) != tuple(shape):
        y = graph.node("Identity", y) if y == x else y  # x itself is not narrow
        graph.narrow[y] = aval_of(eqn.outvars[0])
    return y


def _transpose(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.transpose(x, eqn.params["permutation"])


def _concatenate(graph: Graph, eqn: Equation, *xs: str) -> str:
    return graph.node("Concat", *xs, axis=eqn.params["dimension"])


def _split(graph: Graph, eqn: Equation, x: str) -> list[str]:
    sizes = graph.integers(eqn.params["sizes"])
    return graph.nodes_of("Split", x, sizes, outputs=len(eqn.outvars), axis=eqn.params["axis"])


def _slice(graph: Graph, eqn: Equation, x: str) -> str:
    shape, starts = aval_of(eqn.invars[0]).shape, eqn.params["start_indices"]
    limits = eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(shape)
    every = range(len(shape))
    axes = [a for a in every if (starts[a], limits[a], steps[a]) != (0, shape[a], 1)]
    chosen = [[values[a] for a in axes] for values in (starts, limits, steps)]
    if not all(is_known(n) for values in chosen for n in values):
        raise NotConverted("a slice along the open batch has no ONNX here")
    begin, end, step = map(graph.integers, chosen)
    return graph.node("Slice", x, begin, end, graph.integers(axes), step) if axes else x


def reversed_along(graph: Graph, x: str, axes: list[int]) -> str:
    """The array turned round along these axes.

    >>> graph = Graph()
    >>> graph.constants[reversed_along(graph, graph.constant([1, 2]), [0])].tolist()
    [2, 1]
    """
    if x in graph.constants:
        return graph.constant(np.flip(graph.constants[x], tuple(axes)))
    from_last, to_first, back = (graph.integers([n] * len(axes)) for n in (-1, -(2**62), -1))
    return graph.node("Slice", x, from_last, to_first, graph.integers(axes), back)


def _rev(graph: Graph, eqn: Equation, x: str) -> str:
    return reversed_along(graph, x, list(eqn.params["dimensions"]))


def _pad(graph: Graph, eqn: Equation, x: str, value: str) -> str:
    if any(interior for _, _, interior in eqn.params["padding_config"]):
        raise NotConverted("a padding between the elements has no ONNX here")
    pairs = [(low, high) for low, high, _ in eqn.params["padding_config"]]
    return graph.pad(x, pairs, value)


def _iota(graph: Graph, eqn: Equation) -> str:
    aval, axis = aval_of(eqn.outvars[0]), eqn.params["dimension"]
    if not is_known(aval.shape[axis]):
        raise NotConverted("numbers from 0 on along the open batch have no ONNX here")
    shape = [1] * len(aval.shape)
    shape[axis] = aval.shape[axis]
    y = graph.constant(np.arange(shape[axis], dtype=aval.dtype).reshape(shape))
    if tuple(shape) != aval.shape:
        graph.narrow[y] = aval
    return y


def _open_size(graph: Graph, eqn: Equation) -> str:
    """The size of the open batch as a number."""
    size = graph.reshape(graph.open_size(eqn.params["dim"]), ())
    return graph.node("Cast", size, to=np.dtype(aval_of(eqn.outvars[0]).dtype))


def _gather(graph: Graph, eqn: Equation, table: str, x: str) -> str:
    """Rows of a table, as `embedding` and `jnp.take` ask for; out of it what the mode says."""
    numbers, rank = eqn.params["dimension_numbers"], len(aval_of(eqn.invars[0]).shape)
    indices = aval_of(eqn.invars[1])
    axis = numbers.start_index_map[0] if len(numbers.start_index_map) == 1 else -1
    batch = len(indices.shape) - 1
    sizes = list(aval_of(eqn.invars[0]).shape)
    sizes[axis] = 1
    kept = (*range(axis), *range(axis + batch, rank - 1 + batch))
    if (
        (axis,) != numbers.collapsed_slice_dims
        or numbers.operand_batching_dims
        or tuple(eqn.params["slice_sizes"]) != tuple(sizes)
        or numbers.offset_dims != kept
    ):
        raise NotConverted("an indexing other than of whole rows of one axis has no ONNX here")
    last = aval_of(eqn.invars[0]).shape[axis] - 1
    x = graph.reshape(x, indices.shape[:-1])
    low, high = (graph.constant(np.asarray(n, indices.dtype)) for n in (0, last))
    clipped = graph.node("Min", graph.node("Max", x, low), high)
    rows = graph.node("Gather", table, clipped, axis=axis)
    if "FILL" not in str(eqn.params["mode"]):
        return rows
    beside = (*indices.shape[:-1], *(1,) * (rank - 1 - axis))
    inside = graph.reshape(graph.node("Equal", x, clipped), beside)
    dtype = aval_of(eqn.outvars[0]).dtype
    fill = eqn.params["fill_value"]
    if fill is None:
        raise NotConverted("an indexing that fills with an unknown value has no ONNX here")
    return graph.node("Where", inside, rows, graph.constant(np.asarray(fill, dtype)))


_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def _reduce(graph: Graph, eqn: Equation, x: str) -> str:
    axes = graph.integers(eqn.params["axes"])
    return graph.node(_REDUCTIONS[eqn.primitive.name], x, axes, keepdims=0)


def _arg(graph: Graph, eqn: Equation, x: str) -> str:
    (axis,), operation = eqn.params["axes"], {"argmax": "ArgMax", "argmin": "ArgMin"}
    y = graph.node(operation[eqn.primitive.name], x, axis=axis, keepdims=0)
    return graph.node("Cast", y, to=np.dtype(eqn.params["index_dtype"]))


def _dot_general(graph: Graph, eqn: Equation, x: str, y: str) -> str:
    ((x_summed, y_summed), (x_batch, y_batch)) = eqn.params["dimension_numbers"]
    left, right = (aval_of(v) for v in eqn.invars)
    out = aval_of(eqn.outvars[0]).dtype
    x, y = (
        name if aval.dtype == out else graph.node("Cast", name, to=np.dtype(out))
        for name, aval in ((x, left), (y, right))
    )
    if (tuple(x_summed), tuple(y_summed)) == ((left.ndim - 1,), (0,)) and right.ndim == 2:
        return graph.node("MatMul", x, y)
    names = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(names) for _ in range(left.ndim)]
    of_y = [next(names) for _ in range(right.ndim)]
    for i, j in [*zip(x_batch, y_batch, strict=True), *zip(x_summed, y_summed, strict=True)]:
        of_y[j] = of_x[i]
    free_x = [of_x[i] for i in range(left.ndim) if i not in (*x_batch, *x_summed)]
    free_y = [of_y[j] for j in range(right.ndim) if j not in (*y_batch, *y_summed)]
    result = [*(of_x[i] for i in x_batch), *free_x, *free_y]
    equation = f"{''.join(of_x)},{''.join(of_y)}->{''.join(result)}"
    return graph.node("Einsum", x, y, equation=equation)


RESHAPING: Mapping[str, Callable[..., str | list[str]]] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "split": _split,
    "slice": _slice,
    "rev": _rev,
    "pad": _pad,
    "iota": _iota,
    "gather": _gather,
    "dot_general": _dot_general,
    "argmax": _arg,
    "argmin": _arg,
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "dim_as_value": _open_size,
}
