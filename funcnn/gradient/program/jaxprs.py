"""Pieces of a jaxpr: run some equations alone, look inside calls and loops, leave out dead ones.

With sites.py this is the only place that depends on what a jaxpr looks like inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.types import ArrayLike, Atom, Aval, ClosedJaxpr, Equation, Jaxpr

# The parameter that holds the program of an equation which only wraps one, and of one with a rule.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
CALLS |= {"remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
CALLS_WITH_RULES = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}

# These move or rename numbers, or are resolved when the program is compiled.
MOVES = frozenset(
    (
        *("bitcast_convert_type", "broadcast", "broadcast_in_dim", "concatenate"),
        *("convert_element_type", "copy", "copy_p", "device_put", "dynamic_slice"),
        *("dynamic_update_slice", "expand_dims", "gather", "iota", "layout_constraint"),
        *("optimization_barrier", "pad", "platform_index", "pvary", "random_unwrap"),
        *("random_wrap", "real", "imag", "reshape", "rev", "sharding_constraint", "slice"),
        *("split", "squeeze", "stop_gradient", "transpose", "create_token", "name", "axis_index"),
        *("pcast", "reduce_precision"),
    )
)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some equations as a function: `run(*values of invars) -> values of outvars`."""

    invars: tuple[Atom, ...]
    outvars: tuple[jex.Var, ...]
    run: Callable[..., list[Any]]


def cut(jaxpr: Jaxpr, start: int, stop: int, last: dict[jex.Var, int]) -> Piece:
    """The equations from start to before stop; it returns what the rest of the jaxpr reads.

    Args:
        jaxpr: an open jaxpr.
        start, stop: which of its equations.
        last: `last_reads(jaxpr)`.

    >>> jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(1.0).jaxpr
    >>> cut(jaxpr, 0, 1, last_reads(jaxpr)).run(0.0)
    [Array(0., dtype=float32, weak_type=True)]
    """
    eqns = jaxpr.eqns[start:stop]
    defined = [v for eqn in eqns for v in eqn.outvars if not isinstance(v, jex.DropVar)]
    read = dict.fromkeys(v for e in eqns for v in e.invars if not isinstance(v, jex.Literal))
    inside = set(defined)
    invars = tuple(v for v in read if v not in inside)
    outvars = tuple(v for v in defined if last.get(v, -1) >= stop)
    effects = frozenset().union(*(eqn.effects for eqn in eqns))
    part = jex.Jaxpr((), invars, outvars, eqns, effects, jaxpr.debug_info)
    return Piece(invars, outvars, jex.jaxpr_as_fun(jex.ClosedJaxpr(part, ())))


def last_reads(jaxpr: Jaxpr) -> dict[jex.Var, int]:
    """The index of the last equation that reads each variable; len(eqns) for a result.

    >>> jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(1.0).jaxpr
    >>> sorted(last_reads(jaxpr).values())
    [0, 1, 2]
    """
    last: dict[jex.Var, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last |= {v: i for v in eqn.invars if not isinstance(v, jex.Literal)}
    return last | {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, jex.Literal)}


def inner_program(eqn: Equation) -> tuple[str, ClosedJaxpr] | None:
    """The parameter's name and the closed jaxpr that a call wraps; None for any other equation.

    >>> eqn = jax.make_jaxpr(jax.jit(jnp.sin))(1.0).eqns[0]
    >>> name, closed = inner_program(eqn)
    >>> name, closed.eqns[0].primitive.name
    ('jaxpr', 'sin')
    """
    name = CALLS.get(eqn.primitive.name)
    return (name, closed(eqn.params[name])) if name and name in eqn.params else None


def closed(jaxpr: Any) -> ClosedJaxpr:
    """A jaxpr, open or closed, as a closed one.

    >>> closed(jax.make_jaxpr(jnp.sin)(1.0).jaxpr).in_avals
    [ShapedArray(float32[], weak_type=True)]
    """
    return jaxpr if hasattr(jaxpr, "consts") else jex.ClosedJaxpr(jaxpr, ())


def scan_layout(eqn: Equation) -> tuple[int, int]:
    """How many of the operands of a scan are constants, and how many are carried.

    Read from the ranks, since the parameters that say so have changed between versions of JAX:
    what is scanned over has one axis more outside than inside.

    >>> f = lambda w, x, xs: jax.lax.scan(lambda x, y: (x * w, y), x, xs)
    >>> scan_layout(jax.make_jaxpr(f)(1.0, 2.0, jnp.ones(3)).eqns[0])
    (1, 1)
    """
    inside = closed(eqn.params["jaxpr"])
    ins: list[Aval] = [v.aval for v in eqn.invars]
    outs: list[Aval] = [v.aval for v in eqn.outvars]
    scanned = sum(len(v.shape) != len(a.shape) for v, a in zip(ins, inside.in_avals, strict=True))
    carried = sum(len(v.shape) == len(a.shape) for v, a in zip(outs, inside.out_avals, strict=True))
    return len(eqn.invars) - carried - scanned, carried


