"""A jaxpr as a graph: each equation by the converter of its operation, calls and loops inside."""

from __future__ import annotations

from collections.abc import Sequence

import jax.extend.core as jex
import numpy as np

from funcnn.exchange.onnx.elementwise import ELEMENTWISE
from funcnn.exchange.onnx.graph import Graph, Node, NotConverted, aval_of
from funcnn.exchange.onnx.reshaping import RESHAPING
from funcnn.exchange.onnx.windows import WINDOWS
from funcnn.gradient.program.jaxprs import closed, inside_call, scan_layout
from funcnn.types import Atom, Aval, ClosedJaxpr, Equation, Jaxpr

_CONVERTERS = {**ELEMENTWISE, **RESHAPING, **WINDOWS}
_AS_IT_IS = {"stop_gradient", "copy", "copy_p", "optimization_barrier"}


def graph_of(program: ClosedJaxpr, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """The graph of a program with these names for what goes in and comes out.

    >>> import jax
    >>> program = jax.make_jaxpr(lambda x: 2.0 * x)(np.ones(3, np.float32))
    >>> [node.operation for node in graph_of(program, ["x"], ["y"]).nodes]
    ['Mul', 'Identity']
    """
    graph = Graph(inputs=[*zip(inputs, (aval_of(v) for v in program.jaxpr.invars), strict=True)])
    results = _run(graph, program, inputs)
    avals = [aval_of(v) for v in program.jaxpr.outvars]
    graph.outputs = [*zip(_named(graph, results, outputs), avals, strict=True)]
    return graph


def _named(graph: Graph, values: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """The values under names of their own, whole and no two the same."""
    for value, name in zip(values, names, strict=True):
        graph.nodes.append(Node("Identity", [graph.full(value)], [name], {}))
    return names


def _run(graph: Graph, program: ClosedJaxpr, inputs: Sequence[str]) -> list[str]:
    """Add the equations of a program to a graph: the names of its results."""
    constants = [graph.constant(c) for c in program.consts]
    return _equations(graph, program.jaxpr, [*constants, *inputs])


def _equations(graph: Graph, jaxpr: Jaxpr, inputs: Sequence[str]) -> list[str]:
    names = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def name(atom: Atom) -> str:
        return graph.constant(atom.val) if isinstance(atom, jex.Literal) else names[atom]

    for eqn in jaxpr.eqns:
        results = _converted(graph, eqn, [name(atom) for atom in eqn.invars])
        names |= zip(eqn.outvars, results, strict=True)
    return [name(atom) for atom in jaxpr.outvars]


def _converted(graph: Graph, eqn: Equation, inputs: list[str]) -> list[str]:
    operation = eqn.primitive.name
    if operation in _AS_IT_IS:
        return inputs
    if inside := inside_call(eqn):
        return _run(graph, inside, inputs)
    if operation == "scan":
        return _scan(graph, eqn, [graph.full(name) for name in inputs])
    if operation not in _CONVERTERS:
        raise NotConverted(f"{operation} has no ONNX here")
    # ONNX repeats sizes of 1, up to the sizes of those that are whole.
    shape = aval_of(eqn.outvars[0]).shape
    whole = any(
        name not in graph.narrow and aval_of(v).shape == shape
        for name, v in zip(inputs, eqn.invars, strict=True)
    )
    if not (operation in ELEMENTWISE and whole):
        inputs = [graph.full(name) for name in inputs]
    y = _CONVERTERS[operation](graph, eqn, *inputs)
    return [y] if isinstance(y, str) else y


def _scan(graph: Graph, eqn: Equation, inputs: list[str]) -> list[str]:
    """ONNX's Scan. What is the same in each step, the body takes from around it by its name."""
    fixed, carried = scan_layout(eqn)
    body = closed(eqn.params["jaxpr"])
    inner = graph.inside()
    avals: list[Aval] = body.in_avals[fixed:]
    if len(avals) == carried:  # ONNX counts the steps by what is scanned
        counter = np.zeros(eqn.params["length"], np.float32)
        inputs, avals = [*inputs, graph.constant(counter)], [*avals, counter[0]]
    own = [inner.new_name() for _ in avals]
    inner.inputs = [*zip(own, avals, strict=True)]
    given = [*inputs[:fixed], *own][: len(body.in_avals)]
    results = _run(inner, body, given)
    names = _named(inner, results, [inner.new_name() for _ in results])
    inner.outputs = [*zip(names, body.out_avals, strict=True)]
    scanned, stacked = len(avals) - carried, len(results) - carried
    backwards = eqn.params["reverse"]
    directions = {"scan_input_directions": scanned, "scan_output_directions": stacked}
    return graph.nodes_of(
        *("Scan", *inputs[fixed:]),
        outputs=len(results),
        body=inner,
        num_scan_inputs=scanned,
        **{name: [1] * number for name, number in directions.items() if backwards and number},
    )
