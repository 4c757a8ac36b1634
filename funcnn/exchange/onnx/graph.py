"""An ONNX graph under construction: nodes with the names of what goes in and comes out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from funcnn.rules.shared.arguments import is_known
from funcnn.types import Atom, Aval


class NotConverted(TypeError):
    """A program uses what this converter has no ONNX for.

    >>> issubclass(NotConverted, TypeError)
    True
    """


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation of ONNX; an attribute may be a number, a text, a list, a dtype or a Graph."""

    operation: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]


@dataclasses.dataclass
class Graph:
    """Nodes in the order of their use. The body of a loop is a graph inside another.

    Attributes:
        inputs, outputs: names with the avals (shape and dtype) of what they hold.
        nodes: in order.
        constants: arrays by name; those of a body stand in the outermost graph.
        narrow: names that stand for a larger array: their sizes of 1 are still to be repeated. ONNX
            does so by itself where it takes two arrays element by element.
        outer: the graph around this one.

    >>> graph = Graph()
    >>> graph.node("Add", graph.constant(np.ones(2)), "x")
    'v1'
    >>> graph.nodes[0].inputs
    ['c0', 'x']
    """

    inputs: list[tuple[str, Aval]] = dataclasses.field(default_factory=list)
    outputs: list[tuple[str, Aval]] = dataclasses.field(default_factory=list)
    nodes: list[Node] = dataclasses.field(default_factory=list)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    narrow: dict[str, Aval] = dataclasses.field(default_factory=dict)
    outer: Graph | None = None
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)
    batch: str = ""  # the name of the open size, once a node has taken it from the input

    def inside(self) -> Graph:
        """A new graph for the body of a loop of this one."""
        return Graph(constants=self.constants, outer=self, numbers=self.numbers, narrow=self.narrow)

    def new_name(self) -> str:
        """A name that nothing has yet."""
        return f"v{next(self.numbers)}"

    def nodes_of(self, operation: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs: their names."""
        names = [self.new_name() for _ in range(outputs)]
        self.nodes.append(Node(operation, list(inputs), names, attributes))
        return names

    def node(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node: the name of its output."""
        return self.nodes_of(operation, *inputs, outputs=1, **attributes)[0]

    def constant(self, value: Any) -> str:
        """The name of an array that stands in the file."""
        name = f"c{next(self.numbers)}"
        self.constants[name] = np.asarray(value)
        return name

    def integers(self, numbers: Sequence[int]) -> str:
        """The name of a list of integers, as shapes and axes are given."""
        return self.constant(np.asarray(numbers, np.int64))

    def sizes(self, shape: Sequence[Any]) -> str:
        """The name of a shape in which the batch may be open."""
        if all(map(is_known, shape)):
            return self.integers(shape)
        pieces = [self.integers([n]) if is_known(n) else self.open_size(n) for n in shape]
        return self.node("Concat", *pieces, axis=0)

    def open_size(self, size: Any) -> str:
        """The name of the open size, as a list of one integer."""
        if self.outer is not None:
            return self.outer.open_size(size)
        name, aval = self.inputs[0]
        if size != aval.shape[0]:
            raise NotConverted(f"a shape depends on the open batch as {size}")
        self.batch = self.batch or self.node("Shape", name, start=0, end=1)
        return self.batch

    def reshape(self, name: str, shape: Sequence[Any]) -> str:
        """The array in another shape, in which one size at most is open."""
        if name in self.constants and all(map(is_known, shape)):
            return self.constant(self.constants[name].reshape(shape))
        flexible = [n if is_known(n) else -1 for n in shape]
        sizes = self.integers(flexible) if flexible.count(-1) < 2 else self.sizes(shape)
        return self.node("Reshape", name, sizes)

    def transpose(self, name: str, axes: Sequence[int]) -> str:
        """The array with its axes in another order."""
        if list(axes) == sorted(axes):
            return name
        if name in self.constants:
            return self.constant(self.constants[name].transpose(axes))
        return self.node("Transpose", name, perm=list(axes))

    def full(self, name: str) -> str:
        """The array in its whole size, where it is narrow."""
        if name not in self.narrow:
            return name
        return self.node("Expand", name, self.sizes(self.narrow[name].shape))

    def pad(self, name: str, pairs: Sequence[tuple[int, int]], value: str) -> str:
        """The array with `value` before and behind along each axis; negative numbers cut."""
        if not any(map(any, pairs)):
            return name
        return self.node("Pad", name, self.integers(both_ends(pairs)), value)


def both_ends(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """All that comes in front, then all that comes behind, as ONNX takes a padding.

    >>> both_ends([(1, 2), (3, 4)])
    [1, 3, 2, 4]
    """
    return [n for side in zip(*pairs, strict=True) for n in side]


def aval_of(atom: Atom) -> Aval:
    """The shape and dtype of what an equation reads or writes.

    >>> import jax
    >>> aval_of(jax.make_jaxpr(lambda x: -x)(1.0).eqns[0].invars[0]).shape
    ()
    """
    return atom.aval
