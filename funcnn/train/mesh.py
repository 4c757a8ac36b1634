"""Many devices: how the rows of a batch and the arrays of a state lie on a mesh of them.

Nothing here computes: a compiler that is told how arrays lie finds the communication by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from funcnn.core.patterns import matches, matching
from funcnn.core.usage import as_integer
from funcnn.spelling import did_you_mean
from funcnn.train.processes import are_many
from funcnn.train.signature import leaf_name, leaf_names
from funcnn.train.state import TrainState
from funcnn.types import Array, Batch, PyTree, Shape, Shaped

AXES = ("data", "fsdp", "tensor")
# The rows of a batch lie along both of these, in this order: in the other one XLA (jaxlib 0.10 and
# 0.12) computes wrong gradients where params lie along ("fsdp", "tensor").
ROWS = ("fsdp", "data")
# Of the last axes of an array: the axis of the mesh, or several, or "" for none.
Lying: TypeAlias = Sequence[str | Sequence[str]]
# Patterns of names of params, and how those lie; the first that matches decides.
Sharding: TypeAlias = Mapping[str, Lying]


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """The devices in three axes, whose product is their number; one of them may be -1, the rest.

    Along `data` the rows of a batch lie, and params are whole; along `fsdp` the rows lie as well,
    and params in parts, which are put together where a layer needs them; along `tensor` params lie
    in parts, and rows are whole.

    Raises:
        ValueError: there are not as many devices.

    >>> dict(make_mesh(data=1).shape)
    {'data': 1, 'fsdp': 1, 'tensor': 1}
    """
    there = jax.device_count()
    sizes = axis_sizes(there, data, fsdp, tensor)
    wanted = math.prod(sizes.values())
    if wanted > there or (-1 in (data, fsdp, tensor) and wanted != there):
        axes = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"mesh: {axes} are {wanted} devices, and there are {there}")
    devices = jax.devices() if wanted == there else jax.devices()[:wanted]
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=types, devices=devices)


def axis_sizes(there: int, data: int = -1, fsdp: int = 1, tensor: int = 1) -> dict[str, int]:
    """The devices along each axis, where there are so many: -1 is what the others leave, 1 or more.

    Raises:
        ValueError: one is no such number, or two are -1.

    >>> axis_sizes(8, data=1, fsdp=-1, tensor=2)
    {'data': 1, 'fsdp': 4, 'tensor': 2}
    """
    sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    for name, size in sizes.items():
        if as_integer(size) is None or (size < 1 and size != -1):
            raise ValueError(f"mesh: {name} is a number from 1, or -1 for the rest, found {size!r}")
    rest = [name for name, size in sizes.items() if size == -1]
    if len(rest) > 1:
        raise ValueError(f"mesh: {' and '.join(rest)} are both -1, and only one can be the rest")
    given = math.prod(size for size in sizes.values() if size != -1)
    return sizes | {name: max(there // given, 1) for name in rest}


class Placement(NamedTuple):
    """How the arrays of a run lie on a mesh.

    Fields: `mesh`, of axes that the compiler divides work along; `sharding`, for patterns of names
    of params the axes of the mesh along which their last axes lie. A param that no pattern matches
    is whole on each device, or, where there are no patterns and the mesh has an axis `fsdp`, cut
    along its largest axis, if it has two or more. An axis that cannot be cut in equal parts stays
    whole. What an optimizer or an average keeps for a param lies as that does.

    >>> lying = Placement(make_mesh(data=1)).of_batch({"x": np.ones((4, 2))})
    >>> lying["x"].spec == PartitionSpec(("fsdp", "data"), None)
    True
    """

    mesh: Mesh
    sharding: Sharding = {}  # noqa: RUF012, nobody changes it

    def check(self, params: PyTree) -> None:
        """Raise ValueError where it cannot be what is meant: an axis, a pattern, a mesh.

        >>> Placement(make_mesh(data=1), {"*/w": ["tensors"]}).check({"a": {"w": np.ones(3)}})
        Traceback (most recent call last):
        ValueError: sharding: */w: the mesh has no axis 'tensors' (did you mean 'tensor'?): it ...
        """
        if any(kind != AxisType.Auto for kind in self.mesh.axis_types):
            raise ValueError(
                "mesh: a step lays out arrays itself, for the compiler to divide the work: give "
                "axis_types=(jax.sharding.AxisType.Auto, ...), as fnn.train.make_mesh does"
            )
        names, axes = leaf_names(params), self.mesh.axis_names
        used = set()
        for pattern, lying in self.sharding.items():
            matching("sharding", [pattern], names)
            for axis in _axes_of(pattern, lying):
                if axis not in axes:
                    hint = did_you_mean(axis, axes, quote="'")
                    known = ", ".join(axes)
                    raise ValueError(
                        f"sharding: {pattern}: the mesh has no axis {axis!r}{hint}: it has {known}"
                    )
                used.add(axis)
        sizes = self.mesh.shape
        if sizes.get("tensor", 1) > 1 and "tensor" not in used:
            raise ValueError(
                f"mesh.tensor = {sizes['tensor']} would cut nothing: say in sharding "
                f"(train.sharding of a config) which params lie along it"
            )

    def of_params(self, params: PyTree) -> PyTree:
        """A sharding for each array of a tree of params, or of their shapes."""
        leaves, tree = jax.tree.flatten(params)
        named = zip(leaf_names(params), leaves, strict=True)
        return jax.tree.unflatten(tree, [self._of(name, leaf.shape) for name, leaf in named])

    def of_state(self, state: TrainState) -> TrainState:
        """A sharding for each array of a state, or of its shapes."""
        params = self.of_params(state.params)
        shapes = [leaf.shape for leaf in jax.tree.leaves(state.params)]
        of_name = zip(leaf_names(state.params), shapes, jax.tree.leaves(params), strict=True)
        known = {(name, shape): sharding for name, shape, sharding in of_name}
        whole = self.whole()

        def of_rest(path: jax.tree_util.KeyPath, leaf: Shaped) -> NamedSharding:
            # 0/mu/dense_0/w of an optimizer lies as dense_0/w.
            parts = leaf_name(path).split("/")
            ends = ("/".join(parts[i:]) for i in range(len(parts)))
            found = (known[end, leaf.shape] for end in ends if (end, leaf.shape) in known)
            return next(found, whole)

        rest = jax.tree_util.tree_map_with_path(of_rest, state._replace(params=()))
        return rest._replace(params=params)

    def of_batch(self, batch: Batch, *, stacked: bool = False, accumulate: int = 1) -> PyTree:
        """A sharding for each array of a batch, whose axis of rows is the first, or the second.

        Raises ValueError where the rows, or those of each of the parts that a step accumulates,
        cannot be spread evenly.
        """
        rows, parts, at = self._rows(), self.parts(), int(stacked)

        def of(path: jax.tree_util.KeyPath, leaf: Array | np.ndarray) -> NamedSharding:
            shape = np.shape(leaf)
            if len(shape) <= at:
                return self.whole()
            if parts > 1 and shape[at] % (parts * accumulate):
                axes = " x ".join(f"{axis} {self.mesh.shape[axis]}" for axis in rows)
                of_each = f", in accumulate = {accumulate} parts" if accumulate > 1 else ""
                raise ValueError(
                    f"batch leaf '{leaf_name(path)}' has {shape[at]} rows{of_each}, which cannot "
                    f"be spread over {parts} parts of the mesh ({axes}): give a multiple of "
                    f"{parts * accumulate}"
                )
            spec = [None] * at + [rows] + [None] * (len(shape) - at - 1)
            return NamedSharding(self.mesh, PartitionSpec(*spec))

        return jax.tree_util.tree_map_with_path(of, batch)

    def parts(self) -> int:
        """In how many parts the rows of a batch lie."""
        return math.prod(self.mesh.shape[axis] for axis in self._rows())

    def whole(self) -> NamedSharding:
        """How an array lies of which each device has all."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows_here(self, rows: int) -> np.ndarray:
        """Which rows of a batch of so many this process's devices hold: their numbers, in order."""
        sharding = self.of_batch(np.empty((rows, 0), bool))
        held = sharding.addressable_devices_indices_map((rows, 0)).values()
        return np.unique(np.concatenate([np.arange(rows)[i[0]] for i in held if i is not None]))

    def put(self, tree: PyTree, shardings: PyTree) -> PyTree:
        """The arrays as they are to lie; in each of many processes all of them are given whole."""

        def put(x: Array | np.ndarray, sharding: NamedSharding) -> Array:
            if isinstance(x, jax.Array) and x.sharding == sharding:
                return x
            if not are_many():
                return jax.device_put(x, sharding)
            if isinstance(x, jax.Array) and not x.is_fully_addressable:
                return jax.jit(lambda x: x, out_shardings=sharding)(x)
            host = np.asarray(x)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree, shardings)

    def from_rows_here(self, part: Batch, rows: int, *, stacked: bool = False) -> Batch:
        """The whole batch of so many rows, of which each process gives those of `rows_here`."""

        at, here = int(stacked), self.rows_here(rows)

        def whole(x: np.ndarray) -> Array:
            shape = (*x.shape[:at], rows, *x.shape[at + 1 :])
            sharding = self.of_batch(np.broadcast_to(np.zeros((), bool), shape), stacked=stacked)

            def held(index: tuple[slice, ...] | None) -> np.ndarray:
                assert index is not None
                wanted = np.searchsorted(here, np.arange(rows)[index[at]])
                return np.take(x, wanted, axis=at)

            return jax.make_array_from_callback(shape, sharding, held)

        return jax.tree.map(whole, part)

    def constrained(self, state: TrainState) -> TrainState:
        """Inside a compiled step: the new state lies as the old one."""
        return jax.lax.with_sharding_constraint(state, self.of_state(state))

    def _rows(self) -> tuple[str, ...]:
        return tuple(axis for axis in ROWS if axis in self.mesh.shape) or self.mesh.axis_names[:1]

    def _of(self, name: str, shape: Shape) -> NamedSharding:
        lying = next((v for p, v in self.sharding.items() if matches("sharding", p, name)), None)
        if lying is None:
            lying = self._usual(shape) if not self.sharding else []
        lying = list(lying)[-len(shape) :] if shape else []
        spec = [None] * (len(shape) - len(lying)) + [_axes(entry) or None for entry in lying]
        for i, axes in enumerate(spec):
            parts = math.prod(self.mesh.shape[axis] for axis in axes or ())
            if shape[i] % parts:
                spec[i] = None
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def _usual(self, shape: Shape) -> Lying:
        parts = self.mesh.shape.get("fsdp", 1)
        cut = [i for i, size in enumerate(shape) if size % parts == 0]
        if parts == 1 or len(shape) < 2 or not cut:
            return []
        largest = max(cut, key=lambda i: shape[i])
        return ["fsdp" if i == largest else "" for i in range(len(shape))]


def _axes_of(pattern: str, lying: object) -> list[str]:
    """The axes of the mesh that a pattern names, each of which can cut one axis of an array."""
    entries = lying if isinstance(lying, list | tuple) else [None]
    named = [
        a for entry in entries for a in (entry if isinstance(entry, list | tuple) else [entry])
    ]
    if not all(isinstance(axis, str) for axis in named):
        message = "a list of axes of the mesh, or lists of them, '' for none, such as ['fsdp', '']"
        raise ValueError(f"sharding: {pattern}: {message}, found {lying!r}")
    axes = [axis for axis in named if axis]
    for axis in axes:
        if axes.count(axis) > 1:
            message = f"an axis of the mesh cuts one axis of an array, and {axis!r} stands there"
            raise ValueError(f"sharding: {pattern}: {message} {axes.count(axis)} times")
    return axes


def _axes(entry: str | Sequence[str]) -> tuple[str, ...]:
    given = (entry,) if isinstance(entry, str) else tuple(entry)
    return tuple(axis for axis in given if axis)
