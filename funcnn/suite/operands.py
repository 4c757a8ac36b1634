"""What stands behind a tracer: the numbers themselves outside of compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from funcnn.types import Aval

# Tracers that differentiate carry the number; those of vmap the numbers of all rows.
_DIFFERENTIATING = {"JVPTracer", "LinearizeTracer"}


class Behind(NamedTuple):
    """What stands behind an operand.

    Attributes:
        value: the numbers, rows of vmap included, or None where a program is being traced.
        axes: the axes of vmap, the inner one first; None where an operand has none.
        differentiated: whether a derivative by it is taken.
    """

    value: Any
    axes: tuple[int | None, ...]
    differentiated: bool

    def row(self, which: int) -> Any:
        """The operand of one row under every vmap: 0 the first, -1 the last."""
        return without_axes(self.value, self.axes, which)


def behind(x: Any) -> Behind:
    """Look behind the tracers of grad, jvp and vmap.

    >>> seen = []
    >>> _ = jax.vmap(jax.grad(lambda x: seen.append(behind(x)) or x * x))(jnp.arange(3.0))
    >>> seen[0].differentiated, float(seen[0].row(-1))
    (True, 2.0)
    """
    axes: list[int | None] = []
    differentiated = False
    while isinstance(x, Tracer):
        kind = type(x).__name__
        if kind in _DIFFERENTIATING:
            tangent: Any = getattr(x, "tangent")  # noqa: B009
            differentiated |= type(tangent).__name__ != "Zero"
            x = getattr(x, "primal")  # noqa: B009
        elif kind == "BatchTracer":
            axis = getattr(x, "batch_dim")  # noqa: B009
            axes.append(axis if isinstance(axis, int) else None)
            x = getattr(x, "val")  # noqa: B009
        else:
            return Behind(None, tuple(axes), differentiated)
    return Behind(x, tuple(axes), differentiated)


def without_axes(value: Any, axes: Sequence[int | None], which: int) -> Any:
    """One row of a value under vmap; the last axis of the list is the outermost.

    >>> int(without_axes(np.arange(6).reshape(2, 3), (0, 1), -1))
    5
    """
    for axis in reversed(axes):
        if axis is not None:
            value = _taken(value, which, axis)
    return value


def _taken(value: Any, which: int, axis: int) -> Any:
    if isinstance(value, jax.Array) and is_key(value):
        with jax.ensure_compile_time_eval():  # whatever is being traced around it
            return jax.lax.index_in_dim(value, which % value.shape[axis], axis, keepdims=False)
    return np.asarray(np.asarray(value).take(which, axis))


def kept(x: Any) -> Any:
    """A copy that stays, whatever becomes of the buffer; numbers of Python as they are.

    >>> kept(jnp.ones(2)), kept(3)
    (array([1., 1.], dtype=float32), 3)
    """
    if isinstance(x, np.ndarray):
        return np.array(x)
    if isinstance(x, jax.Array):
        return x if is_key(x) else np.array(x)
    return x


def is_array(x: Any) -> bool:
    """Whether JAX differentiates, or passes on, such a leaf as an array.

    >>> is_array(jnp.ones(2)), is_array(2.0), is_array("sum")
    (True, False, False)
    """
    return isinstance(x, (jax.Array, np.ndarray, np.generic))


def is_key(x: Any) -> bool:
    """Whether it is a typed key, or an array of them."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def size_of(sample: Sequence[Any]) -> float:
    """The largest finite magnitude among the floats of a sample.

    >>> size_of([np.array([1.0, -3.0, np.inf]), 7])
    3.0
    """
    largest = 0.0
    for x in sample:
        if is_array(x) and jnp.issubdtype(x.dtype, jnp.inexact) and x.size:
            magnitudes = np.abs(np.asarray(x).astype(np.complex128))
            largest = max(largest, float(np.max(magnitudes, initial=0, where=magnitudes < np.inf)))
    return largest


def discrete(sample: Sequence[Any]) -> list[bytes]:
    """The integers and masks of a sample: what may be told apart without a size.

    >>> discrete([np.array([1.0]), np.array([True]), 7])
    [b'\\x01']
    """
    arrays = [x for x in sample if is_array(x) and not is_key(x)]
    return [np.asarray(x).tobytes() for x in arrays if not jnp.issubdtype(x.dtype, jnp.inexact)]


def is_plain(sample: Sequence[Any]) -> bool:
    """Whether each of its floats is one number all over: zeros or ones show little.

    >>> is_plain([np.ones(3, np.float32)]), is_plain([np.arange(3.0)])
    (True, False)
    """
    floats = [np.asarray(x) for x in sample if is_array(x) and jnp.issubdtype(x.dtype, jnp.inexact)]
    return all(x.size == 0 or (x == x.flat[0]).all() for x in floats)


def drawn(aval: Aval, seen: Sequence[Any], seed: int) -> Any:
    """Numbers of a shape and dtype, in the range of those that were seen.

    >>> drawn(jax.typeof(jnp.ones(3)), [np.array([5.0, 6.0])], 0).min() >= 5
    np.True_
    >>> drawn(jax.typeof(jnp.ones(3, int)), [], 0)
    array([0, 0, 0], dtype=int32)
    """
    generator = np.random.default_rng(seed)
    shape, dtype = aval.shape, aval.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        keys = jax.random.split(jax.random.key(seed), int(np.prod(shape, dtype=int)))
        return keys.reshape(shape) if shape else keys[0]
    if jnp.issubdtype(dtype, jnp.bool_):
        return generator.random(shape) < 0.5
    low, high = _range(seen)
    if jnp.issubdtype(dtype, jnp.integer):
        return generator.integers(int(low or 0), int(high or 0) + 1, shape).astype(dtype)
    if low is None or high is None:
        numbers = generator.standard_normal(shape)
    else:
        numbers = generator.uniform(low, high, shape)
    return np.asarray(numbers).astype(dtype)


def _range(seen: Sequence[Any]) -> tuple[float | None, float | None]:
    """The smallest and the largest finite number."""
    arrays = [np.asarray(x).astype(np.float64).ravel() for x in seen if _is_ordered(x)]
    finite = [x[np.isfinite(x)] for x in arrays]
    numbers = np.concatenate([*finite, np.zeros(0)])
    return (float(numbers.min()), float(numbers.max())) if numbers.size else (None, None)


def _is_ordered(x: Any) -> bool:
    return is_array(x) and not is_key(x) and not jnp.issubdtype(x.dtype, jnp.complexfloating)
