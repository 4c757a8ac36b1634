"""Taps: zeros added to what each rule of a program returns, and a look at what goes into it.

The gradient of the program by a tap is the cotangent that arrives at its site. Taps reach into
calls, checkpoints and scans; in a scan there is one for each step. A while loop, a cond or a
shard_map is not looked into.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.extend.core as jex
import numpy as np

from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import closed, inner_program, run_scan
from funcnn.gradient.program.pieces import last_reads, run_pieces, with_others
from funcnn.gradient.program.sites import Site, alone, inside_of, operands, site_of
from funcnn.types import ArrayLike, Aval, ClosedJaxpr, Equation, Jaxpr

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

    >>> import jax
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

    >>> import jax
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
        jaxpr, seen = program.jaxpr, {}

        def other(i: int, eqn: Equation) -> Callable[..., list[Any]] | None:
            here = (*at, i)
            inside = {n: zeros[n] for p, n in self.numbers.items() if p[: len(here)] == here}

            def through(*x: ArrayLike) -> list[Any]:
                outs, operands_inside = self._through(eqn, list(x), here, inside)
                seen.update(operands_inside)
                return outs

            return through if inside else None

        pieces = with_others(jaxpr, (0, len(jaxpr.eqns)), last_reads(jaxpr), other)
        return run_pieces(program, pieces, args), seen

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
        body = closed(eqn.params["jaxpr"])
        return run_scan(eqn, values, lambda x, zeros: self.program(body, x, at, zeros), zeros)
