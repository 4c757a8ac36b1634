"""The numbers in a program: where it decides by one of them, something may change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.program.jaxprs import closed, subprograms
from funcnn.types import ClosedJaxpr, Equation

_MOST = 24
_DECIDES = frozenset(
    ("lt", "le", "gt", "ge", "eq", "ne", "max", "min", "clamp", "select_n", "sign", "rem")
)


def constants_of(*programs: ClosedJaxpr) -> tuple[float, ...]:
    """The finite numbers but 0 that stand in programs, those that are compared with first.

    >>> import jax, jax.numpy as jnp
    >>> constants_of(jax.make_jaxpr(lambda x: jnp.where(2.5 * x > 6.0, x, 0.0))(1.0))
    (6.0, 2.5)
    """
    found: dict[float, int] = {}
    for program in programs:
        for value, decides in _numbers(program):
            value = float(value)
            if np.isfinite(value) and value:
                found[value] = max(found.get(value, 0), decides)
    ordinary = {1.0, -1.0}
    ordered = sorted(found, key=lambda v: (-found[v], v in ordinary))
    return tuple(ordered[:_MOST])


def _numbers(program: ClosedJaxpr) -> Iterator[tuple[Any, int]]:
    for value in program.consts:
        yield from ((v, 1) for v in _few(value))
    for eqn in program.eqns:
        decides = 2 if eqn.primitive.name in _DECIDES else 0
        for atom in eqn.invars:
            if isinstance(atom, jex.Literal):
                yield from ((v, decides) for v in _few(atom.val))
        yield from _inside(eqn)


def _inside(eqn: Equation) -> Iterator[tuple[Any, int]]:
    for inner in subprograms(eqn):
        yield from _numbers(closed(inner))
    # A comparison with a number that is handed to it.
    if eqn.primitive.name in {"jit", "pjit"} and any(
        inside.primitive.name in _DECIDES for inner in subprograms(eqn) for inside in inner.eqns
    ):
        for atom in eqn.invars:
            if isinstance(atom, jex.Literal):
                yield from ((v, 2) for v in _few(atom.val))


def _few(value: Any) -> list[Any]:
    """The numbers of a small array of real ones."""
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return []  # keys
    array = np.asarray(value) if hasattr(value, "dtype") or np.isscalar(value) else np.zeros(0)
    if array.dtype.kind not in "fiu" or array.size > 16:
        return []
    return list(np.ravel(array))
