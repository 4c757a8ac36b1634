"""Evaluating a jaxpr equation by equation, so that something may be changed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from funcnn.gradient.program.jaxprs import closed
from funcnn.types import Array, ArrayLike, Atom, Aval, ClosedJaxpr, Equation, Jaxpr


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

        def read(atom: Atom) -> ArrayLike:
            return self.literal(atom) if isinstance(atom, jex.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            outs = self.equation(eqn, [read(v) for v in eqn.invars])
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def literal(self, atom: jex.Literal) -> ArrayLike:
        """The value of a number that is written in the program."""
        return atom.val

    def constant(self, x: Array | np.ndarray) -> ArrayLike:
        """The value of an array that is part of the program."""
        return x

    def shape(self, aval: Aval) -> jax.ShapeDtypeStruct:
        """What an input of an inner program is traced with."""
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """The outputs of one equation at its operands."""
        return self.bind(eqn, x, {k: self.parameter(v) for k, v in eqn.params.items()})

    def bind(self, eqn: Equation, x: list[Any], params: dict[str, Any]) -> list[Any]:
        """Run the primitive of an equation, in its place and under its scopes."""
        outs = eqn.primitive.bind(*x, **eqn.primitive.get_bind_params(params))
        return list(outs) if eqn.primitive.multiple_results else [outs]

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
