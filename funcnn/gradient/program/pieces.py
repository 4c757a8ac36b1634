"""A program in pieces: some of its equations run otherwise, what lies between them as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax.extend.core as jex

from funcnn.types import Atom, ClosedJaxpr, Equation, Jaxpr


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

    >>> import jax, jax.numpy as jnp
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


def with_others(
    jaxpr: Jaxpr,
    span: tuple[int, int],
    last: dict[jex.Var, int],
    other: Callable[[int, Equation], Callable[..., list[Any]] | None],
) -> Iterator[Piece]:
    """The pieces of some equations: `other(i, equation)` runs in its place, None as it is.

    >>> import jax, jax.numpy as jnp
    >>> jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 2 + 1)(1.0).jaxpr
    >>> other = lambda i, eqn: print if i == 1 else None
    >>> [p.run is print for p in with_others(jaxpr, (0, 3), last_reads(jaxpr), other)]
    [False, True, False]
    """
    begin, stop = span
    for i in range(begin, stop):
        eqn = jaxpr.eqns[i]
        run = other(i, eqn)
        if run:
            if begin < i:
                yield cut(jaxpr, begin, i, last)
            yield Piece(tuple(eqn.invars), tuple(eqn.outvars), run)
            begin = i + 1
    if begin < stop:
        yield cut(jaxpr, begin, stop, last)


def run_pieces(program: ClosedJaxpr, pieces: Iterable[Piece], x: Sequence[Any]) -> list[Any]:
    """The outputs of a closed jaxpr whose equations run in pieces.

    >>> import jax, jax.numpy as jnp
    >>> program = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(1.0)
    >>> run_pieces(program, [cut(program.jaxpr, 0, 2, last_reads(program.jaxpr))], [0.0])
    [Array(0., dtype=float32, weak_type=True)]
    """
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= zip(jaxpr.invars, x, strict=True)
    for piece in pieces:
        outs = piece.run(*read_all(values, piece.invars))
        values |= zip(piece.outvars, outs, strict=True)
    return read_all(values, jaxpr.outvars)


def last_reads(jaxpr: Jaxpr) -> dict[jex.Var, int]:
    """The index of the last equation that reads each variable; len(eqns) for a result.

    >>> import jax, jax.numpy as jnp
    >>> jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(1.0).jaxpr
    >>> sorted(last_reads(jaxpr).values())
    [0, 1, 2]
    """
    last: dict[jex.Var, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last |= {v: i for v in eqn.invars if not isinstance(v, jex.Literal)}
    return last | {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, jex.Literal)}


def read_all(values: dict[Any, Any], atoms: Iterable[Atom]) -> list[Any]:
    """The values of variables and literals.

    >>> read_all({}, [])
    []
    """
    return [a.val if isinstance(a, jex.Literal) else values[a] for a in atoms]
