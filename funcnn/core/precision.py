"""Numbers of half the width inside a model, of full width outside: `compute_in`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from funcnn.core.around import around
from funcnn.core.given import described
from funcnn.core.layer import Extras, Layer, Statistics, Step, as_layer
from funcnn.core.memory import Memory, Piece
from funcnn.core.parts import Paths, outputs_of
from funcnn.types import DType, Key, Params, PyTree, Residuals


def compute_in(layer: Layer, dtype: DType) -> Layer:
    """The same layer, which computes in `dtype`, bfloat16 say, and keeps everything else as it is.

    Its params and inputs are cast on the way in, its outputs back on the way out: params, their
    gradients, the statistics of batch norm and what a loss is given have the dtypes that they have
    without it. Where a rule adds up many numbers it does so in float32 in any case.

    Args:
        layer: a model or a layer of one.
        dtype: a floating point dtype.

    Raises:
        TypeError: dtype is none of floating point.

    >>> import funcnn as fnn
    >>> model = compute_in(fnn.dense(3), "bfloat16")
    >>> params = model.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> params["w"].dtype, model(params, jnp.ones((2, 4))).dtype
    (dtype('float32'), dtype('float32'))
    """
    try:
        narrow = jnp.dtype(object if dtype is None else dtype)  # None is NumPy's float64
    except TypeError:
        narrow = jnp.dtype(object)
    if not jnp.issubdtype(narrow, jnp.floating):
        raise TypeError(f"compute_in: dtype is one of floating point, found {described(dtype)}")
    of = _Narrow(as_layer(layer), narrow)
    narrowed = around(of, lambda layer: compute_in(layer, narrow))
    return dataclasses.replace(narrowed, memory=of.memory())


@dataclasses.dataclass(frozen=True)
class _Narrow:
    """Every way through a layer, with casts before and after it."""

    layer: Layer
    dtype: jnp.dtype

    def apply(self, params: Params, x: PyTree, key: Key | None) -> PyTree:
        y = self.layer.apply(*self.cast(params, x), key)
        return _cast(y, _outside(params, x))

    def outputs(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        y, inside = outputs_of(self.layer, *self.cast(params, x), key)
        return _cast(y, _outside(params, x)), inside

    def collect(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        y, taken = self.layer.value_and_statistics(*self.cast(params, x), key)
        return _cast(y, _outside(params, x)), taken

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        assert self.layer.forward is not None
        y, res = self.layer.forward(*self.cast(params, x), key)
        # Of the numbers outside only their dtypes are kept, in arrays of no element.
        return _cast(y, _outside(params, x)), (res, _no_elements(y), _no_elements(x))

    def recursion(self, params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        assert self.layer.recursion is not None
        inner, like_y, like_x = res
        dy = _cast_like(dy, like_y)
        dparams, dx, deltas = self.layer.recursion(_cast(params, self.dtype), inner, dy)
        return _cast_like(dparams, params), _cast_like(dx, like_x), deltas

    def flow(self, step: Step, params: PyTree, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        # A cache that goes beside the params has been started in here, in the narrow dtype.
        assert self.layer.flow is not None
        y, extras = self.layer.flow(step, *self.cast(params, x), key)
        return _cast(y, _outside(params, x)), extras

    def memory(self) -> Memory | None:
        inner = self.layer.memory
        if inner is None:
            return None

        def start(params: Params, x: PyTree, length: int) -> PyTree:
            return inner.start(*self.cast(params, x), length)

        def go_on(params: Params, x: PyTree, cache: PyTree, piece: Piece) -> tuple[PyTree, PyTree]:
            y, cache = inner.go_on(*self.cast(params, x), cache, piece)
            return _cast(y, _outside(params, x)), cache

        return Memory(start, go_on, inner.most)

    def cast(self, params: Params, x: PyTree) -> tuple[Params, PyTree]:
        return _cast(params, self.dtype), _cast(x, self.dtype)


def wide(dtype: DType) -> jnp.dtype:
    """The dtype in which many numbers of this one are added up: float32 at least.

    >>> wide("bfloat16"), wide("float64"), wide("int32")
    (dtype('float32'), dtype('float64'), dtype('float32'))
    """
    # Strict promotion has no dtype for bfloat16 and float32.
    floating = jnp.issubdtype(dtype, jnp.floating)
    return jnp.dtype(dtype) if floating and jnp.finfo(dtype).bits > 32 else jnp.dtype(jnp.float32)


def _is_floating(leaf: PyTree) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _cast(tree: PyTree, dtype: DType) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_floating(leaf) else leaf, tree)


def _cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree in the dtypes of another; where that has an integer, the cotangent is None."""
    if tree is None:
        return None
    return jax.tree.map(
        lambda leaf, other: leaf.astype(other.dtype) if _is_floating(other) else leaf,
        *(tree, like),
        is_leaf=lambda leaf: leaf is None,
    )


def _outside(params: Params, x: PyTree) -> jnp.dtype:
    """The dtype of the params, the widest of them, or of x where there are none."""
    of_params = [leaf.dtype for leaf in jax.tree.leaves(params) if _is_floating(leaf)]
    of_x = [leaf.dtype for leaf in jax.tree.leaves(x) if _is_floating(leaf)]
    return max(of_params or of_x, key=lambda dtype: jnp.finfo(dtype).bits, default=jnp.dtype("f4"))


def _no_elements(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.zeros((0,), leaf.dtype), tree)
