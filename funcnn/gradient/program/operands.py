"""The operands that really flow through each site of a custom rule when a program runs.

The program is evaluated once, equation by equation and under one jit, and each site hands out its
operands on the way. What stands in a loop hands out those of four calls: the first that is reached,
the last, and the two with the largest and the smallest numbers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.program.calls import Calls, each_of, joined, none_yet, one_call
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.jaxprs import (
    bind,
    closed,
    inner_program,
    scan_layout,
    strong,
    subprograms,
)
from funcnn.gradient.program.sites import (
    Site,
    inside_of,
    join,
    operands,
    shape_of,
    site_of,
    wrapped,
)
from funcnn.gradient.program.without_rules import Program
from funcnn.types import Array, ArrayLike, ClosedJaxpr, Equation, Jaxpr

NOT_REACHED = "not reached"


@dataclasses.dataclass(frozen=True)
class Visit:
    """A site, and what flows there.

    Attributes:
        site: where it is.
        eqn: its equation.
        calls: how often a run of the program calls it; loops of unknown length count once.
        note: what is to be known about the operands: "3 of its 5 calls", "not reached".
        operands: those that are no literals, of each call that is looked at; empty where none
            could be had.
    """

    site: Site
    eqn: Equation
    calls: int
    note: str
    operands: tuple[tuple[Any, ...], ...] = ()


def capture(program: Program) -> list[Visit]:
    """Every site of a custom rule in a traced program, with the operands that flow there.

    >>> from funcnn.gradient.program.without_rules import trace
    >>> visit, = capture(trace(lambda x: jax.nn.relu(x - 1), (np.ones(2, np.float32),), {}))
    >>> str(visit.site), [[x.tolist() for x in call] for call in visit.operands]
    ('relu', [[[0.0, 0.0]]])
    """
    visits: list[Visit] = []

    def flows(leaves: list[Any]) -> list[Calls | None]:
        walk = Walk([], [])
        walk(program.jaxpr, leaves)
        visits[:] = walk.visits
        return walk.flows

    values = compiled(flows)(program.leaves)
    return [
        _seen(visit, calls) if calls else visit for visit, calls in zip(visits, values, strict=True)
    ]


def listed(program: Jaxpr | ClosedJaxpr) -> list[Visit]:
    """Every site of a custom rule in a closed jaxpr, without what flows there; nothing is run.

    >>> [str(visit.site) for visit in listed(jax.make_jaxpr(jax.nn.relu)(1.0))]
    ['relu']
    """
    walk = Walk([], [])
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


def _seen(visit: Visit, calls: Calls) -> Visit:
    if not calls.number:
        return dataclasses.replace(visit, note=_and(visit.note, NOT_REACHED))
    operands = each_of(calls)
    note = f"{len(operands)} of its {int(calls.number)} calls" if calls.in_a_loop else ""
    return dataclasses.replace(visit, operands=operands, note=_and(visit.note, note))


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
class Walk(Evaluation):
    """An evaluation of a jaxpr that notes the sites; flows[i] belongs to visits[i]."""

    visits: list[Visit]
    flows: list[Calls | None]
    place: _Place = _Place()

    def at(self, number: int, eqn: Equation) -> Walk:
        """The walk at the equation of this number."""
        path = join(self.place.path, str(eqn.source_info.name_stack))
        return dataclasses.replace(
            self, place=dataclasses.replace(self.place.at(number), path=path)
        )

    def inside(self, *position: int | str, **more: Any) -> Walk:
        """The walk in a program inside of this place."""
        return dataclasses.replace(self, place=self.place.at(*position, **more))

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """Its outputs, and what flows through the sites in it."""
        if self._noted(eqn):
            self.flows.append(one_call(self.place.reached, [x[i] for i in operands(eqn)]))
            return self.inside("call")(wrapped(eqn), x)
        call = inner_program(eqn)
        inner = call[1] if call else inside_of(eqn)
        if inner is not None:
            return self.inside("jaxpr")(inner, x)
        if eqn.primitive.name == "scan":
            return self._scan(eqn, x)
        if (
            eqn.primitive.name == "while"
            and not closed(eqn.params["cond_jaxpr"]).out_avals[0].shape
        ):
            return self._while(eqn, x)
        looks = {
            "cond": self._cond,
            "custom_vmap_call": self._custom_vmap_call,
            "custom_linear_solve": self._custom_linear_solve,
        }
        looks.get(eqn.primitive.name, self._other)(eqn, x)
        return bind(eqn, x)

    def _noted(self, eqn: Equation) -> bool:
        """Whether a site of a custom rule stands here, which is noted."""
        site = site_of(eqn, self.place.position, self.place.path)
        if site is not None:
            self.visits.append(Visit(site, eqn, self.place.calls, self.place.note))
        return site is not None

    def _scan(self, eqn: Equation, x: list[Any]) -> list[Any]:
        body, (constants, carried) = closed(eqn.params["jaxpr"]), scan_layout(eqn)
        fixed, carry, rows = np.split(np.arange(len(x)), [constants, constants + carried])
        loop = _Loop(self.inside("jaxpr", calls=eqn.params["length"]), body)

        def step(state: tuple[list[Any], Any], row: list[Any]) -> tuple[Any, list[Any]]:
            outs, flows = loop.step([*(x[i] for i in fixed), *state[0], *row], state[1])
            return (outs[:carried], flows), outs[carried:]

        options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
        start = [strong(x[i]) for i in carry], loop.before
        (outs, flows), ys = jax.lax.scan(step, start, [x[i] for i in rows], **options)
        return [*outs, *self._after(loop, flows, ys)]

    def _while(self, eqn: Equation, x: list[Any]) -> list[Any]:
        n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        condition, body = closed(eqn.params["cond_jaxpr"]), closed(eqn.params["body_jaxpr"])
        start = self.inside("cond_jaxpr", note="before a while_loop")
        start(condition, x[:n] + x[n + m :])
        loop = _Loop(self.inside("body_jaxpr"), body)

        def go_on(state: tuple[list[Any], Any]) -> Array:
            return jex.jaxpr_as_fun(condition)(*x[:n], *state[0])[0]

        def step(state: tuple[list[Any], Any]) -> tuple[list[Any], Any]:
            return loop.step([*x[n : n + m], *state[0]], state[1])

        carry = [strong(v) for v in x[n + m :]]
        outs, flows = jax.lax.while_loop(go_on, step, (carry, loop.before))
        return self._after(loop, flows, outs)

    def _after(self, loop: _Loop, flows: list[Calls | None], outs: list[Any]) -> list[Any]:
        self.visits.extend(loop.visits)
        self.flows.extend(flows)
        return outs

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


class _Loop:
    """The body of a loop, with the calls of the sites inside of it among what it carries.

    Attributes:
        visits: of its sites.
        before: what is carried into the first step.
    """

    def __init__(self, walk: Walk, body: ClosedJaxpr):
        self.walk, self.body, self.visits = walk, body, list[Visit]()
        shapes = jax.eval_shape(self._walked, list(map(shape_of, body.in_avals)))[1]
        self.before = [None if one is None else none_yet(one) for one in shapes]

    def _walked(self, x: list[Any]) -> tuple[list[Any], list[Calls | None]]:
        walk = dataclasses.replace(self.walk, visits=[], flows=[])
        outs = list(map(strong, walk(self.body, x)))
        self.visits[:] = walk.visits
        return outs, walk.flows

    def step(
        self, x: list[Any], before: list[Calls | None]
    ) -> tuple[list[Any], list[Calls | None]]:
        """The outputs of the body, and the calls up to here."""
        outs, flows = self._walked(x)
        pairs = zip(before, flows, strict=True)
        return outs, [a and b and joined(a, b) for a, b in pairs]


def _is_batched(eqn: Equation) -> bool:
    """Whether a while loop is one of several under vmap, each with a condition of its own."""
    return bool(closed(eqn.params["cond_jaxpr"]).out_avals[0].shape)


def _and(note: str, more: str) -> str:
    return ", ".join(filter(None, [note, more]))
