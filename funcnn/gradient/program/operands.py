"""The operands that really flow through each site of a custom rule when a program runs.

The program is evaluated once, equation by equation and under one jit, and each site hands out its
operands on the way. What stands in a loop is looked at in the first iteration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.jaxprs import closed, inner_program, read_all, scan_layout, subprograms
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.sites import Site, inside_of, join, operands, site_of, wrapped
from funcnn.gradient.program.without_rules import Program
from funcnn.types import Array, ArrayLike, Aval, ClosedJaxpr, Equation, Jaxpr

_NOT_REACHED = "not reached"


@dataclasses.dataclass(frozen=True)
class Visit:
    """A site, and what flows there.

    Attributes:
        site: where it is.
        eqn: its equation.
        calls: how often a run of the program calls it; loops of unknown length count once.
        note: what is to be known about the operands: "iteration 1 of 5", "not reached".
        operands: those that are no literals; None where they could not be had.
    """

    site: Site
    eqn: Equation
    calls: int
    note: str
    operands: tuple[Any, ...] | None = None


def capture(program: Program) -> list[Visit]:
    """Every site of a custom rule in a traced program, with the operands of its first call.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> visit, = capture(trace(lambda x: jax.nn.relu(x - 1), (np.ones(2, np.float32),), {}))
    >>> str(visit.site), [x.tolist() for x in visit.operands]
    ('relu', [[0.0, 0.0]])
    """
    found: list[Visit] = []

    def flows(leaves: list[Any]) -> list[tuple[ArrayLike, list[Any]] | None]:
        walk = _Walk([], [])
        walk.run(program.jaxpr, leaves, _Place())
        found[:] = walk.visits
        return walk.flows

    values = compiled(flows)(program.leaves)
    return [
        _seen(visit, *flow) if flow else visit for visit, flow in zip(found, values, strict=True)
    ]


def listed(program: Jaxpr | ClosedJaxpr) -> list[Visit]:
    """Every site of a custom rule in a closed jaxpr, without what flows there; nothing is run.

    >>> [str(visit.site) for visit in listed(jax.make_jaxpr(jax.nn.relu)(1.0))]
    ['relu']
    """
    walk = _Walk([], [])
    walk._list(closed(program), _Place())
    return walk.visits


def visited(program: Program) -> list[Visit]:
    """As `capture`; where the program does not run here, what stands in it and why.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> len(visited(trace(jax.nn.relu, (np.ones(2, np.float32),), {})))
    1
    """
    try:
        return capture(program)
    except Exception as error:  # a mesh that is bound outside, a loop that does not end
        note = f"the program does not run here: {first_line(error)}"
        return [dataclasses.replace(v, note=note) for v in listed(program.jaxpr)]


def rules_never_run(program: Program) -> tuple[str, ...]:
    """The names of the rules that stand in branches and loops which the arguments never enter.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> def f(x):
    ...     return jax.lax.cond(x[0] > 0, jax.nn.relu, lambda x: x, x)
    >>> rules_never_run(trace(f, (np.array([-1.0], np.float32),), {}))
    ('relu',)
    """
    found = sites(program.jaxpr)
    if not any({"branches", "body_jaxpr", "cond_jaxpr"} & set(s.position) for s in found):
        return ()
    reached: dict[tuple[str, str], bool] = {}
    for visit in visited(program):
        rule = visit.site.name, visit.site.source
        reached[rule] = reached.get(rule, False) or not visit.note.endswith(_NOT_REACHED)
    return tuple(name for (name, _), run in reached.items() if not run)


def _seen(visit: Visit, reached: ArrayLike, operands: tuple[Any, ...]) -> Visit:
    if not reached:
        return dataclasses.replace(visit, note=_and(visit.note, _NOT_REACHED))
    return dataclasses.replace(visit, operands=tuple(operands))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the program a walk is: its position, scopes, how often it runs, and whether."""

    position: tuple[int | str, ...] = ()
    path: str = ""
    calls: int = 1
    note: str = ""
    reached: ArrayLike = True

    def at(
        self, *position: int | str, note: str = "", calls: int = 1, when: ArrayLike = True
    ) -> _Place:
        return dataclasses.replace(
            self,
            position=(*self.position, *position),
            note=_and(self.note, note),
            calls=self.calls * calls,
            reached=self.reached if when is True else jnp.logical_and(self.reached, when),
        )


