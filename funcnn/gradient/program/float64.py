"""Float64 truth: the automatic gradient of a program without rules, raised to float64.

Truth is the stripped program at the exactly upcast inputs. A program that names a dtype would stay
in it, so its jaxpr is evaluated with every floating-point number in float64 instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.program.evaluation import Evaluation, where
from funcnn.gradient.program.forward_mode import by_forward_mode, is_by_forward_mode
from funcnn.gradient.program.jaxprs import MOVES, bind, inner_program, subprograms
from funcnn.gradient.program.sites import site_of, wrapped
from funcnn.gradient.program.without_rules import Program
from funcnn.types import Array, ArrayLike, Aval, ClosedJaxpr, DType, Equation, Shaped

# These read or make the bits of a number, so they run in the dtype that they were written for.
_BITWISE = frozenset({"bitcast_convert_type", "nextafter"})
# One of their operands, or its sign changed: nothing is rounded, and what is equal stays equal.
_EXACT = frozenset(
    (
        *("max", "min", "reduce_max", "reduce_min", "cummax", "cummin", "sort", "top_k", "clamp"),
        *("select_n", "abs", "neg", "sign", "floor", "ceil", "round", "reduce_window_max"),
        *("reduce_window_min", "select_and_gather_add", "scatter", "sort_key_val", "argmax"),
    )
)
# Somebody's code outside of JAX, written for the dtypes that it was given.
_HOST = frozenset({"pure_callback", "io_callback", "ffi_call", "xla_call_module"})


class NoTruth(Exception):
    """The program cannot be raised to float64; the message says at which primitive."""


def is_float(x: Shaped | np.ndarray | Aval) -> bool:
    """Whether an array, or a shape with a dtype, is real floating point.

    >>> is_float(np.float32(1)), is_float(np.int32(1))
    (True, False)
    """
    return jnp.issubdtype(x.dtype, jnp.floating)


def raised(x: Array | np.ndarray | np.number) -> Array | np.ndarray | np.number:
    """An array in float64, or complex128, if it is inexact; exact. Needs x64 to be enabled.

    >>> with jax.enable_x64(True):
    ...     raised(np.float32(0.5)).dtype
    dtype('float64')
    """
    return jnp.asarray(x, _high(x.dtype)) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _high(dtype: DType) -> DType:
    """The dtype in which truth is computed in the place of another."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def evaluate_raised(closed: ClosedJaxpr, leaves: Sequence[Any]) -> list[Any]:
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
    return _Raised()(closed, leaves)


