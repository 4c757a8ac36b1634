"""Mutants of a program: its jaxpr with one equation changed, all of them in one compiled program.

Which mutant runs is an argument: behind every equation stands a choice between what it computes and
what a mutant would, so tens of mutants cost one compilation.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.gradient.mutation.operators import Change, Operand, changes, structural_changes
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import bind, closed, inside_call, run_scan
from funcnn.types import Array, ArrayLike, ClosedJaxpr, Equation, Jaxpr

Position = tuple[Any, ...]
_JAX = os.path.dirname(jax.__file__) + os.sep


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one equation of a backward pass; `str()` says which and where.

    It is named by its place in the source, so that it is the same mutant in the programs of
    several cases, whose shapes differ.

    Attributes:
        change: what is done: "times -1", "plus 0.001", "first slice only", "in bfloat16", ...
        primitive: of the equation, "residual" or "cotangent" where no equation is changed.
        source: file and line.
        occurrence: its number among the equations of this primitive on this line.
        output: the number of the output.

    >>> print(Mutant("times -1", "mul", "funcnn/rules/losses/elementwise.py:52"))
    elementwise.py:52 mul: times -1
    """

    change: str
    primitive: str
    source: str
    occurrence: int = 0
    output: int = 0

    def __str__(self) -> str:
        number = f" #{self.occurrence + 1}" if self.occurrence else ""
        output = f" output {self.output}" if self.output else ""
        return f"{os.path.basename(self.source)} {self.primitive}{number}{output}: {self.change}"


@dataclasses.dataclass(frozen=True)
class Switch:
    """What makes the compiled program run one mutant: its number, and how much it changes."""

    number: int
    amount: float = 0.0


UNCHANGED = Switch(-1)


class Mutants:
    """A closed jaxpr of float inputs and outputs with all its mutants.

    Call it under `jax.jit` with the number and the amount of a `Switch`, and the inputs. The
    mutants are known from the beginning. Only what runs on this platform is changed: other
    branches of `lax.platform_dependent` are counted in `unreachable`.

    Args:
        closed: the jaxpr.
        residuals: how many of its inputs, the first ones, are residuals that may be swapped.

    >>> mutants = Mutants(jax.make_jaxpr(lambda res, dy: (2 * res * dy,))(1.0, 1.0), 1)
    >>> switch = next(s for m, s in mutants.switches.items() if m.change == "times -1")
    >>> [float(y) for y in mutants(switch.number, switch.amount, 3.0, 1.0)]
    [-6.0]
    """

    def __init__(self, closed: ClosedJaxpr, residuals: int = 0):
        self.closed = closed
        self.residuals = residuals
        self.switches: dict[Mutant, Switch] = {}
        self.unreachable: set[Position] = set()
        self._numbers: dict[Position, int] = {}
        self._occurrences: dict[tuple[str, str], dict[Position, int]] = {}
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.in_avals]
        jax.eval_shape(lambda *leaves: self(-1, 0.0, *leaves), *shapes)

    def __call__(self, number: ArrayLike, amount: ArrayLike, *leaves: ArrayLike) -> list[Array]:
        """The outputs of the mutant with this number, of the program itself with number -1."""
        run = _Run(self, jnp.asarray(number), jnp.asarray(amount))
        inputs = run.swapped("residual", list(leaves), self.residuals)
        outs = run(self.closed, inputs)
        computed = {v for eqn in self.closed.jaxpr.eqns for v in eqn.outvars}
        for i, v in enumerate(self.closed.jaxpr.outvars):
            # An output that no equation makes is an input handed on.
            if isinstance(v, jex.Literal) or v not in computed:
                outs[i] = run.changed(("out", i), "cotangent", f"output {i}", outs[i : i + 1])[0]
        return run.swapped("cotangent", outs, len(outs))

    def register(self, position: Position, mutants: Sequence[tuple[Mutant, float]]) -> int:
        """The number of a choice at this position; the mutants that it makes are noted once."""
        if position not in self._numbers:
            self._numbers[position] = len(self._numbers)
            for mutant, amount in mutants:
                self.switches[mutant] = Switch(self._numbers[position], amount)
        return self._numbers[position]

    def occurrence(self, position: Position, primitive: str, source: str) -> int:
        """How many equations of this primitive on this line stand before this one."""
        before = self._occurrences.setdefault((primitive, source), {})
        return before.setdefault(position, len(before))


