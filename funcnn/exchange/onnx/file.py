"""A graph as the package onnx writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn.exchange.onnx.graph import Graph, Node
from funcnn.rules.shared.arguments import is_known
from funcnn.types import Aval
from funcnn.version import __version__

OPSET = 18  # of 2022: ReduceMax takes its axes as an input since then
_IR = 8  # the format of files of that year, which older runtimes read


def serialized(graph: Graph) -> bytes:
    """The bytes of the file, checked by onnx itself.

    Raises:
        ModuleNotFoundError: onnx is not installed.

    >>> graph = Graph([("x", np.ones(2, np.float32))], [("y", np.ones(2, np.float32))])
    >>> graph.nodes.append(Node("Neg", ["x"], ["y"], {}))
    >>> len(serialized(graph)) > 20
    True
    """
    import onnx
    from onnx import helper

    used = {name for node in _all_nodes(graph) for name in node.inputs}
    constants = {name: a for name, a in graph.constants.items() if name in used}
    made = _graph(graph, constants)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="funcnn",
        producer_version=__version__,
        ir_version=_IR,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _graph(graph: Graph, constants: dict[str, np.ndarray]) -> Any:
    from onnx import helper, numpy_helper

    return helper.make_graph(
        [_node(node) for node in graph.nodes],
        "funcnn",
        [_value(name, aval) for name, aval in graph.inputs],
        [_value(name, aval) for name, aval in graph.outputs],
        [numpy_helper.from_array(np.array(a), name) for name, a in constants.items()],
    )


def _node(node: Node) -> Any:
    from onnx import helper

    attributes = {name: _attribute(value) for name, value in node.attributes.items()}
    return helper.make_node(node.operation, list(node.inputs), list(node.outputs), **attributes)


def _attribute(value: Any) -> Any:
    from onnx import helper

    if isinstance(value, Graph):
        return _graph(value, {})  # constants stand in the outermost graph
    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value


def _value(name: str, aval: Aval) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))
    sizes = [int(n) if is_known(n) else str(n) for n in aval.shape]
    return helper.make_tensor_value_info(name, kind, sizes)


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, Graph):
                yield from _all_nodes(value)
