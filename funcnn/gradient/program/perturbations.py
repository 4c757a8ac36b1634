"""Taps: zeros added to what each rule of a program returns, and a look at what goes into it.

The gradient of the program by a tap is the cotangent that arrives at its site. Taps reach into
calls, checkpoints and scans; in a scan there is one for each step. A while loop, a cond or a
shard_map is not looked into.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import (
    closed,
    cut,
    inner_program,
    last_reads,
    read_all,
    scan_layout,
    strong,
)
from funcnn.gradient.program.sites import Site, alone, inside_of, operands, site_of
from funcnn.types import Aval, ClosedJaxpr, Equation, Jaxpr

# The zeros of each site, by its number.
Zeros = dict[int, list[Any]]
# The outputs, and the operands of each site, by its number.
_Run = tuple[list[Any], dict[int, list[Any]]]


@dataclasses.dataclass(frozen=True)
class Tap:
    """A site that taps reach.

    Attributes:
        site: where it is.
        eqn: its equation.
        lengths: of the scans around it, from the outside in.
    """

    site: Site
    eqn: Equation
    lengths: tuple[int, ...]

    @property
    def operands(self) -> list[Aval]:
        """The types of its operands, those that are no literals."""
        return [self.eqn.invars[i].aval for i in operands(self.eqn)]

    @property
    def outputs(self) -> list[Aval]:
        """The types of its floating-point results."""
        return [v.aval for v in self.eqn.outvars if is_float(v.aval)]

    @property
    def zeros(self) -> list[np.ndarray]:
        """What is added to those results, for each step of the scans."""
        return [np.zeros((*self.lengths, *a.shape), a.dtype) for a in self.outputs]


def reach(program: Jaxpr | ClosedJaxpr, wanted: Sequence[Site]) -> list[Tap]:
    """The taps of those of the wanted sites that can be reached.

    >>> from funcnn.gradient.program.rewriting import sites
    >>> def f(xs):
    ...     return jax.lax.scan(lambda carry, x: (carry, jax.nn.relu(x)), None, xs)[1]
    >>> program = jax.make_jaxpr(f)(np.ones((3, 2), np.float32))
    >>> [(str(tap.site), tap.lengths) for tap in reach(program, sites(program))]
    [('relu', (3,))]
    """
    by_position = {site.position: site for site in wanted}
    taps: list[Tap] = []

    def walk(jaxpr: Jaxpr, at: tuple[int | str, ...], lengths: tuple[int, ...]) -> None:
        for i, eqn in enumerate(jaxpr.eqns):
            here, inner = (*at, i), _inner(eqn)
            if site_of(eqn) is not None:
                if here in by_position:
                    taps.append(Tap(by_position[here], eqn, lengths))
            elif inner:
                walk(inner[1].jaxpr, (*here, inner[0]), lengths)
            elif eqn.primitive.name == "scan":
                body = closed(eqn.params["jaxpr"]).jaxpr
                walk(body, (*here, "jaxpr"), (*lengths, eqn.params["length"]))

    walk(closed(program).jaxpr, (), ())
    return taps


def _inner(eqn: Equation) -> tuple[str, ClosedJaxpr] | None:
    hidden = inside_of(eqn)
    return inner_program(eqn) if hidden is None else ("jaxpr", hidden)


def tapped(
    program: Jaxpr | ClosedJaxpr, taps: Sequence[Tap]
) -> Callable[[Sequence[Any], Zeros], _Run]:
    """`(leaves, zeros) -> (outputs, {number of a site: its operands})`; a scan stacks the operands.

    >>> from funcnn.gradient.program.rewriting import sites
    >>> program = jax.make_jaxpr(lambda x: 2 * jax.nn.relu(x))(1.0)
    >>> run = tapped(program, reach(program, sites(program)))
    >>> run([1.0], {0: [5.0]})
    ([Array(12., dtype=float32, weak_type=True)], {0: [1.0]})
    """
    walk = _Walk({tap.site.position: i for i, tap in enumerate(taps)})
    return lambda leaves, zeros: walk.program(closed(program), leaves, (), zeros)


@dataclasses.dataclass(frozen=True)
class _Walk:
    """An evaluation of a program that adds the zeros and collects the operands."""

    numbers: dict[tuple[int | str, ...], int]

    def program(
        self, program: ClosedJaxpr, args: Sequence[Any], at: tuple[int | str, ...], zeros: Zeros
    ) -> _Run:
        """The outputs of a closed jaxpr at a position, and the operands of the sites inside."""
        jaxpr = program.jaxpr
        values = dict(zip(jaxpr.constvars, program.consts, strict=True))
        values |= dict(zip(jaxpr.invars, args, strict=True))
        last, seen, begin = last_reads(jaxpr), {}, 0
        for i, eqn in enumerate([*jaxpr.eqns, None]):
            inside = {} if eqn is None else self._zeros_in((*at, i), zeros)
            if eqn is not None and not inside:
                continue
            if begin < i:  # what lies between two sites runs as it is
                piece = cut(jaxpr, begin, i, last)
                outs = piece.run(*read_all(values, piece.invars))
                values |= dict(zip(piece.outvars, outs, strict=True))
            begin = i + 1
            if eqn is not None:
                outs, found = self._through(eqn, read_all(values, eqn.invars), (*at, i), inside)
                values |= dict(zip(eqn.outvars, outs, strict=True))
                seen |= found
        return read_all(values, jaxpr.outvars), seen

    def _zeros_in(self, here: tuple[int | str, ...], zeros: Zeros) -> Zeros:
        return {n: zeros[n] for p, n in self.numbers.items() if p[: len(here)] == here}

    def _through(
        self, eqn: Equation, values: list[Any], here: tuple[int | str, ...], zeros: Zeros
    ) -> _Run:
        inner = _inner(eqn)
        if inner:
            return self.program(inner[1], values, (*here, inner[0]), zeros)
        if here not in self.numbers:
            return self._scan(eqn, values, (*here, "jaxpr"), zeros)
        flowing = [values[i] for i in operands(eqn)]
        added = iter(zeros[self.numbers[here]])
        outs = jex.jaxpr_as_fun(alone(eqn))(*flowing)
        return [y + next(added) if is_float(y) else y for y in outs], {self.numbers[here]: flowing}

    def _scan(
        self, eqn: Equation, values: list[Any], at: tuple[int | str, ...], zeros: Zeros
    ) -> _Run:
        constants, carried = scan_layout(eqn)
        body = closed(eqn.params["jaxpr"])

        def step(
            carry: list[Any], x: tuple[list[Any], Zeros]
        ) -> tuple[list[Any], tuple[list[Any], Zeros]]:
            xs, zeros = x
            args = [*values[:constants], *carry, *xs]
            outs, seen = self.program(body, args, at, zeros)
            return [strong(c) for c in outs[:carried]], (outs[carried:], seen)

        start = [strong(c) for c in values[constants : constants + carried]]
        options = {name: eqn.params[name] for name in ("length", "reverse")}
        xs = values[constants + carried :], zeros
        carry, (ys, seen) = jax.lax.scan(step, start, xs, **options)
        return [*carry, *ys], seen