class _Raised(Evaluation):
    """Every floating-point number in float64."""

    def literal(self, atom: jex.Literal) -> ArrayLike:
        aval: Aval = atom.aval
        # A python number would be weakly typed, and adopt the dtype of its neighbour.
        inexact = jnp.issubdtype(aval.dtype, jnp.inexact)
        return raised(np.asarray(atom.val, aval.dtype)) if inexact else atom.val

    def constant(self, x: Array | np.ndarray) -> ArrayLike:
        return raised(x) if hasattr(x, "dtype") else x

    def shape(self, aval: Aval) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(aval.shape, _high(aval.dtype), **where(aval))

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        try:
            return self._raised(eqn, x)
        except NoTruth:
            raise
        except Exception as error:
            reason = f"{eqn.primitive.name} does not run in float64: {first_line(error)}"
            raise NoTruth(reason) from error

    def _raised(self, eqn: Equation, x: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        inner = inner_program(eqn)
        if inner:
            return self(inner[1], x)
        if site_of(eqn) is not None:
            return self._rule(eqn, x)
        if name == "reduce_precision":
            return x
        if name in _HOST and any(is_float(v.aval) for v in eqn.outvars):
            raise NoTruth(f"{name}: code outside of JAX, which computes in its own dtypes")
        if name in _BITWISE:
            avals: list[Aval] = [v.aval for v in eqn.invars]
            pairs = zip(x, avals, strict=True)
            x = [jnp.asarray(v, a.dtype) if is_float(v) else v for v, a in pairs]
            return [raised(y) for y in bind(eqn, x)]
        return super().equation(eqn, x)

    def _rule(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """A loop whose reverse mode was made of its forward mode is made once more."""
        inner = wrapped(eqn)
        if not is_by_forward_mode(inner):
            name = eqn.primitive.name
            raise NoTruth(f"{name}: a hand-written rule that could not be taken out")
        return by_forward_mode(lambda *x: self(inner, x))(*x)

    def parameter(self, value: Any) -> Any:
        if isinstance(value, np.dtype):
            return _high(value)
        return super().parameter(value)


class _Shaken(_Raised):
    """The same with a rounding error upon every number that is computed.

    What cancels, and what is added up in which order, decides what is left of the digits; a change
    of the arguments shows it only where the arguments cancel.
    """

    def __init__(self, unit_roundoff: float, seed: int):
        self.unit, self.random = unit_roundoff, np.random.default_rng(seed)

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        name, terms = eqn.primitive.name, _terms(eqn)
        if terms > 1:  # each term is rounded, and so is the sum after each of them
            x = [self._shaken(v) if _rounds(v) else v for v in x]
        outs = super().equation(eqn, x)
        if name in MOVES or name in _EXACT or any(True for _ in subprograms(eqn)):
            return outs
        return [self._shaken(y, math.sqrt(terms)) if _rounds(y) else y for y in outs]

    def _shaken(self, y: Array, times: float = 1.0) -> Array:
        signs = self.random.integers(0, 2, jnp.shape(y)) * 2.0 - 1.0
        sizes = self.random.uniform(0.5, 1.5, jnp.shape(y))  # equal ones may cancel each other
        return y * (1.0 + times * self.unit * signs * sizes)


def _rounds(y: Any) -> bool:
    return hasattr(y, "dtype") and is_float(y)


def _terms(eqn: Equation) -> int:
    """How many numbers an equation adds up into one of its results."""
    if not eqn.invars:
        return 1
    first: Aval = eqn.invars[0].aval
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return math.prod(first.shape[axis] for axis in params["dimension_numbers"][0][0])
    if name == "reduce_sum":
        return math.prod(first.shape[axis] for axis in params["axes"])
    if name in {"cumsum", "cumlogsumexp"}:
        return first.shape[params["axis"]]
    if name == "conv_general_dilated":
        window: Aval = eqn.invars[1].aval
        out_features = window.shape[params["dimension_numbers"].rhs_spec[0]]
        return math.prod(window.shape) // max(out_features, 1)
    if name in {"reduce_window_sum", "scatter-add"}:
        return math.prod(params.get("window_dimensions", (2,)))
    return 1


def evaluate_shaken(
    closed: ClosedJaxpr, leaves: Sequence[Any], unit: float, seed: int
) -> list[Any]:
    """As `evaluate_raised`, with a relative error of `unit` upon every number on the way.

    >>> program = jax.make_jaxpr(lambda x: (x + 1.0) - 1.0)(np.float32(1e-16))
    >>> with jax.enable_x64(True):
    ...     y, = evaluate_shaken(program, [np.float64(1e-16)], 2.0**-52, seed=0)
    >>> bool(abs(np.asarray(y)) > 1e-17)
    True
    """
    return _Shaken(unit, seed)(closed, leaves)


def raise_function(program: Program) -> Callable[[list[Any]], list[Any]]:
    """The program as a function of its flat leaves in float64.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> program = trace(lambda x: x * x, (np.float32(3) * np.ones(2, np.float32),), {})
    >>> with jax.enable_x64(True):
    ...     raise_function(program)([raised(x) for x in program.leaves])
    [Array([9., 9.], dtype=float64)]
    """
    return lambda leaves: evaluate_raised(program.jaxpr, leaves)


def perturbed(leaves: Sequence[Any], unit_roundoff: float, seed: int) -> list[Any]:
    """The leaves with each floating-point element multiplied by 1 + u or 1 - u, by a coin.

    What it changes in the truth is the noise floor: no program in that precision can do better. u
    is up to an eighth smaller, by chance: two that cancel exactly would leave a tie a tie.

    >>> [round(float(x), 1) for x in perturbed([np.float64(10)], 0.1, seed=0)]
    [11.0]
    """
    random = np.random.default_rng(seed)
    out = []
    for leaf in leaves:
        if is_float(leaf):
            sign = random.integers(0, 2, leaf.shape) * 2.0 - 1.0
            by = sign * (1.0 - random.random(leaf.shape) / 8)
            leaf = np.asarray(leaf, np.float64) * (1.0 + unit_roundoff * by)
        out.append(leaf)
    return out