def read_all(values: dict[Any, Any], atoms: Iterable[Atom]) -> list[Any]:
    """The values of variables and literals.

    >>> read_all({}, [])
    []
    """
    return [a.val if isinstance(a, jex.Literal) else values[a] for a in atoms]


def filled(leaves: Sequence[Any], places: Iterable[int], values: Iterable[Any]) -> list[Any]:
    """The leaves with others in some places.

    >>> filled([1, 2, 3], [0, 2], [7, 9])
    [7, 2, 9]
    """
    out = list(leaves)
    for i, value in zip(places, values, strict=True):
        out[i] = value
    return out


def strong(x: ArrayLike) -> ArrayLike:
    """x without a weak type, as the carry of a loop must be.

    >>> strong(1.0)
    Array(1., dtype=float32)
    """
    aval = jax.typeof(x)
    if jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return x
    return jax.lax.convert_element_type(x, aval.dtype)


def live(
    jaxpr: Jaxpr, wanted: Sequence[bool]
) -> tuple[list[tuple[Equation, list[bool]]], list[bool]]:
    """The equations that the wanted outputs need, each with which of its outputs are needed.

    Also which of the inputs are read. Calls, scans and conds are looked into.

    >>> jaxpr = jax.make_jaxpr(lambda x, y: (jnp.sin(x), jnp.cos(y)))(1.0, 2.0).jaxpr
    >>> equations, inputs = live(jaxpr, [False, True])
    >>> [eqn.primitive.name for eqn, _ in equations], inputs
    (['cos'], [False, True])
    """
    needed = {
        v
        for v, want in zip(jaxpr.outvars, wanted, strict=True)
        if want and not isinstance(v, jex.Literal)
    }
    kept = []
    for eqn in reversed(jaxpr.eqns):
        outs = [v in needed for v in eqn.outvars]
        if any(outs) or eqn.effects:
            kept.append((eqn, outs))
            used = _operands_read(eqn, outs)
            needed |= {
                v
                for v, read in zip(eqn.invars, used, strict=True)
                if read and not isinstance(v, jex.Literal)
            }
    return kept[::-1], [v in needed for v in jaxpr.invars]


def _operands_read(eqn: Equation, outs: list[bool]) -> list[bool]:
    inner = inner_program(eqn)
    if inner:
        return live(inner[1].jaxpr, outs)[1]
    if eqn.primitive.name == "scan":
        return live(closed(eqn.params["jaxpr"]).jaxpr, scan_outputs_needed(eqn, outs))[1]
    if eqn.primitive.name == "cond":
        read = [live(closed(b).jaxpr, outs)[1] for b in eqn.params["branches"]]
        return [True, *(any(column) for column in zip(*read, strict=True))]
    return [True] * len(eqn.invars)


def scan_outputs_needed(eqn: Equation, outs: Sequence[bool]) -> list[bool]:
    """Which outputs of a scan's body are needed: a carry also where a later step reads it.

    >>> def f(xs):
    ...     return jax.lax.scan(lambda c, x: ((c[0] + x, c[1] * c[0]), None), (0.0, 1.0), xs)
    >>> scan_outputs_needed(jax.make_jaxpr(f)(jnp.ones(3)).eqns[0], [False, True])
    [True, True]
    """
    constants, carried = scan_layout(eqn)
    body = closed(eqn.params["jaxpr"]).jaxpr
    wanted = list(outs)
    while True:
        read = live(body, wanted)[1][constants : constants + carried]
        more = [w or r for w, r in zip(wanted, read, strict=False)] + wanted[carried:]
        if more == wanted:
            return wanted
        wanted = more


def subprograms(eqn: Equation) -> Iterator[ClosedJaxpr]:
    """Every jaxpr among the parameters of an equation, closed.

    >>> eqn = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(1.0).eqns[-1]
    >>> [inner.eqns[0].primitive.name for inner in subprograms(eqn)]
    ['cos', 'sin']
    """
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr):
        if is_jaxpr(value):
            yield closed(value)


def is_jaxpr(value: object) -> bool:
    """Whether a value is a jaxpr, open or closed.

    >>> is_jaxpr(jax.make_jaxpr(jnp.sin)(1.0)), is_jaxpr("sin")
    (True, False)
    """
    return isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr))
