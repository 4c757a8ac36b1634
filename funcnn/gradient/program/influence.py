"""Which rules of a program a gradient depends on: those that run, are used, and are differentiated.

What is right about a gradient says nothing of a rule that it does not go through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.gradient.program.jaxprs import closed, inner_program, scan_layout, subprograms
from funcnn.gradient.program.operands import NOT_REACHED, visited
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.sites import Site, site_of, wrapped
from funcnn.gradient.program.without_rules import Program
from funcnn.types import Aval, ClosedJaxpr, Equation, Jaxpr

# Their derivative is zero, whatever it is that flows through them.
_FLAT = {"stop_gradient", "floor", "ceil", "round", "sign"}
# `Site.rule`.
_Rule = tuple[str, str, int]
_BRANCHING = {"branches", "body_jaxpr", "cond_jaxpr"}


def rules_never_run(program: Program) -> tuple[Site, ...]:
    """A site of each rule that stands in branches and loops which the arguments never enter.

    >>> import jax
    >>> import numpy as np
    >>> from funcnn.gradient.program.without_rules import trace
    >>> def f(x):
    ...     return jax.lax.cond(x[0] > 0, jax.nn.relu, lambda x: x, x)
    >>> [site.name for site in rules_never_run(trace(f, (np.array([-1.0], np.float32),), {}))]
    ['relu']
    """
    if not any(_BRANCHING & set(site.position) for site in sites(program.jaxpr)):
        return ()
    visits = visited(program)
    run = {v.site.rule for v in visits if not v.note.endswith(NOT_REACHED)}
    return tuple(_one_of_each((v.site for v in visits), run))


def rules_without_influence(program: Program) -> tuple[Site, ...]:
    """A site of each rule with which no output varies, so that no gradient goes through it.

    Its value is not used, or only to compare, to count or to round.

    What was differentiated inside a function is such: jax.grad has called its backward pass, whose
    equations stand there like any others.

    >>> import jax
    >>> from funcnn.gradient.program.without_rules import trace
    >>> slope = jax.grad(jax.nn.relu)
    >>> [site.name for site in rules_without_influence(trace(slope, (1.0,), {}))]
    ['relu']
    """
    every, jaxpr, read = sites(program.jaxpr), program.jaxpr.jaxpr, _Read()
    if every:
        read.through(jaxpr, [True] * len(jaxpr.outvars))
    return tuple(_one_of_each(every, read.rules))


def rules_not_differentiated(program: Program, leaves: Collection[int]) -> tuple[Site, ...]:
    """A site of each rule none of whose operands depends on these leaves of the program.

    >>> import jax
    >>> import numpy as np
    >>> from funcnn.gradient.program.without_rules import trace
    >>> program = trace(lambda x, w: x * jax.nn.relu(w), (np.ones(2), np.ones(2)), {})
    >>> [[site.name for site in rules_not_differentiated(program, {i})] for i in (0, 1)]
    [['relu'], []]
    """
    every, jaxpr = sites(program.jaxpr), program.jaxpr.jaxpr
    moved = _Moved()
    if every:
        moved.through(jaxpr, [i in leaves for i in range(len(jaxpr.invars))])
    return tuple(_one_of_each(every, moved.rules))


def rules_not_compared(
    program: Program, leaves: Collection[int], known: Sequence[Site]
) -> Iterator[tuple[Site, str]]:
    """A site of each rule of which the gradient by these leaves says nothing, and why.

    Args:
        program: with its rules.
        leaves: those of its inputs that are differentiated.
        known: sites whose rule was judged by itself.

    >>> import jax
    >>> import numpy as np
    >>> from funcnn.gradient.program.without_rules import trace
    >>> program = trace(lambda x, w: x * jax.nn.relu(w), (np.ones(2), np.ones(2)), {})
    >>> [why for _, why in rules_not_compared(program, {0}, [])]
    ['no leaf that is differentiated goes through it']
    """
    known_rules = {site.rule for site in known}
    reasons = {
        "its value reaches no result that varies with it; where it was differentiated inside, "
        "give what calls it before that": rules_without_influence(program),
        "these arguments never run it": rules_never_run(program),
        "no leaf that is differentiated goes through it": rules_not_differentiated(program, leaves),
    }
    for why, rules in reasons.items():
        for site in rules:
            if site.rule not in known_rules:
                known_rules.add(site.rule)
                yield site, why


def operands_differentiated(
    program: Program, leaves: Collection[int]
) -> Callable[[Equation], set[int] | None]:
    """`equation of a site -> which of its operands depend on these leaves`; None where unknown.

    A rule need not know the derivative by what nobody differentiates: labels, masks, temperatures.

    >>> import jax
    >>> import numpy as np
    >>> from funcnn.gradient.program.without_rules import trace
    >>> f = jax.custom_jvp(lambda x, w: x * w)
    >>> _ = f.defjvp(lambda xs, vs: (xs[0] * xs[1], vs[0] * xs[1] + xs[0] * vs[1]))
    >>> program = trace(f, (np.ones(2), np.ones(2)), {})
    >>> operands_differentiated(program, {1})(program.jaxpr.eqns[0])
    {1}
    """
    moved, inputs = _Moved(), range(len(program.jaxpr.jaxpr.invars))
    moved.through(program.jaxpr.jaxpr, [i in leaves for i in inputs])
    return lambda eqn: moved.operands.get(id(eqn))


def _varies(aval: Aval) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _one_of_each(every: Sequence[Site] | Iterator[Site], but: Collection[_Rule]) -> Iterator[Site]:
    """The last site of each rule that is none of some."""
    by_rule = {site.rule: site for site in every}
    return (site for rule, site in by_rule.items() if rule not in but)


def _rules_inside(eqn: Equation) -> set[_Rule]:
    """The rules that an equation is, and that stand inside of it."""
    site = site_of(eqn)
    inside = [closed(wrapped(eqn))] if site else list(map(closed, subprograms(eqn)))
    return ({site.rule} if site else set()) | {s.rule for one in inside for s in sites(one)}


class _Read:
    """The rules through which the gradient of some outputs goes, from these backwards."""

    def __init__(self) -> None:
        self.rules: set[_Rule] = set()

    def through(self, jaxpr: Jaxpr, wanted: Sequence[bool]) -> list[bool]:
        """Which inputs of a jaxpr the gradient of some of its outputs reaches."""
        outs = zip(jaxpr.outvars, wanted, strict=True)
        needed = {v for v, want in outs if want and not isinstance(v, jex.Literal)}
        for eqn in reversed(jaxpr.eqns):
            asked = [v in needed and _varies(v.aval) for v in eqn.outvars]
            if any(asked) and eqn.primitive.name not in _FLAT:
                ins = zip(eqn.invars, self._equation(eqn, asked), strict=True)
                needed |= {v for v, read in ins if read and not isinstance(v, jex.Literal)}
        return [v in needed for v in jaxpr.invars]

    def _equation(self, eqn: Equation, asked: list[bool]) -> list[bool]:
        call, name = inner_program(eqn), eqn.primitive.name
        if call:
            return self.through(call[1].jaxpr, asked)
        if name == "cond":
            branches = [self.through(closed(b).jaxpr, asked) for b in eqn.params["branches"]]
            return [False, *(any(column) for column in zip(*branches, strict=True))]
        if name == "scan":
            constants, carried = scan_layout(eqn)
            if not eqn.params["length"]:
                rows = len(eqn.invars) - constants - carried
                return [False] * constants + asked[:carried] + [False] * rows
            return self._loop(closed(eqn.params["jaxpr"]), asked, constants, carried)
        if name == "while":
            n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
            body = closed(eqn.params["body_jaxpr"])
            return [False] * n + self._loop(body, asked, m, len(asked))
        self.rules |= _rules_inside(eqn)
        return [True] * len(eqn.invars)

    def _loop(
        self, body: ClosedJaxpr, asked: list[bool], constants: int, carried: int
    ) -> list[bool]:
        """Until a step back reaches nothing that the one before has not."""
        while True:
            reads = self.through(body.jaxpr, asked)
            carry = reads[constants : constants + carried]
            more = [a or b for a, b in zip(asked, carry, strict=False)]
            if more == asked[:carried]:
                return reads
            asked = more + asked[carried:]


class _Moved:
    """The rules whose operands change where some inputs of a program do."""

    def __init__(self) -> None:
        self.rules: set[_Rule] = set()
        self.operands: dict[int, set[int]] = {}  # of each site, by the identity of its equation

    def through(self, jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
        """Which outputs of a jaxpr change where some of its inputs do."""
        changed = {v for v, moves in zip(jaxpr.invars, inputs, strict=True) if moves}
        for eqn in jaxpr.eqns:
            moves = [not isinstance(v, jex.Literal) and v in changed for v in eqn.invars]
            inside = site_of(eqn) is not None or any(True for _ in subprograms(eqn))
            if (any(moves) and eqn.primitive.name not in _FLAT) or inside:
                outs = zip(eqn.outvars, self._equation(eqn, moves), strict=True)
                changed |= {v for v, moves in outs if moves and _varies(v.aval)}
        return [not isinstance(v, jex.Literal) and v in changed for v in jaxpr.outvars]

    def _equation(self, eqn: Equation, moves: list[bool]) -> list[bool]:
        call, name = inner_program(eqn), eqn.primitive.name
        if site_of(eqn) is not None:
            moved = {i for i, moves_too in enumerate(moves) if moves_too}
            self.operands.setdefault(id(eqn), set()).update(moved)
        if call:
            return self.through(call[1].jaxpr, moves)
        if name == "cond":
            branches = [self.through(closed(b).jaxpr, moves[1:]) for b in eqn.params["branches"]]
            return [any(column) for column in zip(*branches, strict=True)]
        if name == "scan" and eqn.params["length"]:
            return self._loop(closed(eqn.params["jaxpr"]), moves, *scan_layout(eqn))
        if name == "while":
            n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
            body = closed(eqn.params["body_jaxpr"])
            return self._loop(body, moves[n:], m, len(moves) - n - m)
        if any(moves) and name != "scan":
            self.rules |= _rules_inside(eqn)
        return [any(moves)] * len(eqn.outvars)

    def _loop(
        self, body: ClosedJaxpr, moves: list[bool], constants: int, carried: int
    ) -> list[bool]:
        """Until a step changes nothing that the one before has not."""
        while True:
            outs = self.through(body.jaxpr, moves)
            carry = moves[constants : constants + carried]
            more = [a or b for a, b in zip(carry, outs, strict=False)]
            if more == carry:
                return outs
            moves = [*moves[:constants], *more, *moves[constants + carried :]]
