"""Arrays whose sharding is part of their type: `AxisType.Explicit`, the default of `jax.make_mesh`.

There JAX asks of each operation how its result lies, and refuses where it would have to guess: a
product over a sharded axis, a row looked up in a table. A rule need not answer for each operation
of its two passes: inside them the compiler places what it likes, and what comes out lies as this
file says. A value lies as that of the reference does; where JAX refuses that, and for residuals, it
lies as the arguments: the rows of a batch stay where they are. Cotangents lie as their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from funcnn.core.contract import Contract
from funcnn.types import Function, Params, PyTree, Residuals


def is_explicit(*trees: PyTree) -> bool:
    """Whether the type of an array says on which devices of a mesh its parts lie.

    >>> is_explicit(1.0)
    False
    """
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(trees)]
    return any(AxisType.Explicit in mesh.axis_types for mesh in meshes)


def placed_forward(
    forward: Function, reference: Function, args: Sequence[PyTree]
) -> tuple[PyTree, Residuals]:
    """forward(*args) -> (y, res); y lies as that of the reference, or as the rows of the arguments.

    >>> placed_forward(lambda x: (2 * x, x), lambda x: 2 * x, (3.0,))
    (6.0, 3.0)
    """

    def shardings(shapes: PyTree) -> PyTree:
        y, res = shapes
        lying = _shardings_of_value(reference, args) or _shardings_like(y, args)
        return lying, _shardings_like(res, args)

    return _placed(forward, args, shardings) if is_explicit(args) else forward(*args)


def placed_backward(
    backward: Function, res: Residuals, dy: PyTree, contract: Contract
) -> tuple[PyTree, ...]:
    """backward(res, dy); each cotangent lies as its argument does.

    >>> import jax.numpy as jnp
    >>> contract = Contract.of("double", ("x",), (jnp.ones(2),))
    >>> placed_backward(lambda res, dy: (2 * dy,), None, jnp.ones(2), contract)[0]
    Array([2., 2.], dtype=float32)
    """
    if not is_explicit(res, dy):
        return backward(res, dy)
    of_all = (res, dy)
    return _placed(backward, of_all, lambda shapes: _named(contract.shardings(shapes), of_all))


def placed_as_rows(f: Function, params: Params, *args: PyTree) -> PyTree:
    """f(params, *args); gradients of params lie as they do, all else as the rows of the others.

    >>> placed_as_rows(lambda params, x: params["w"] * x, {"w": 2.0}, 3.0)
    6.0
    """

    def shardings(shapes: PyTree) -> PyTree:
        if not (isinstance(shapes, tuple) and jax.tree.structure(shapes[0]) == tree):
            return _shardings_like(shapes, (params, args))
        of_params = _named(jax.tree.map(lambda a: jax.typeof(a).sharding, params), (params, args))
        return (of_params, *_shardings_like(shapes[1:], args))

    tree = jax.tree.structure(params)
    every = (params, *args)
    return _placed(f, every, shardings) if is_explicit(every) else f(*every)


def _placed(f: Function, args: Sequence[PyTree], shardings: Callable[[PyTree], PyTree]) -> PyTree:
    """f(*args), inside of which the compiler places arrays; its results lie as `shardings` says."""
    shapes = jax.eval_shape(f, *jax.tree.map(_without_sharding, tuple(args)))
    return jax.sharding.auto_axes(f, out_sharding=shardings(shapes))(*args)


def _shardings_of_value(reference: Function, args: Sequence[PyTree]) -> PyTree | None:
    try:
        y = jax.eval_shape(reference, *args)
    except Exception:  # JAX has no name for it; what is wrong with the arguments comes up again
        return None
    return jax.tree.map(lambda leaf: leaf.sharding, y)


def _named(shardings: PyTree, args: PyTree) -> PyTree:
    """The same, of the mesh of args where one names none: that array was made before the mesh."""
    whole = _like((), [jax.typeof(leaf) for leaf in jax.tree.leaves(args)])
    return jax.tree.map(lambda sharding: whole if sharding.mesh.empty else sharding, shardings)


def _shardings_like(shapes: PyTree, args: PyTree) -> PyTree:
    """For each of the shapes a sharding: that of an array that begins with it, or of its rows."""
    arrays = [jax.typeof(leaf) for leaf in jax.tree.leaves(args)]
    return jax.tree.map(lambda shape: _like(shape.shape, arrays), shapes)


def _like(shape: tuple[int, ...], arrays: Sequence[jax.ShapeDtypeStruct]) -> NamedSharding:
    mesh = next(a.sharding.mesh for a in arrays if AxisType.Explicit in a.sharding.mesh.axis_types)
    sharded = [a for a in arrays if any(a.sharding.spec)]
    alike = [a for a in sharded if a.shape[: len(shape)] == shape]
    if alike:
        # First one that has no further axes: one of its own shape, and then what has one number a
        # row or a head of it.
        nearest = min(alike, key=lambda a: len(a.shape))
        return NamedSharding(mesh, PartitionSpec(*nearest.sharding.spec[: len(shape)]))
    rows = [a.sharding.spec[0] for a in sharded if a.shape[:1] == shape[:1] and shape]
    return NamedSharding(mesh, PartitionSpec(*rows[:1]))


def _without_sharding(x: PyTree) -> jax.ShapeDtypeStruct:
    aval = jax.typeof(x)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)
