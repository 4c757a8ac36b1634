"""What stands between the calls of the parts, as one program, and the way back through it.

The program takes x and what each call returned, and returns what each call was given, and y. So dy
gives the cotangent of what the last call returned, the part's own backward pass that of what it was
given, and so on to the first call and to x.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from funcnn.core.glue import Place, Sweep, check_glue, is_float, which
from funcnn.core.layer import Layer
from funcnn.core.parts import Paths, by_path, step_back
from funcnn.types import Atom, ClosedJaxpr, Equation, Jaxpr, Params, PyTree, Residuals


@dataclasses.dataclass(frozen=True)
class Between:
    """The program, (x, (what each call returned, ...), key) -> ([what each was given, ...], y).

    Attributes:
        program: the program itself.
        calls: the name of each call, in their order, and of its part.
        given, y: the shapes of what it returns.
    """

    program: ClosedJaxpr
    calls: Mapping[str, str]
    given: Sequence[PyTree]
    y: PyTree

    def check(self, name: str, place: Place) -> None:
        """A TypeError that names the first operation without a hand-derived backward pass."""
        check_glue(name, self.program, self._are_floats(), place)

    def back(
        self,
        parts: Mapping[str, Layer],
        params: Params,
        args: tuple[PyTree, ...],
        kept: Sequence[Residuals],
        dy: PyTree,
    ) -> tuple[Params, PyTree, Paths]:
        """The recursion: the gradients of the parts' params, dx, and the deltas by path.

        Args:
            parts, params: those of the composite.
            args: those of the program.
            kept: the residuals of each call.
            dy: the cotangent of y.
        """
        x, ys, _ = args
        jaxpr = self.program.jaxpr
        sweep = Sweep(self.program, jax.tree.leaves(args), self._are_floats())
        of_x, *of_ys = _shared_out(jaxpr.invars, [x, *ys])
        *of_given, of_y = _shared_out(jaxpr.outvars, [*self.given, self.y])
        for atom, leaf in zip(of_y, jax.tree.structure(self.y).flatten_up_to(dy), strict=True):
            sweep.give(atom, leaf)
        after = _after_calls(jaxpr, of_ys)
        taken: dict[str, tuple[Params, Paths]] = {}
        # From the last call to the first: what comes after it, then the call itself.
        for i, (call, name) in reversed(list(enumerate(self.calls.items()))):
            sweep.back(after[i + 1])
            delta = _cotangents(sweep, of_ys[i], ys[i])
            dx, taken[call] = step_back(name, parts[name], params, kept[i], delta)
            _give_input(sweep, name, of_given[i], dx)
        sweep.back(after[0])
        dparams = self._of_parts(params, {call: own for call, (own, _) in taken.items()})
        deltas = by_path({call: of_call for call, (_, of_call) in taken.items()})
        return dparams, _cotangents(sweep, of_x, x), deltas

    def _are_floats(self) -> list[bool]:
        return list(map(is_float, self.program.jaxpr.invars))

    def _of_parts(self, params: Params, taken: Mapping[str, Params]) -> Params:
        """The gradient of each part's parameters: the sum over its calls, zeros without any."""
        found: Params = {}
        for call, own in taken.items():
            name = self.calls[call]
            found[name] = jax.tree.map(jnp.add, found[name], own) if name in found else own
        zeros = jax.tree.map(jnp.zeros_like, {n: p for n, p in params.items() if n not in found})
        return {name: {**zeros, **found}[name] for name in params}


def _shared_out(variables: Sequence[Atom], trees: Sequence[PyTree]) -> list[list[Atom]]:
    """The variables of each tree; those that are left over belong to none."""
    left = iter(variables)
    return [[next(left) for _ in jax.tree.leaves(tree)] for tree in trees]


def _after_calls(jaxpr: Jaxpr, of_ys: Sequence[Sequence[Atom]]) -> list[list[Equation]]:
    """The equations that depend on the call of this number, from 1, and on no later one.

    Those of 0 depend on x alone. What a call is given depends on earlier calls alone.
    """
    call_of: dict[Atom, int] = {v: i + 1 for i, of_y in enumerate(of_ys) for v in of_y}
    after: list[list[Equation]] = [[] for _ in range(len(of_ys) + 1)]
    for eqn in jaxpr.eqns:
        seen = which(eqn.invars, call_of.keys())
        last = max([call_of[v] for v, s in zip(eqn.invars, seen, strict=True) if s], default=0)
        after[last].append(eqn)
        call_of |= dict.fromkeys(eqn.outvars, last)
    return after


def _cotangents(sweep: Sweep, atoms: Sequence[Atom], like: PyTree) -> PyTree:
    return jax.tree.unflatten(jax.tree.structure(like), map(sweep.cotangent, atoms))


def _give_input(sweep: Sweep, name: str, atoms: Sequence[Atom], dx: PyTree) -> None:
    """The cotangent that a part returned for its input; one of integers is None, as is theirs."""
    floats, leaves = [v for v in atoms if is_float(v)], jax.tree.leaves(dx)
    if len(floats) != len(leaves):
        raise TypeError(
            f"composite: the backward pass of {name} returns {len(leaves)} cotangents for an input "
            f"of {len(floats)} floating point arrays"
        )
    for atom, leaf in zip(floats, leaves, strict=True):
        sweep.give(atom, leaf)
