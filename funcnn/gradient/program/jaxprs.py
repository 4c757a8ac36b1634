"""Equations of a jaxpr: run one again, look inside calls and loops, leave out dead ones.

With sites.py this is the only place that depends on what a jaxpr looks like inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.types import ArrayLike, Aval, ClosedJaxpr, Equation, Jaxpr, PyTree

# The parameter that holds the program of an equation which only wraps one, and of one with a rule.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
CALLS |= {"remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
_CALLS_WITH_RULES = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}

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


def inner_program(eqn: Equation) -> tuple[str, ClosedJaxpr] | None:
    """The parameter's name and the closed jaxpr that a call wraps; None for any other equation.

    >>> eqn = jax.make_jaxpr(jax.jit(jnp.sin))(1.0).eqns[0]
    >>> name, closed = inner_program(eqn)
    >>> name, closed.eqns[0].primitive.name
    ('jaxpr', 'sin')
    """
    name = CALLS.get(eqn.primitive.name)
    return (name, closed(eqn.params[name])) if name and name in eqn.params else None


def inside_call(eqn: Equation) -> ClosedJaxpr | None:
    """The closed jaxpr that a call wraps, with or without a rule; None for any other equation.

    >>> inside_call(jax.make_jaxpr(jax.nn.relu)(1.0).eqns[0]).eqns[0].primitive.name
    'jit'
    """
    inside = eqn.params.get((CALLS | _CALLS_WITH_RULES).get(eqn.primitive.name, ""))
    return None if inside is None else closed(inside)


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


def run_scan(
    eqn: Equation,
    x: Sequence[Any],
    body: Callable[[list[Any], PyTree], tuple[list[Any], PyTree]],
    beside: PyTree = None,
) -> tuple[list[Any], PyTree]:
    """The outputs of a scan with another body, and what it returns besides, stacked.

    Args:
        eqn: the scan.
        x: its operands.
        body: `body(inputs, row of beside) -> (outputs, more)`.
        beside: what else is scanned over.

    >>> f = lambda xs: jax.lax.scan(lambda x, y: (x + y, x), 0.0, xs)
    >>> eqn, = jax.make_jaxpr(f)(jnp.ones(3)).eqns
    >>> run_scan(eqn, [0.0, jnp.ones(3)], lambda x, _: ([x[0] - x[1], x[0]], None))[0][0]
    Array(-3., dtype=float32)
    """
    constants, carried = scan_layout(eqn)

    def step(carry: list[Any], row: tuple[list[Any], PyTree]) -> tuple[list[Any], Any]:
        outs, more = body([*x[:constants], *carry, *row[0]], row[1])
        return list(map(strong, outs[:carried])), (outs[carried:], more)

    start = list(map(strong, x[constants : constants + carried]))
    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, (ys, more) = jax.lax.scan(
        step, start, (list(x[constants + carried :]), beside), **options
    )
    return [*carry, *ys], more


def bind(eqn: Equation, x: Sequence[Any], params: dict[str, Any] | None = None) -> list[Any]:
    """The outputs of the primitive of an equation at other operands, and with other parameters.

    >>> bind(jax.make_jaxpr(jnp.sin)(1.0).eqns[0], [0.0])
    [Array(0., dtype=float32, weak_type=True)]
    """
    given: Any = eqn.primitive.get_bind_params(eqn.params if params is None else params)
    outs = eqn.primitive.bind(*x, **given)
    return list(outs) if eqn.primitive.multiple_results else [outs]


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


def manual_axes(mapped: Mapping[str, Any]) -> frozenset[str]:
    """The axes over which a shard_map with these parameters maps.

    >>> manual_axes({"newly_manual_axes": frozenset({"i"})})
    frozenset({'i'})
    """
    return mapped.get("newly_manual_axes", mapped.get("manual_axes"))
