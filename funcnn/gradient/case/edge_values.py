"""Arguments at the ends of what a function may be given: values, and sizes 0 and 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import is_array_of_floats
from funcnn.types import Array, DType

NOT_FINITE = ("a NaN", "an inf", "a -inf")
_SIZES = 8  # variants of one case; each is compiled


def extreme_values(x: np.ndarray, dtype: DType, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of what may stand in the place of a leaf, in float64.

    Args:
        x: the leaf; offsets and single infinities are put upon it.
        dtype: the precision in which they will be used: what is subnormal depends on it.
        seed: of the signs and places.

    >>> [name for name, _ in extreme_values(np.ones(2), "float64")][:4]
    ['zeros', 'tiny', 'subnormal', '+-30']
    """
    subnormal = 0.1 * float(jnp.finfo(dtype).smallest_normal)
    for name, value in _values(np.asarray(x, np.float64), subnormal, seed):
        yield name, np.asarray(value)  # of rank 0, NumPy makes numbers of arrays


def _values(x: np.ndarray, subnormal: float, seed: int) -> Iterator[tuple[str, Any]]:
    random = np.random.default_rng([seed, 10])
    signs = random.choice([-1.0, 1.0], x.shape)
    place = random.integers(x.size)

    def alone(background: np.ndarray, value: float) -> np.ndarray:
        out = background.copy()
        out.flat[place] = value
        return out

    yield "zeros", np.zeros_like(x)
    yield "tiny", 1e-30 * signs
    yield "subnormal", subnormal * signs
    for size in (30, 100, 10_000):  # beyond 88 and 710 exp overflows, in float32 and in float64
        yield f"+-{size}", size * signs * random.uniform(0.9, 1.1, x.shape)
    yield "all equal", np.full_like(x, 0.75)
    yield "all -100", np.full_like(x, -100.0)
    yield "one-hot", alone(np.zeros_like(x), 1.0)
    yield "large offset", x + 1e5
    for name, value in zip(NOT_FINITE, (np.nan, np.inf, -np.inf), strict=True):
        yield name, alone(x, value)


def smaller_sizes(situation: Situation) -> Iterator[tuple[str, Situation]]:
    """The situation with the axes of one size cut to 1 and to 0: axes of equal size go together.

    Integers that were below the old size stay below the new one. At most 8 variants.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> case = Case("one", (np.ones((5, 3)), np.ones((3, 2))))
    >>> for name, other in smaller_sizes(Situation.of_rule(rules.linear, case)):
    ...     print(name, [a.shape for a in other.args[:2]])
    size 5 to 1 [(1, 3), (3, 2)]
    size 5 to 0 [(0, 3), (3, 2)]
    size 3 to 1 [(5, 1), (1, 2)]
    size 3 to 0 [(5, 0), (0, 2)]
    size 2 to 1 [(5, 3), (3, 1)]
    size 2 to 0 [(5, 3), (3, 0)]
    """
    leaves = [leaf for leaf in jax.tree.leaves(situation.args) if _has_axes(leaf)]
    sizes = dict.fromkeys(n for leaf in leaves for n in leaf.shape if n > 1)
    variants = [(old, new) for old in sizes for new in (1, 0)][:_SIZES]
    for old, new in variants:
        args = jax.tree.map(lambda leaf, old=old, new=new: _cut(leaf, old, new), situation.args)
        yield f"size {old} to {new}", dataclasses.replace(situation, args=args)


def _has_axes(leaf: object) -> TypeGuard[Array | np.ndarray]:
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return False
    return is_array_of_floats(leaf) or np.dtype("bool") == leaf.dtype or _is_integer(leaf)


def _is_integer(leaf: Array | np.ndarray) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.integer))


def _cut(leaf: object, old: int, new: int) -> object:
    if not _has_axes(leaf):
        return leaf
    # NumPy's: JAX's own slices would each be compiled.
    out = np.asarray(leaf)[(..., *(slice(new if n == old else n) for n in leaf.shape))]
    is_index = _is_integer(leaf) and leaf.size and 0 <= np.min(leaf) <= np.max(leaf) < old
    return np.minimum(out, max(new - 1, 0)).astype(out.dtype) if is_index else out