@dataclasses.dataclass(frozen=True)
class _Run(Evaluation):
    """One evaluation of the program, with the choice of the mutant as tracers."""

    mutants: Mutants
    number: Array
    amount: Array
    changeable: str = "everything"  # or "floats", or "nothing"
    position: Position = ()
    source: str = ""
    of_jax: bool = False  # whether this is the program of a function of JAX

    def __call__(self, program: Jaxpr | ClosedJaxpr, leaves: Sequence[Any]) -> list[Array]:
        traced_from = str(closed(program).jaxpr.debug_info.func_src_info).partition(" at ")[2]
        here = dataclasses.replace(self, of_jax=traced_from.startswith(_JAX))
        return Evaluation.__call__(here, program, leaves)

    def at(self, number: int, eqn: Equation) -> _Run:
        # The lines inside a function of JAX are not the author's: those of its caller count.
        of_caller = self.of_jax and self.source
        source = self.source if of_caller else source_of(eqn) or self.source
        return dataclasses.replace(self.inside(number), source=source)

    def inside(self, number: int) -> _Run:
        return dataclasses.replace(self, position=(*self.position, number))

    def literal(self, atom: jex.Literal) -> np.ndarray:
        return np.asarray(atom.val, getattr(atom.aval, "dtype"))  # noqa: B009, any aval

    def equation(self, eqn: Equation, x: list[Any]) -> list[Array]:
        name = eqn.primitive.name
        wrapped = inside_call(eqn)
        if wrapped is not None:
            return self(wrapped, x)
        if name == "cond" and eqn.params.get("branches_platforms"):
            return self._on_this_platform(eqn, x)
        if name in {"cond", "scan", "while"}:
            outs = getattr(self, f"_{name}")(eqn, x)
        else:
            outs = bind(eqn, x)
            if name == "platform_index":  # the branch that it chooses is known
                return outs
        more = functools.partial(structural_changes, eqn, x)
        return self.changed(self.position, name, self.source, outs, more)

    def _on_this_platform(self, eqn: Equation, x: list[Any]) -> list[Array]:
        platforms, here = eqn.params["branches_platforms"], jax.default_backend()
        here = "cuda" if here == "gpu" else here
        live = next(i for i, names in enumerate(platforms) if names is None or here in names)
        for i, branch in enumerate(eqn.params["branches"]):
            if i != live:
                self.mutants.unreachable |= {(*self.position, i, *p) for p in _positions(branch)}
        return self.inside(live)(eqn.params["branches"][live], x[1:])

    def _cond(self, eqn: Equation, x: list[Any]) -> list[Array]:
        def branch(i: int, closed: ClosedJaxpr) -> Callable[..., list[Array]]:
            return lambda *inputs: self.inside(i)(closed, inputs)

        branches = [branch(i, closed) for i, closed in enumerate(eqn.params["branches"])]
        return lax.switch(x[0], branches, *x[1:])

    def _scan(self, eqn: Equation, x: list[Any]) -> list[Array]:
        return run_scan(eqn, x, lambda inputs, _: (self(eqn.params["jaxpr"], inputs), None))[0]

    def _while(self, eqn: Equation, x: list[Any]) -> list[Array]:
        tested, fixed = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        condition, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
        of_test, of_body, first = x[:tested], x[tested : tested + fixed], x[tested + fixed :]
        test = jex.jaxpr_as_fun(condition)
        # A mutant that stops the counter, or moves what a test of floats reads, may run for ever.
        of_floats = any(is_float(v.aval) for v in _used(condition))
        changeable = "nothing" if of_floats or self.changeable == "nothing" else "floats"
        inner = dataclasses.replace(self, changeable=changeable)
        return lax.while_loop(
            lambda values: test(*of_test, *values)[0],
            lambda values: inner(body, [*of_body, *values]),
            first,
        )

    def changed(
        self,
        at: Position,
        name: str,
        source: str,
        outs: list[Array],
        more: Callable[[Array], Iterator[Change]] = lambda out: iter(()),
    ) -> list[Array]:
        """The outputs of an equation, each behind the choice of its mutants."""
        if self.changeable == "nothing":
            return outs
        occurrence = self.mutants.occurrence(at, name, source)
        chosen = list(outs)
        for i, out in enumerate(outs):
            if out.size == 0 or (self.changeable == "floats" and not is_float(out)):
                continue
            for family, amounts, make in (*changes(out), *more(out)):
                mutants = [(Mutant(c, name, source, occurrence, i), a) for c, a in amounts]
                number = self.mutants.register((*at, i, family), mutants)
                chosen[i] = self._choose(number, make(self.amount), chosen[i])
        return chosen

    def _choose(self, number: int, mutated: Operand, unchanged: Operand) -> Array:
        return lax.select(self.number == number, mutated, unchanged)

    def swapped(self, kind: str, leaves: list[Any], count: int) -> list[Array]:
        """The first `count` leaves, in which a mutant swaps two of one shape and dtype."""
        out = list(leaves)
        for j in range(count):
            for i in range(j):
                a, b = leaves[i], leaves[j]
                if (a.shape, a.dtype) != (b.shape, b.dtype) or a.size == 0:
                    continue
                mutant = Mutant("swapped", kind, f"{kind}s {i} and {j}")
                number = self.mutants.register((kind, i, j), [(mutant, 0.0)])
                out[i], out[j] = (
                    self._choose(number, b, out[i]),
                    self._choose(number, a, out[j]),
                )
        return out


def _used(closed: ClosedJaxpr) -> set[jex.Var]:
    """The inputs of a jaxpr that any equation reads."""
    read = {v for eqn in closed.jaxpr.eqns for v in eqn.invars if not isinstance(v, jex.Literal)}
    return read & set(closed.jaxpr.invars)


def _positions(closed: ClosedJaxpr) -> Iterator[Position]:
    for i, eqn in enumerate(closed.jaxpr.eqns):
        yield (i,)
        for value in eqn.params.values():
            if isinstance(value, jex.ClosedJaxpr):
                yield from ((i, *p) for p in _positions(value))


def source_of(eqn: Equation) -> str:
    """File and line of the innermost frame that is not JAX's, "" where there is none.

    >>> source_of(jax.make_jaxpr(jnp.sin)(1.0).eqns[0])
    ''
    """
    traceback = eqn.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if not frame.file_name.startswith((_JAX, "<")):
            return f"{frame.file_name}:{frame.line_num}"
    return ""
