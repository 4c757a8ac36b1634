"""What the arguments of this package are, in the words of its field.

>>> def loss(params: Params, x: Array, key: Key | None = None) -> Array: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.extend.core as jex
import jax.typing

Array: TypeAlias = jax.Array
# What JAX takes for an array: also NumPy's, and numbers.
ArrayLike: TypeAlias = jax.typing.ArrayLike
# A random key, of jax.random.key or jax.random.PRNGKey.
Key: TypeAlias = jax.Array
DType: TypeAlias = jax.typing.DTypeLike
Shape: TypeAlias = tuple[int, ...]
# Of the spatial axes: "SAME", "VALID", or a pair (before, after) for each.
Padding: TypeAlias = str | tuple[tuple[int, int], ...]
# An array, or the shape and dtype of one.
Shaped: TypeAlias = jax.Array | jax.ShapeDtypeStruct
# Nested containers (dict, list, tuple, registered classes) of arrays or what stands beside them.
PyTree: TypeAlias = Any
# The parameters of a model: a nested dict of arrays.
Params: TypeAlias = dict[str, Any]
# What a forward pass keeps for the backward pass: a tree of arrays.
Residuals: TypeAlias = Any
# What a step of training takes: a tree of arrays, JAX's or NumPy's.
Batch: TypeAlias = Any
# What a step of training returns, by name: scalars, or one for each update of the call.
Metrics: TypeAlias = Mapping[str, Any]
# loss(params, batch, key) -> scalar, or (scalar, metrics); with extra, where it asks for it.
Loss: TypeAlias = Callable[..., Any]
# A function of arrays, of any number and in any trees.
Function: TypeAlias = Callable[..., Any]
ClosedJaxpr: TypeAlias = jex.ClosedJaxpr
Jaxpr: TypeAlias = jex.Jaxpr
Equation: TypeAlias = jex.JaxprEqn
# What an equation reads: a variable or a literal.
Atom: TypeAlias = jex.Var | jex.Literal
# What an equation says of a value: shape, dtype and so on, none of which JAX's class declares.
Aval: TypeAlias = Any
Verdict = Literal["pass", "fail", "inconclusive", "skip", "note"]
Level = Literal["fast", "full", "release"]
# What a gradient is meant to be: the derivative, or that of another function, on purpose.
Intent = Literal["derivative", "surrogate"]
