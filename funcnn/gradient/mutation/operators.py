"""What a mutant may change about one equation: usual mistakes, and small ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnn.gradient.program.float64 import is_float
from funcnn.types import Array, ArrayLike, Equation

Operand = Array | np.ndarray  # a constant may be one of NumPy
# A family that shares one choice in the program: its name, its mutants (what they do, and by which
# amount), and what it makes of an amount.
Change = tuple[str, list[tuple[str, float]], Callable[[Array], Operand]]

SCALED = 1.001  # the scale that is listed as a mutant; smaller ones are tried by `mutation_score`
_CONSTANT = 1e-3
_REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"})
_MOVES = frozenset({"transpose", "rev"})


def changes(out: Array) -> Iterator[Change]:
    """What may happen to any output of an equation.

    >>> [[what for what, _ in listed] for _, listed, _ in changes(jnp.array([True]))]
    [['not'], ['false']]
    """

    def full(value: ArrayLike) -> Array:
        # Not by jax.numpy: it would widen what is weakly typed.
        return lax.full_like(out, value)

    if is_float(out):
        scales = [(f"times {SCALED}", SCALED), ("times -1", -1.0)]
        yield "times", scales, lambda amount: lax.mul(out, full(amount))
        yield "zero", [("zero", 0.0)], lambda _: full(0)
        yield "plus", [(f"plus {_CONSTANT}", _CONSTANT)], lambda a: lax.add(out, full(a))
        # As if a cast to the accumulating dtype had been left out.
        yield "cast", [("in bfloat16", 0.0)], lambda _: lax.reduce_precision(out, 8, 7)
    elif out.dtype == jnp.bool_:
        yield "not", [("not", 0.0)], lambda _: lax.bitwise_not(out)
        yield "zero", [("false", 0.0)], lambda _: full(False)
    elif jnp.issubdtype(out.dtype, jnp.integer):
        yield "plus", [("plus 1", 0.0)], lambda _: lax.add(out, full(1))
        yield "zero", [("zero", 0.0)], lambda _: full(0)


def structural_changes(eqn: Equation, operands: list[Operand], out: Array) -> Iterator[Change]:
    """What may happen to a reduction, a product or a transposition alone.

    >>> import jax
    >>> x = jnp.ones((2, 2))
    >>> (eqn,) = jax.make_jaxpr(jnp.transpose)(x).eqns
    >>> [[what for what, _ in listed] for _, listed, _ in structural_changes(eqn, [x], x)]
    [['left out']]
    """
    name, params = eqn.primitive.name, eqn.params
    if name in _REDUCTIONS and (n := _length(operands[0], params["axes"])) > 1:
        yield "first", [("first slice only", 0.0)], lambda _: _first(operands[0], params["axes"])
        if name == "reduce_sum" and is_float(out):
            yield "mean", [("mean for sum", 0.0)], lambda _: lax.div(out, lax.full_like(out, n))
    if name in _MOVES and operands[0].shape == out.shape:
        yield "unmoved", [("left out", 0.0)], lambda _: operands[0]
    if name == "dot_general":
        axes, _ = params["dimension_numbers"]
        if _length(operands[0], axes[0]) > 1:
            cut = [_kept(x, a) for x, a in zip(operands, axes, strict=True)]
            yield (
                "first",
                [("first product only", 0.0)],
                lambda _: eqn.primitive.bind(*cut, **params),
            )


def _length(operand: Operand, axes: Sequence[int]) -> int:
    return math.prod(operand.shape[a] for a in axes)


def _first(operand: Operand, axes: Sequence[int]) -> Operand:
    return operand[tuple(0 if a in axes else slice(None) for a in range(operand.ndim))]


def _kept(operand: Operand, axes: Sequence[int]) -> Operand:
    """The operand with the axes cut to length 1, of which the first element is kept."""
    return operand[tuple(slice(1) if a in axes else slice(None) for a in range(operand.ndim))]
