"""What a program costs: operations counted on its jaxpr, bytes and memory as the compiler says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from funcnn.gradient.program.jaxprs import (
    MOVES,
    closed,
    inner_program,
    live,
    scan_outputs_needed,
    subprograms,
)
from funcnn.types import Atom, Aval, ClosedJaxpr, Equation, Jaxpr

# The compiler's own or somebody's code: what it does is not in the jaxpr.
_UNSEEN = frozenset(
    (
        *("pallas_call", "ffi_call", "pure_callback", "io_callback", "eigh", "svd", "lu", "qr"),
        *("geqrf", "householder_product", "schur", "hessenberg", "tridiagonal", "custom_call"),
        *("xla_call_module", "eig", "lu_pivots_to_permutation"),
    )
)


@dataclasses.dataclass(frozen=True)
class Count:
    """Operations of a program.

    Attributes:
        flops: how many; a multiplication with an addition counts two.
        notes: what this does not hold, or holds once where it may run more often.
    """

    flops: float
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program.

    Attributes:
        bytes_accessed: by its own account, in which the body of a loop counts once.
        temporary_bytes: the peak memory beside arguments and results; NaN where it does not say.
    """

    bytes_accessed: float
    temporary_bytes: float


@dataclasses.dataclass(frozen=True)
class _Tally:
    """What an equation costs, for which platform, and what is not in the sum."""

    cost: Callable[[Equation], float]
    platform: str
    notes: dict[str, None]


def count_operations(program: Jaxpr | ClosedJaxpr, platform: str | None = None) -> Count:
    """The operations of a jaxpr, without what its results do not need.

    A product of matrices or a convolution counts two for each pair of numbers that meet (padding
    and holes do not), an elementwise operation one for each element of its result, a reduction one
    for each of its input, and moving numbers nothing. The body of a scan counts as often as it
    runs; of a cond on the platform the branch of this one counts, or of the one named, "cuda" say;
    of any other the dearest.

    >>> import jax.numpy as jnp
    >>> program = jax.make_jaxpr(lambda x, w: jnp.tanh(x @ w))(jnp.ones((2, 3)), jnp.ones((3, 4)))
    >>> count_operations(program)
    Count(flops=56.0, notes=())
    """
    return _counted(program, platform, _of_primitive)


def count_products(program: Jaxpr | ClosedJaxpr, platform: str | None = None) -> dict[str, float]:
    """Of these operations, those of matrix products and convolutions, by the dtype of the operands.

    Where the two differ, the wider counts. They are what the matrix units of a device do.

    >>> import jax.numpy as jnp
    >>> program = jax.make_jaxpr(lambda x, w: jnp.tanh(x @ w))(jnp.ones((2, 3)), jnp.ones((3, 4)))
    >>> count_products(program)
    {'float32': 48.0}
    """
    found: dict[str, None] = {}

    def note(eqn: Equation) -> float:
        if eqn.primitive.name in _PRODUCTS:
            found[_operands(eqn)] = None
        return 0.0

    def of(dtype: str) -> Callable[[Equation], float]:
        def cost(eqn: Equation) -> float:
            counts = eqn.primitive.name in _PRODUCTS and _operands(eqn) == dtype
            return _of_primitive(eqn) if counts else 0.0

        return cost

    _counted(program, platform, note)
    return {dtype: _counted(program, platform, of(dtype)).flops for dtype in found}


def _counted(
    program: Jaxpr | ClosedJaxpr, platform: str | None, cost: Callable[[Equation], float]
) -> Count:
    here = platform or jax.default_backend()
    tally = _Tally(cost, {"gpu": "cuda"}.get(here, here), {})
    jaxpr = closed(program).jaxpr
    flops = _count(jaxpr, [True] * len(jaxpr.outvars), tally)
    return Count(float(flops), tuple(tally.notes))


def _operands(eqn: Equation) -> str:
    avals: list[Aval] = [v.aval for v in eqn.invars[:2]]
    return str(max((aval.dtype for aval in avals), key=lambda dtype: dtype.itemsize))


def compiled_expense(compiled: jax.stages.Compiled) -> Compiled:
    """Bytes accessed and peak temporary memory of what `jax.jit(f).lower(...).compile()` returns.

    >>> compiled = jax.jit(lambda x: x + 1).lower(np.ones(4, np.float32)).compile()
    >>> compiled_expense(compiled).bytes_accessed
    32.0
    """
    analysis = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    temporary = math.nan if memory is None else float(memory.temp_size_in_bytes)
    return Compiled(float(analysis.get("bytes accessed", math.nan)), temporary)


def _count(jaxpr: Jaxpr, wanted: Sequence[bool], tally: _Tally) -> float:
    platforms = {
        eqn.outvars[0]: eqn.params["platforms"]
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "platform_index"
    }
    total = 0.0
    for eqn, outs in live(jaxpr, wanted)[0]:
        total += _of_equation(eqn, outs, platforms, tally)
    return total


