"""Evaluating a jaxpr equation by equation, so that something may be changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.extend.core as jex
import numpy as np

from funcnn.gradient.program.jaxprs import bind, closed, manual_axes
from funcnn.types import Array, Atom, Aval, ClosedJaxpr, Equation, Jaxpr


class Evaluation:
    """`evaluation(program, leaves) -> outputs`: the program as it is, loops and branches included.

    A subclass says what happens to a number of the program, to an equation, or to a parameter of
    one; what stands inside a loop or a branch is traced again with the same changes.

    >>> import jax.numpy as jnp
    >>> program = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(0.0)
    >>> Evaluation()(program, [0.0])
    [Array(1., dtype=float32, weak_type=True)]
    """

    def __call__(self, program: Jaxpr | ClosedJaxpr, leaves: Sequence[Any]) -> list[Any]:
        """The outputs of a jaxpr, open or closed, at its inputs."""
        whole = closed(program)
        jaxpr = whole.jaxpr
        values: dict[Any, Any] = {}
        values.update(zip(jaxpr.constvars, map(self.constant, whole.consts), strict=True))
        values.update(zip(jaxpr.invars, leaves, strict=True))

        def read(atom: Atom) -> Any:
            return self.literal(atom) if isinstance(atom, jex.Literal) else values[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            outs = self.at(i, eqn).equation(eqn, [read(v) for v in eqn.invars])
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def at(self, number: int, eqn: Equation) -> Self:
        """What evaluates the equation of this number: another one that knows where it is."""
        return self

    def literal(self, atom: jex.Literal) -> Any:
        """The value of a number that is written in the program."""
        return atom.val

    def constant(self, x: Array | np.ndarray) -> Any:
        """The value of an array that is part of the program."""
        return x

    def shape(self, aval: Aval) -> jax.ShapeDtypeStruct:
        """What an input of an inner program is traced with."""
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type, **where(aval))

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """The outputs of one equation at its operands."""
        if eqn.primitive.name == "shard_map":
            return self._mapped(eqn, x)
        return bind(eqn, x, {k: self.parameter(v) for k, v in eqn.params.items()})

    def _mapped(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """The axes of a shard_map are bound inside it alone: what stands there is traced there."""
        inner, params = closed(eqn.params["jaxpr"]), eqn.params
        run = jax.shard_map(
            lambda *x: tuple(self(inner, x)),
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=tuple(params["out_specs"]),
            axis_names=manual_axes(params),
            check_vma=params["check_vma"],
        )
        return list(run(*x))

    def parameter(self, value: Any) -> Any:
        """A parameter of an equation: inner programs are traced again."""
        if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
            inner = closed(value)
            again = jax.make_jaxpr(lambda *leaves: self(inner, leaves))(
                *map(self.shape, inner.in_avals)
            )
            return again if isinstance(value, jex.ClosedJaxpr) else again.jaxpr
        if isinstance(value, tuple):
            items = list(map(self.parameter, value))
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value


def where(aval: Aval) -> dict[str, Any]:
    """Over which axes of a shard_map a value varies, for the shape to trace with in its place.

    >>> where(jax.typeof(1.0))
    {}
    """
    varies = getattr(aval, "mat", None)
    if varies is None or not varies.varying:
        return {}
    return {"manual_axis_type": varies, "sharding": getattr(aval, "sharding", None)}
