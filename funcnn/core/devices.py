"""Arrays inside a `jax.shard_map`: along which axes of the mesh they differ from device to device.

JAX keeps the axes in the type of an array, and refuses what mixes them where it cannot tell what is
meant: a loop whose carry begins alike on all devices and does not stay so, a cotangent that differs
where its argument does not. Outside of a `shard_map`, and with `check_vma=False`, no axis is kept.
"""

from __future__ import annotations

import math

import jax
from jax.sharding import AxisType

from funcnn.types import Array, PyTree


def varying(x: PyTree) -> frozenset[str]:
    """The axes of the mesh along which any array of a tree differs from device to device.

    >>> varying(1.0)
    frozenset()
    """
    axes = [jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(x)]
    return frozenset().union(*axes)


def device_count(*arrays: Array) -> int:
    """Over how many devices the compiler may lay arrays: those of the mesh that their types name.

    1 where they name none, as those of one device do. The axes of a `shard_map` are left out: there
    each device has arrays of its own.

    >>> device_count(1.0)
    1
    """
    meshes = [jax.typeof(a).sharding.mesh for a in arrays]
    return max(
        math.prod(
            size
            for size, kind in zip(mesh.axis_sizes, mesh.axis_types, strict=True)
            if kind != AxisType.Manual
        )
        for mesh in meshes
    )


def varying_as(x: PyTree, *others: PyTree) -> PyTree:
    """The arrays of x as such that differ along the axes along which any of the others does, too.

    A loop begins with its carry like that: what it adds to it is made of the others.

    >>> varying_as(0.0, 1.0)
    0.0
    """
    axes = varying(others)
    return jax.tree.map(lambda a: _varying_along(a, axes), x)


def summed_to(cotangent: Array, axes: frozenset[str]) -> Array:
    """The cotangent of an argument that differs along `axes`.

    An argument that all devices of an axis share has the sum of what each of them gives it; one
    that each has of its own, where the same comes back to all of them, has that on each.

    >>> summed_to(1.0, frozenset())
    1.0
    """
    shared = varying(cotangent) - axes
    if shared:
        cotangent = jax.lax.psum(cotangent, tuple(shared))
    return _varying_along(cotangent, axes)


def _varying_along(x: Array, axes: frozenset[str]) -> Array:
    missing = tuple(axes - varying(x))
    return jax.lax.pcast(x, missing, to="varying") if missing else x
