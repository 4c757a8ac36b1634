"""The arguments that a gradient tool is given, as real arrays: each float among them is one.

A number of Python or NumPy is an array, and a complex array is its two parts: what would be left
out in silence would be called right in silence.
"""

from __future__ import annotations

import functools
import numbers
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import ArrayLike, Function, PyTree


class Parts(NamedTuple):
    """The parts of a complex array.

    >>> Parts(1.0, 2.0).imag
    2.0
    """

    real: ArrayLike
    imag: ArrayLike


def real_arrays(args: PyTree) -> PyTree:
    """The tree with float numbers as arrays and complex arrays as `Parts`; the rest as it is.

    Arrays of NumPy get the dtype in which JAX takes them: without x64 that of float64 is float32.

    >>> real_arrays((2.5, 3, np.ones(2)))
    (array(2.5, dtype=float32), 3, array([1., 1.], dtype=float32))
    >>> real_arrays(1j)
    Parts(real=array(0., dtype=float32), imag=array(1., dtype=float32))
    """
    return jax.tree.map(_real_array, args)


def _real_array(leaf: Any) -> Any:
    if isinstance(leaf, (float, np.floating)) or _is_complex_number(leaf):
        kind = complex if _is_complex_number(leaf) else float
        dtype = leaf.dtype if isinstance(leaf, np.generic) else jnp.result_type(kind)
        leaf = np.asarray(leaf, jax.dtypes.canonicalize_dtype(dtype))
    if isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact):
        leaf = np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
    if isinstance(leaf, (jax.Array, np.ndarray)) and jnp.issubdtype(
        leaf.dtype, jnp.complexfloating
    ):
        leaf = np.asarray(leaf)
        return Parts(np.array(leaf.real), np.array(leaf.imag))
    return leaf


def _is_complex_number(leaf: object) -> bool:
    return isinstance(leaf, (complex, np.complexfloating)) and isinstance(leaf, numbers.Number)


def of_real_arrays(f: Function) -> Function:
    """`f` of a tree of `real_arrays`, with complex results as their parts, too.

    >>> of_real_arrays(jnp.conj)(Parts(jnp.float32(1), jnp.float32(2)))
    Parts(real=Array(1., dtype=float32), imag=Array(-2., dtype=float32))
    """

    @functools.wraps(f)
    def run(*args: PyTree, **keywords: PyTree) -> PyTree:
        joined = jax.tree.map(_joined, args, is_leaf=_is_parts)
        return jax.tree.map(_parted, f(*joined, **keywords))

    return run


def _is_parts(x: object) -> TypeGuard[Parts]:
    return isinstance(x, Parts)


def _joined(x: object) -> object:
    return jax.lax.complex(x.real, x.imag) if _is_parts(x) else x


def _parted(y: ArrayLike) -> ArrayLike | Parts:
    if not jnp.issubdtype(jnp.result_type(y), jnp.complexfloating):
        return y
    return Parts(jnp.real(y), jnp.imag(y))