def _of_equation(
    eqn: Equation, outs: list[bool], platforms: dict[Any, Any], tally: _Tally
) -> float:
    name = eqn.primitive.name
    inner = inner_program(eqn)
    if inner:
        return _count(inner[1].jaxpr, outs, tally)
    if name == "scan":
        body = closed(eqn.params["jaxpr"]).jaxpr
        return eqn.params["length"] * _count(body, scan_outputs_needed(eqn, outs), tally)
    if name == "cond":
        return _of_cond(eqn, outs, platforms, tally)
    if name in _UNSEEN:
        tally.notes[f"{name}: not counted"] = None
        return 0.0
    inside = list(subprograms(eqn))
    if name == "while":
        tally.notes["a while loop: counted once, its trip count is not known"] = None
    elif name.startswith("custom_") and "call_jaxpr" in eqn.params:
        inside = [closed(eqn.params["call_jaxpr"])]
    elif inside and name not in _COUNTED:
        tally.notes[f"{name}: what is inside is counted once"] = None
    if inside and name not in _COUNTED:
        return sum(_count(p.jaxpr, [True] * len(p.jaxpr.outvars), tally) for p in inside)
    return tally.cost(eqn)


def _of_cond(eqn: Equation, outs: list[bool], platforms: dict[Any, Any], tally: _Tally) -> float:
    costs = [_count(closed(b).jaxpr, outs, tally) for b in eqn.params["branches"]]
    chosen_by = eqn.invars[0]
    if isinstance(chosen_by, jex.Literal):
        return costs[int(chosen_by.val)]
    choices = platforms.get(chosen_by)
    if choices:
        for cost, names in zip(costs, choices, strict=True):
            if names is None or tally.platform in names:
                return cost
    elif len(set(costs)) > 1:
        tally.notes["a cond: its dearest branch is counted"] = None
    return max(costs)


def _of_primitive(eqn: Equation) -> float:
    name = eqn.primitive.name
    if name in MOVES:
        return 0.0
    counted = _COUNTED.get(name)
    if counted:
        return float(counted(eqn))
    if name.startswith(("reduce_", "arg", "cum")):
        return float(sum(_size(v) for v in eqn.invars))
    return float(_size(eqn.outvars[0])) if eqn.outvars else 0.0


def _size(v: Atom) -> int:
    return math.prod(getattr(v.aval, "shape", ()))


def _dot(eqn: Equation) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left: Aval = eqn.invars[0].aval
    return 2 * _size(eqn.outvars[0]) * math.prod(left.shape[i] for i in contracted)


def _convolution(eqn: Equation) -> int:
    """Two for each product; for each axis, the pairs of output and tap that meet a number."""
    avals: list[Aval] = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    p, (left, right, shape) = eqn.params, (a.shape for a in avals)
    lhs, rhs, out = (p["dimension_numbers"][i] for i in range(3))
    pairs = 1
    for i, (axis_in, axis_tap, axis_out) in enumerate(zip(lhs[2:], rhs[2:], out[2:], strict=True)):
        place = np.arange(shape[axis_out])[:, None] * p["window_strides"][i]
        tap = np.arange(right[axis_tap])[None, :] * p["rhs_dilation"][i]
        at = place + tap - p["padding"][i][0]
        hole = p["lhs_dilation"][i]
        pairs *= int(np.sum((at >= 0) & (at % hole == 0) & (at // hole < left[axis_in])))
    return 2 * pairs * shape[out[0]] * shape[out[1]] * right[rhs[1]]


def _window(eqn: Equation) -> int:
    return _size(eqn.outvars[0]) * math.prod(eqn.params["window_dimensions"])


def _sort(eqn: Equation) -> int:
    operand: Aval = eqn.invars[0].aval
    n = operand.shape[eqn.params.get("dimension", -1)]
    return _size(eqn.invars[0]) * max(1, math.ceil(math.log2(n))) if n else 0


def _triangular_solve(eqn: Equation) -> int:
    matrix: Aval = eqn.invars[0].aval
    return matrix.shape[-1] * _size(eqn.outvars[0])


_PRODUCTS = frozenset(("dot_general", "conv_general_dilated"))
_COUNTED = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "sort": _sort,
    "top_k": lambda eqn: _size(eqn.invars[0]),
    "cholesky": lambda eqn: _size(eqn.invars[0]) * eqn.invars[0].aval.shape[-1] // 3,
    "triangular_solve": _triangular_solve,
    "fft": lambda eqn: 5 * _size(eqn.outvars[0]) * max(1, _log2(eqn.params["fft_lengths"])),
    **dict.fromkeys(("reduce_and", "reduce_or"), lambda eqn: _size(eqn.invars[0])),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
    **dict.fromkeys(
        ("select_and_scatter_add", "select_and_gather_add"),
        lambda eqn: _size(eqn.invars[-1]) * math.prod(eqn.params["window_dimensions"]),
    ),
    **dict.fromkeys(
        ("scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter-max", "scatter-min"),
        lambda eqn: _size(eqn.invars[-1]),
    ),
    "scatter": lambda eqn: 0,
    "reduce": lambda eqn: sum(_size(v) for v in eqn.invars) // 2,
}


def _log2(lengths: Sequence[int]) -> int:
    return math.ceil(math.log2(max(2, math.prod(lengths))))
