"""What a forward pass keeps for its backward pass, in bytes, by what it costs to keep it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.gradient.program.jaxprs import inner_program, live
from funcnn.types import ArrayLike, Atom, Aval, Equation, Function, Jaxpr, PyTree

# These give an array another shape; the numbers stay where they are.
_SAME_NUMBERS = frozenset({"reshape", "squeeze", "expand_dims", "copy", "optimization_barrier"})


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The bytes that a forward pass keeps for the backward pass.

    Attributes:
        argument: of arguments, which the caller holds anyway.
        output: of results, which the next layer holds anyway.
        extra: of anything else.
        dead: of those extra bytes, what the backward pass does not use.
        wide: of those extra bytes, what is in a wider dtype than any argument or result.

    >>> Ledger(argument=8, extra=4).total
    12
    """

    argument: int = 0
    output: int = 0
    extra: int = 0
    dead: int = 0
    wide: int = 0

    @property
    def total(self) -> int:
        """All bytes, those of arguments and results included."""
        return self.argument + self.output + self.extra

    def __str__(self) -> str:
        return (
            f"{self.total} bytes: {self.argument} of arguments, {self.output} of results, "
            f"{self.extra} extra, {self.dead} of these dead, {self.wide} wide"
        )


def ledger(f: Function, args: Sequence[Any], chosen: Sequence[int] = ()) -> Ledger:
    """What `f` keeps for the gradient by some of its arguments; nothing is computed.

    The same array kept twice counts once; a reshaped argument is that argument. Numbers that are
    part of the program count nothing.

    Args:
        f: a function of arrays; its floating-point results are differentiated.
        args: its arguments, or their shapes.
        chosen: which of them to differentiate, by default all.

    >>> print(ledger(lambda x: jnp.sin(jnp.cos(x)), [jnp.ones(3)]))
    24 bytes: 0 of arguments, 0 of results, 24 extra, 0 of these dead, 0 wide
    """
    chosen = tuple(chosen) or tuple(range(len(args)))
    tree: list[Any] = []

    def forward(*values: ArrayLike) -> tuple[list[Any], list[Any]]:
        def of_chosen(*inner: ArrayLike) -> list[Any]:
            filled = list(values)
            for i, value in zip(chosen, inner, strict=True):
                filled[i] = value
            return _floats(f(*filled))

        y, pull = jax.vjp(of_chosen, *(values[i] for i in chosen))
        leaves, structure = jax.tree.flatten(pull)
        tree[:] = [structure]
        return y, leaves

    program, (y, kept) = jax.make_jaxpr(forward, return_shape=True)(*args)

    def backward(leaves: list[Any], dys: list[Any]) -> PyTree:
        return jax.tree.unflatten(tree[0], leaves)(dys)

    pulled = jax.make_jaxpr(backward)(kept, y).jaxpr
    used = live(pulled, [True] * len(pulled.outvars))[1][: len(kept)]
    return _sorted_out(program.jaxpr, len(y), used)


def _sorted_out(jaxpr: Jaxpr, results: int, used: list[bool]) -> Ledger:
    """The ledger of a jaxpr that returns its results and then what it keeps."""
    made_by = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    outvars = [v if isinstance(v, jex.Literal) else _root(v, made_by) for v in jaxpr.outvars]
    inputs, outputs = set(jaxpr.invars), {v for v in outvars[:results] if _is_var(v)}
    needed: dict[Any, bool] = {}
    for v, use in zip(outvars[results:], used, strict=True):
        if _is_var(v) and v not in set(jaxpr.constvars):
            needed[v] = needed.get(v, False) or use
    widest = max((_width(v) for v in [*inputs, *outputs]), default=math.inf)
    sums = dict.fromkeys(("argument", "output", "extra", "dead", "wide"), 0)
    for v, use in needed.items():
        kind = "argument" if v in inputs else "output" if v in outputs else "extra"
        size = _bytes(v.aval)
        sums[kind] += size
        if kind == "extra":
            sums["dead"] += 0 if use else size
            sums["wide"] += size if _width(v) > widest else 0
    return Ledger(**sums)


def _root(v: jex.Var, made_by: dict[jex.Var, Equation]) -> jex.Var:
    """The variable whose numbers these are: through reshapes, and through calls that pass it on."""
    while v in made_by:
        eqn = made_by[v]
        inner = inner_program(eqn)
        if eqn.primitive.name in _SAME_NUMBERS:
            source = eqn.invars[eqn.outvars.index(v)]
        elif inner:
            source = _passed_on(inner[1].jaxpr, eqn, eqn.outvars.index(v))
        else:
            return v
        if not _is_var(source):
            return v
        v = source
    return v


def _passed_on(inner: Jaxpr, eqn: Equation, index: int) -> Atom | None:
    """The operand of a call that is its output of that index; None where it is computed inside."""
    out = inner.outvars[index]
    if not _is_var(out):
        return None
    root = _root(out, {v: e for e in inner.eqns for v in e.outvars})
    return eqn.invars[inner.invars.index(root)] if root in inner.invars else None


def _is_var(atom: Atom | None) -> TypeGuard[jex.Var]:
    return isinstance(atom, jex.Var)


def _floats(tree: PyTree) -> list[Any]:
    return [y for y in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(y), jnp.floating)]


def _width(v: jex.Var) -> int:
    aval: Aval = v.aval
    return aval.dtype.itemsize if jnp.issubdtype(aval.dtype, jnp.floating) else 0


def _bytes(aval: Aval) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize
