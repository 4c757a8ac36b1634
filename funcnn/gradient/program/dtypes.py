"""The floating-point dtypes that a program computes in."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import subprograms
from funcnn.types import Aval, ClosedJaxpr, Jaxpr


def pinned_dtypes(closed: Jaxpr | ClosedJaxpr) -> set[str]:
    """The floating-point dtypes below float64 that a program, traced in float64, still computes in.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     pinned_dtypes(jax.make_jaxpr(lambda x: x.astype("float32"))(1.0))
    {'float32'}
    """
    low: set[str] = set()
    for eqn in closed.eqns:
        avals: list[Aval] = [v.aval for v in eqn.outvars]
        low |= {str(a.dtype) for a in avals if _is_low(a)}
        for inside in subprograms(eqn):
            low |= pinned_dtypes(inside)
    return low


def _is_low(aval: Aval) -> bool:
    return hasattr(aval, "dtype") and is_float(aval) and aval.dtype != jnp.float64
