"""Float64 truth: the automatic gradient of a program without rules, raised to float64.

Truth is the stripped program at the exactly upcast inputs. A program that names a dtype would stay
in it, so its jaxpr is evaluated with every floating-point number in float64 instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

# Calls that only wrap a program: evaluating what is inside is the same program.
_INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
}
_INLINED |= {"checkpoint": "jaxpr", "remat": "jaxpr", "pjit": "jaxpr"}
# These read or make the bits of a number, so they run in the dtype that they were written for.
_BITWISE = frozenset({"bitcast_convert_type", "nextafter"})


class NoTruth(Exception):
    """The program cannot be raised to float64; the message says at which primitive."""


def is_float(x: Any) -> bool:
    """Whether an array, or a shape with a dtype, is real floating point.

    >>> is_float(np.float32(1)), is_float(np.int32(1))
    (True, False)
    """
    return jnp.issubdtype(x.dtype, jnp.floating)


def raised(x: Any) -> Any:
    """An array in float64 if it is floating point; the upcast is exact. Needs x64 to be enabled.

    >>> with jax.enable_x64(True):
    ...     raised(np.float32(0.5)).dtype
    dtype('float64')
    """
    return jnp.asarray(x, jnp.float64) if is_float(x) else x


def evaluate_raised(closed: Any, leaves: Sequence[Any]) -> list[Any]:
    """The outputs of a closed jaxpr with float64 in place of every other floating-point dtype.

    Args:
        closed: a closed jaxpr, traced in any precision.
        leaves: its inputs, floating-point ones in float64. Needs x64 to be enabled.

    Raises:
        NoTruth: a primitive does not run in float64.

    >>> closed = jax.make_jaxpr(lambda x: x.astype(jnp.bfloat16) / 3)(np.float32(1))
    >>> with jax.enable_x64(True):
    ...     y, = evaluate_raised(closed, [raised(np.float32(1))])
    >>> float(y)
    0.3333333333333333
    """
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        if not isinstance(atom, jex.Literal):
            return values[atom]
        # A python number would be weakly typed, and adopt the dtype of its neighbour.
        aval: Any = atom.aval
        return raised(np.asarray(atom.val, aval.dtype)) if is_float(aval) else atom.val

    values.update(zip(jaxpr.constvars, map(_raise_constant, closed.consts), strict=True))
    values.update(zip(jaxpr.invars, leaves, strict=True))
    for eqn in jaxpr.eqns:
        try:
            outs = _evaluate(eqn, [read(v) for v in eqn.invars])
        except NoTruth:
            raise
        except Exception as error:
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NoTruth(f"{eqn.primitive.name} does not run in float64: {first_line}") from error
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _raise_constant(x: Any) -> Any:
    return raised(x) if hasattr(x, "dtype") else x


def _evaluate(eqn: Any, invals: list[Any]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in _INLINED and _INLINED[name] in params:
        return evaluate_raised(_close(params[_INLINED[name]]), invals)
    if name.startswith("custom_"):
        raise NoTruth(f"{name}: a hand-written rule that could not be taken out")
    if name == "reduce_precision":
        return invals
    if name in _BITWISE:
        invals = [
            jnp.asarray(x, v.aval.dtype) if is_float(x) else x
            for x, v in zip(invals, eqn.invars, strict=True)
        ]
        return [raised(y) for y in _bind(eqn.primitive, invals, params)]
    return _bind(eqn.primitive, invals, {k: _raise_parameter(v) for k, v in params.items()})


def _bind(primitive: Any, invals: list[Any], params: dict[str, Any]) -> list[Any]:
    outs = primitive.bind(*invals, **params)
    return list(outs) if primitive.multiple_results else [outs]


def _close(jaxpr: Any) -> Any:
    return jaxpr if hasattr(jaxpr, "consts") else jex.ClosedJaxpr(jaxpr, ())


def _raise_parameter(value: Any) -> Any:
    """A parameter of a primitive: dtypes become float64, jaxprs are traced again in float64."""
    if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
        closed = _close(value)
        shapes = [_raise_aval(a) for a in closed.in_avals]
        again = jax.make_jaxpr(lambda *leaves: evaluate_raised(closed, leaves))(*shapes)
        return again if hasattr(value, "consts") else again.jaxpr
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(_raise_parameter, value))
    if isinstance(value, np.dtype) and jnp.issubdtype(value, jnp.floating):
        return np.dtype(np.float64)
    return value


def _raise_aval(aval: Any) -> Any:
    dtype = np.dtype(np.float64) if is_float(aval) else aval.dtype
    return jax.ShapeDtypeStruct(aval.shape, dtype)


def raise_function(program: Any) -> Callable[[list[Any]], list[Any]]:
    """The program as a function of its flat leaves in float64.

    >>> from funcnn.gradient.without_rules import trace
    >>> program = trace(lambda x: x * x, (np.float32(3) * np.ones(2, np.float32),), {})
    >>> with jax.enable_x64(True):
    ...     raise_function(program)([raised(x) for x in program.leaves])
    [Array([9., 9.], dtype=float64)]
    """
    return lambda leaves: evaluate_raised(program.jaxpr, leaves)


def perturbed(leaves: Sequence[Any], unit_roundoff: float, seed: int) -> list[Any]:
    """The leaves with each floating-point element multiplied by 1 + u or 1 - u, by a coin.

    What it changes in the truth is the noise floor: no program in that precision can do better.

    >>> [float(x) for x in perturbed([np.float64(1)], 0.25, seed=0)]
    [1.25]
    """
    random = np.random.default_rng(seed)
    out = []
    for leaf in leaves:
        if is_float(leaf):
            sign = random.integers(0, 2, leaf.shape) * 2.0 - 1.0
            leaf = np.asarray(leaf, np.float64) * (1.0 + unit_roundoff * sign)
        out.append(leaf)
    return out
