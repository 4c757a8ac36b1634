"""Operations element by element, of which ONNX repeats sizes of 1 by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from funcnn.exchange.onnx.graph import Graph, NotConverted, aval_of
from funcnn.types import Equation

_SAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "abs": "Abs",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "is_nan": "IsNaN",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
}
_OF_TRUTH = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


def _one(graph: Graph, eqn: Equation, number: float = 1) -> str:
    return graph.constant(np.asarray(number, aval_of(eqn.invars[0]).dtype))


def _same(graph: Graph, eqn: Equation, *inputs: str) -> str:
    return graph.node(_SAME[eqn.primitive.name], *inputs)


def _of_truth(graph: Graph, eqn: Equation, *inputs: str) -> str:
    if aval_of(eqn.invars[0]).dtype != bool:
        raise NotConverted(f"{eqn.primitive.name} of integers has no ONNX here")
    return graph.node(_OF_TRUTH[eqn.primitive.name], *inputs)


def _square(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Mul", x, x)


def _integer_pow(graph: Graph, eqn: Equation, x: str) -> str:
    y = eqn.params["y"]
    return _square(graph, eqn, x) if y == 2 else graph.node("Pow", x, _one(graph, eqn, y))


def _exp2(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Pow", _one(graph, eqn, 2), x)


def _rsqrt(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Reciprocal", graph.node("Sqrt", x))


def _not_equal(graph: Graph, eqn: Equation, x: str, y: str) -> str:
    return graph.node("Not", graph.node("Equal", x, y))


def _is_finite(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Not", graph.node("Or", graph.node("IsNaN", x), graph.node("IsInf", x)))


def _erfc(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Sub", _one(graph, eqn), graph.node("Erf", x))


def _log1p(graph: Graph, eqn: Equation, x: str) -> str:
    """log(u) with u = 1 + x; near 0 times x / (u - 1), which undoes the rounding of u.

    Source: Kahan, in Goldberg, What every computer scientist should know, 1991, theorem 4.
    """
    u = graph.node("Add", x, _one(graph, eqn))
    log = graph.node("Log", u)
    rounded = graph.node("Sub", u, _one(graph, eqn))
    nearby = graph.node("Mul", log, graph.node("Div", x, rounded))
    nearby = graph.node("Where", graph.node("Equal", u, _one(graph, eqn)), x, nearby)
    return graph.node("Where", _is_small(graph, eqn, x), nearby, log)


def _expm1(graph: Graph, eqn: Equation, x: str) -> str:
    """u - 1 with u = exp(x); near 0 times x / log(u), likewise."""
    u = graph.node("Exp", x)
    less = graph.node("Sub", u, _one(graph, eqn))
    nearby = graph.node("Mul", less, graph.node("Div", x, graph.node("Log", u)))
    nearby = graph.node("Where", graph.node("Equal", u, _one(graph, eqn)), x, nearby)
    return graph.node("Where", _is_small(graph, eqn, x), nearby, less)


def _is_small(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Less", graph.node("Abs", x), _one(graph, eqn, 0.5))


def _select(graph: Graph, eqn: Equation, which: str, *cases: str) -> str:
    if len(cases) != 2 or aval_of(eqn.invars[0]).dtype != bool:
        raise NotConverted("a selection among more than two arrays has no ONNX here")
    return graph.node("Where", which, cases[1], cases[0])


def _clamp(graph: Graph, eqn: Equation, low: str, x: str, high: str) -> str:
    return graph.node("Min", graph.node("Max", x, low), high)


def _cast(graph: Graph, eqn: Equation, x: str) -> str:
    return graph.node("Cast", x, to=np.dtype(eqn.params["new_dtype"]))


ELEMENTWISE: Mapping[str, Callable[..., str]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_OF_TRUTH, _of_truth),
    "square": _square,
    "integer_pow": _integer_pow,
    "exp2": _exp2,
    "rsqrt": _rsqrt,
    "ne": _not_equal,
    "is_finite": _is_finite,
    "erfc": _erfc,
    "log1p": _log1p,
    "expm1": _expm1,
    "select_n": _select,
    "clamp": _clamp,
    "convert_element_type": _cast,
}