@dataclasses.dataclass
class _Walk:
    """An evaluation of a jaxpr that notes the sites; flows[i] belongs to visits[i]."""

    visits: list[Visit]
    flows: list[tuple[ArrayLike, list[Any]] | None]

    def run(self, program: Jaxpr | ClosedJaxpr, inputs: Sequence[Any], place: _Place) -> list[Any]:
        """The outputs of a jaxpr, open or closed."""
        whole = closed(program)
        jaxpr = whole.jaxpr
        values = dict(zip(jaxpr.constvars, whole.consts, strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))
        for i, eqn in enumerate(jaxpr.eqns):
            scope = join(place.path, str(eqn.source_info.name_stack))
            here = dataclasses.replace(place.at(i), path=scope)
            outs = self._evaluate(eqn, read_all(values, eqn.invars), here)
            values.update(zip(eqn.outvars, outs, strict=True))
        return read_all(values, jaxpr.outvars)

    def _evaluate(self, eqn: Equation, x: list[Any], place: _Place) -> list[Any]:
        site = site_of(eqn, place.position, place.path)
        if site is not None:
            flowing = [x[i] for i in operands(eqn)]
            self.visits.append(Visit(site, eqn, place.calls, place.note))
            self.flows.append((place.reached, flowing))
            return self.run(wrapped(eqn), x, place.at("call"))
        call = inner_program(eqn)
        inner = call[1] if call else inside_of(eqn)
        if inner is not None:
            return self.run(inner, x, place.at("jaxpr"))
        look_inside = getattr(self, f"_{eqn.primitive.name}", self._other)
        look_inside(eqn, x, place)
        outs = eqn.primitive.bind(*x, **eqn.primitive.get_bind_params(eqn.params))
        return list(outs) if eqn.primitive.multiple_results else [outs]

    def _scan(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        length, backwards = eqn.params["length"], eqn.params["reverse"]
        body = closed(eqn.params["jaxpr"])
        fixed = sum(scan_layout(eqn))  # constants and carry come before what is scanned over
        index = length - 1 if backwards else 0
        first = [
            jax.lax.index_in_dim(v, index, keepdims=False) if length else _zeros(a)
            for v, a in zip(x[fixed:], body.in_avals[fixed:], strict=True)
        ]
        note = f"iteration 1 of {length}" if length else ""
        self.run(
            body, x[:fixed] + first, place.at("jaxpr", note=note, calls=length, when=length > 0)
        )

    def _while(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        note = "iteration 1 of a while_loop"
        start = place.at("cond_jaxpr", note=note)
        (go_on,) = self.run(eqn.params["cond_jaxpr"], x[:n] + x[n + m :], start)
        self.run(eqn.params["body_jaxpr"], x[n:], place.at("body_jaxpr", note=note, when=go_on))

    def _cond(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        branches = eqn.params["branches"]
        index = jnp.clip(jnp.asarray(x[0], jnp.int32), 0, len(branches) - 1)
        for i, branch in enumerate(branches):
            self.run(branch, x[1:], place.at("branches", i, when=index == i))

    def _custom_vmap_call(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        self.run(eqn.params["call"], x, place.at("call"))

    def _custom_linear_solve(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        # The transposed programs run in the backward pass alone.
        lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
        rhs = x[sum(lengths) :]
        before = lengths.matvec + lengths.vecmat
        constants = x[before : before + lengths.solve]
        y = self.run(jaxprs.solve, constants + rhs, place.at("solve"))
        self.run(jaxprs.matvec, x[: lengths.matvec] + y[: len(rhs)], place.at("matvec"))

    def _other(self, eqn: Equation, x: list[Any], place: _Place) -> None:
        """The sites inside any other primitive are listed without what flows there."""
        if eqn.primitive.name == "pallas_call":
            return
        note = f"inside {eqn.primitive.name}"
        for i, inner in enumerate(subprograms(eqn)):
            self._list(inner, place.at(i, note=note))

    def _list(self, program: ClosedJaxpr, place: _Place) -> None:
        for i, eqn in enumerate(program.jaxpr.eqns):
            here = dataclasses.replace(
                place.at(i), path=join(place.path, str(eqn.source_info.name_stack))
            )
            site = site_of(eqn, here.position, here.path)
            if site is not None:
                self.visits.append(Visit(site, eqn, here.calls, here.note))
                self.flows.append(None)
                self._list(closed(wrapped(eqn)), here.at("call"))
                continue
            calls = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            for k, inner in enumerate(subprograms(eqn)):
                self._list(inner, here.at(k, calls=calls))


def _and(note: str, more: str) -> str:
    return ", ".join(filter(None, [note, more]))


def _zeros(aval: Aval) -> Array | np.ndarray:
    if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
        keys = jax.random.split(jax.random.key(0), max(1, math.prod(aval.shape)))
        return keys.reshape(aval.shape)
    return np.zeros(aval.shape, aval.dtype)
