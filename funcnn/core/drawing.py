"""The init of a composition as one program: otherwise each of its draws is compiled by itself."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Hashable

import jax
from jax.core import Tracer

from funcnn.core.layer import Init
from funcnn.types import Key, Params, PyTree


@dataclasses.dataclass(frozen=True)
class _Shapes:
    """The tree of an input with the shapes and dtypes of its arrays, as a key of a cache."""

    leaves: tuple[Hashable, ...]
    tree: Hashable

    @classmethod
    def of(cls, x: PyTree) -> _Shapes:
        leaves, tree = jax.tree.flatten(x)
        return cls(tuple(map(_shape, leaves)), tree)

    def input(self) -> PyTree:
        return jax.tree.unflatten(self.tree, self.leaves)


def _shape(leaf: PyTree) -> PyTree:
    if not hasattr(leaf, "shape") or isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    weak = isinstance(leaf, jax.Array) and leaf.weak_type
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak)


def one_program(init: Init) -> Init:
    """The same init, compiled as a whole the first time that it is called on these shapes.

    It draws the same numbers. Where the key is a tracer the program around it is compiled, and what
    cannot be traced, such as a function's own init in NumPy, is called as it stands; its errors are
    those of the call as it stands.

    >>> import jax.numpy as jnp
    >>> init = one_program(lambda key, x: {"w": jax.random.normal(key, x.shape), "b": x.shape[0]})
    >>> list(init(jax.random.key(0), jnp.ones(2)))
    ['w', 'b']
    """

    def ordered(key: Key, shapes: _Shapes) -> PyTree:
        return _with_order(init(key, shapes.input()))

    program = jax.jit(ordered, static_argnums=1)

    def draw(key: Key, x: PyTree) -> Params:
        if not isinstance(key, jax.Array) or isinstance(key, Tracer):
            return init(key, x)
        try:
            drawn = program(key, _Shapes.of(x))
        except Exception:
            return init(key, x)
        return _without_order(drawn)

    return draw


def _with_order(params: PyTree) -> PyTree:
    """JAX sorts a dict by its keys, and leaves an OrderedDict in its order."""
    if not isinstance(params, dict):
        return params
    return OrderedDict({name: _with_order(inner) for name, inner in params.items()})


def _without_order(params: PyTree) -> PyTree:
    if not isinstance(params, dict):
        return params
    return {name: _without_order(inner) for name, inner in params.items()}
