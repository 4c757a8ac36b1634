"""The operands that really flow through each site of a custom rule when a program runs.

The program is evaluated once, equation by equation and under one jit, and each site hands out its
operands on the way. What stands in a loop is looked at in the first iteration.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.jaxprs import (
    bind,
    closed,
    inner_program,
    live,
    scan_layout,
    subprograms,
)
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
        walk(program.jaxpr, leaves)
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
    walk.note_all(closed(program))
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


def rules_without_influence(program: Program) -> tuple[Site, ...]:
    """A site of each rule whose value reaches no output, so that no gradient goes through it.

    What was differentiated inside a function is such: jax.grad has called its backward pass, whose
    equations stand there like any others.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> slope = jax.grad(jax.nn.relu)
    >>> [site.name for site in rules_without_influence(trace(slope, (1.0,), {}))]
    ['relu']
    """
    found = {(site.name, site.source): site for site in sites(program.jaxpr)}
    jaxpr = program.jaxpr.jaxpr
    with_influence = _rules_read(jaxpr, [True] * len(jaxpr.outvars)) if found else set()
    return tuple(site for rule, site in found.items() if rule not in with_influence)


def _rules_read(jaxpr: Jaxpr, wanted: list[bool]) -> set[tuple[str, str]]:
    rules: set[tuple[str, str]] = set()
    for eqn, outs in live(jaxpr, wanted)[0]:
        site, call = site_of(eqn, (), ""), inner_program(eqn)
        if site is None and call:
            rules |= _rules_read(call[1].jaxpr, outs)
            continue
        inside = [closed(wrapped(eqn))] if site else list(map(closed, subprograms(eqn)))
        rules |= {(site.name, site.source)} if site else set()
        rules |= {(s.name, s.source) for inner in inside for s in sites(inner)}
    return rules


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


@dataclasses.dataclass(frozen=True)
class _Walk(Evaluation):
    """An evaluation of a jaxpr that notes the sites; flows[i] belongs to visits[i]."""

    visits: list[Visit]
    flows: list[tuple[ArrayLike, list[Any]] | None]
    place: _Place = _Place()

    def at(self, number: int, eqn: Equation) -> _Walk:
        path = join(self.place.path, str(eqn.source_info.name_stack))
        return dataclasses.replace(
            self, place=dataclasses.replace(self.place.at(number), path=path)
        )

    def inside(self, *position: int | str, **more: Any) -> _Walk:
        return dataclasses.replace(self, place=self.place.at(*position, **more))

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        if self._noted(eqn):
            self.flows.append((self.place.reached, [x[i] for i in operands(eqn)]))
            return self.inside("call")(wrapped(eqn), x)
        call = inner_program(eqn)
        inner = call[1] if call else inside_of(eqn)
        if inner is not None:
            return self.inside("jaxpr")(inner, x)
        look_inside = getattr(self, f"_{eqn.primitive.name}", self._other)
        look_inside(eqn, x)
        return bind(eqn, x)

    def _noted(self, eqn: Equation) -> bool:
        """Whether a site of a custom rule stands here, which is noted."""
        site = site_of(eqn, self.place.position, self.place.path)
        if site is not None:
            self.visits.append(Visit(site, eqn, self.place.calls, self.place.note))
        return site is not None

    def _scan(self, eqn: Equation, x: list[Any]) -> None:
        length, backwards = eqn.params["length"], eqn.params["reverse"]
        body = closed(eqn.params["jaxpr"])
        fixed = sum(scan_layout(eqn))  # constants and carry come before what is scanned over
        index = length - 1 if backwards else 0
        first = [
            jax.lax.index_in_dim(v, index, keepdims=False) if length else _zeros(a)
            for v, a in zip(x[fixed:], body.in_avals[fixed:], strict=True)
        ]
        note = f"iteration 1 of {length}" if length else ""
        inner = self.inside("jaxpr", note=note, calls=length, when=length > 0)
        inner(body, x[:fixed] + first)

    def _while(self, eqn: Equation, x: list[Any]) -> None:
        n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        note = "iteration 1 of a while_loop"
        start = self.inside("cond_jaxpr", note=note)
        (go_on,) = start(eqn.params["cond_jaxpr"], x[:n] + x[n + m :])
        self.inside("body_jaxpr", note=note, when=go_on)(eqn.params["body_jaxpr"], x[n:])

    def _cond(self, eqn: Equation, x: list[Any]) -> None:
        branches = eqn.params["branches"]
        index = jnp.clip(jnp.asarray(x[0], jnp.int32), 0, len(branches) - 1)
        for i, branch in enumerate(branches):
            self.inside("branches", i, when=index == i)(branch, x[1:])

    def _custom_vmap_call(self, eqn: Equation, x: list[Any]) -> None:
        self.inside("call")(eqn.params["call"], x)

    def _custom_linear_solve(self, eqn: Equation, x: list[Any]) -> None:
        # The transposed programs run in the backward pass alone.
        lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
        rhs = x[sum(lengths) :]
        before = lengths.matvec + lengths.vecmat
        constants = x[before : before + lengths.solve]
        y = self.inside("solve")(jaxprs.solve, constants + rhs)
        self.inside("matvec")(jaxprs.matvec, x[: lengths.matvec] + y[: len(rhs)])

    def _other(self, eqn: Equation, x: list[Any]) -> None:
        """The sites inside any other primitive are listed without what flows there."""
        if eqn.primitive.name == "pallas_call":
            return
        note = f"inside {eqn.primitive.name}"
        for i, inner in enumerate(subprograms(eqn)):
            self.inside(i, note=note).note_all(inner)

    def note_all(self, program: ClosedJaxpr) -> None:
        """Note the sites of a program that is not evaluated."""
        for i, eqn in enumerate(program.jaxpr.eqns):
            here = self.at(i, eqn)
            if here._noted(eqn):
                here.flows.append(None)
                here.inside("call").note_all(closed(wrapped(eqn)))
                continue
            calls = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            for k, inner in enumerate(subprograms(eqn)):
                here.inside(k, calls=calls).note_all(inner)


def _and(note: str, more: str) -> str:
    return ", ".join(filter(None, [note, more]))


def _zeros(aval: Aval) -> Array | np.ndarray:
    if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
        keys = jax.random.split(jax.random.key(0), max(1, math.prod(aval.shape)))
        return keys.reshape(aval.shape)
    return np.zeros(aval.shape, aval.dtype)
