"""The operations of a program one after another, each by the name and place that a user knows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax.extend.core as jex
import numpy as np

from funcnn.gradient.mutation.mutants import source_of
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import inside_call
from funcnn.types import Atom, ClosedJaxpr, Jaxpr

_KNOWN_AS = {"select_n": "where", "dot_general": "matmul", "integer_pow": "power"}
_KNOWN_AS |= {"logistic": "sigmoid", "conv_general_dilated": "conv", "add_any": "add"}


def operations(jaxpr: ClosedJaxpr | Jaxpr, around: str = "") -> Iterator[tuple[Any, str]]:
    """Every operation and its source; a function that JAX has traced before has none of its own.

    >>> import jax, jax.numpy as jnp
    >>> [eqn.primitive.name for eqn, _ in operations(jax.make_jaxpr(jnp.tanh)(1.0).jaxpr)]
    ['tanh']
    """
    for eqn in jaxpr.eqns:
        inner = inside_call(eqn)
        source = source_of(eqn) or around
        if inner is None:
            yield eqn, source
        else:
            yield from operations(inner.jaxpr, source)


def named(closed: ClosedJaxpr) -> list[str]:
    """The name and place of every operation, with its number where a line has several.

    >>> import jax, jax.numpy as jnp
    >>> [n.split(" (")[0] for n in named(jax.make_jaxpr(lambda x: x @ x)(jnp.eye(2)))]
    ['matmul']
    """
    names = []
    for eqn, source in operations(closed.jaxpr):
        name = _KNOWN_AS.get(eqn.primitive.name, eqn.primitive.name.removeprefix("reduce_"))
        names.append((name, f" ({os.path.basename(source)})" if source else ""))
    count, seen = Counter(names), Counter[tuple[str, str]]()
    named = []
    for name, where in names:
        seen[name, where] += 1
        number = f" #{seen[name, where]}" if count[name, where] > 1 else ""
        named.append(f"{name}{number}{where}")
    return named


def constants_of(closed: ClosedJaxpr) -> list[tuple[float, str]]:
    """The numbers by which a program multiplies, and what it means to leave one out.

    >>> import jax
    >>> constants_of(jax.make_jaxpr(lambda x: x / 4)(1.0))[0][0]
    0.25
    """
    constants = []
    for (eqn, _), name in zip(operations(closed.jaxpr), named(closed), strict=True):
        numbers = [float(v.val) for v in eqn.invars if _is_number(v)]
        if eqn.primitive.name == "mul":
            constants += [(v, f"not multiplied by {v:.6g} in {name}") for v in numbers]
        elif eqn.primitive.name == "div" and _is_number(eqn.invars[1]):
            constants += [(1 / v, f"not divided by {v:.6g} in {name}") for v in numbers if v]
        elif eqn.primitive.name == "integer_pow":
            constants.append((float(eqn.params["y"]), f"without the exponent of {name}"))
    return constants


def _is_number(v: Atom) -> bool:
    return isinstance(v, jex.Literal) and np.ndim(v.val) == 0 and is_float(v.aval)
