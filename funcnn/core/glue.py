"""The backward pass of what stands between the parts of a composite, by hand.

Sums, products, exponentials, concatenations, and what moves numbers: an equation of each, and the
cotangents of its operands from that of its result. Whatever else stands there is refused by name
and place, so that no gradient is ever wrong in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.types import Array, Atom, Aval, ClosedJaxpr, Equation, Jaxpr, PyTree

# (equation, values of its operands, cotangents of its results) -> cotangents of its operands.
Pull = Callable[[Equation, Sequence[Any], Sequence[Any]], Sequence[Any]]
# Where an equation was written, "" where that is not known.
Place = Callable[[Equation], str]

_CALLS = ("jit", "pjit")
# The equations whose backward pass asks for the values of their operands.
_NEEDS_VALUES = frozenset(("mul", "div", "exp", "select_n", *_CALLS))


class Sweep:
    """One program taken back: the cotangents of its variables, from the outputs to the inputs.

    Args:
        program: the program; `check_glue` has found nothing in it to refuse.
        args: its arguments.
        moving: for each of them, whether a cotangent is asked for.

    >>> program = jax.make_jaxpr(lambda a, b: 3 * a * b)(1.0, 1.0)
    >>> sweep = Sweep(program, [2.0, 5.0], [True, True])
    >>> sweep.give(program.jaxpr.outvars[0], jnp.ones(()))
    >>> sweep.back(program.jaxpr.eqns)
    >>> [float(sweep.cotangent(v)) for v in program.jaxpr.invars]
    [15.0, 6.0]
    """

    def __init__(self, program: ClosedJaxpr, args: Sequence[Any], moving: Sequence[bool]):
        self.moving = moving_variables(program.jaxpr, moving)
        self._values = _values(program, args, self.moving)
        self._cotangents: dict[Atom, Any] = {}

    def give(self, atom: Atom, dy: PyTree) -> None:
        """A further use of a variable adds its cotangent; None adds nothing."""
        if dy is None or isinstance(atom, jex.Literal) or atom not in self.moving:
            return
        before = self._cotangents.get(atom)
        self._cotangents[atom] = dy if before is None else before + dy

    def cotangent(self, atom: Atom) -> PyTree:
        """That of a variable: zeros where nothing used it, None for integers."""
        aval: Aval = atom.aval
        if not jnp.issubdtype(aval.dtype, jnp.inexact):
            return None
        found = None if isinstance(atom, jex.Literal) else self._cotangents.get(atom)
        return jnp.zeros(aval.shape, aval.dtype) if found is None else found

    def back(self, equations: Iterable[Equation]) -> None:
        """Takes equations back, the last one first; all that use their results have been."""
        for eqn in reversed(list(equations)):
            if not any(v in self._cotangents for v in eqn.outvars):
                continue
            dys = [self.cotangent(v) for v in eqn.outvars]
            x = [self._value(atom) for atom in eqn.invars]
            is_call = eqn.primitive.name in _CALLS
            dxs = self._call(eqn, x, dys) if is_call else _PULLS[eqn.primitive.name](eqn, x, dys)
            for atom, dx in zip(eqn.invars, dxs, strict=True):
                self.give(atom, None if dx is None else _of_shape(atom.aval, dx))

    def _call(self, eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
        """A call is taken back as the program that it wraps."""
        inner: ClosedJaxpr = eqn.params["jaxpr"]
        sweep = Sweep(inner, x, which(eqn.invars, self.moving))
        for atom, dy in zip(inner.jaxpr.outvars, dys, strict=True):
            sweep.give(atom, dy)
        sweep.back(inner.jaxpr.eqns)
        return [sweep.cotangent(v) for v in inner.jaxpr.invars]

    def _value(self, atom: Atom) -> PyTree:
        if isinstance(atom, jex.Literal):
            aval: Aval = atom.aval
            return jnp.asarray(atom.val, aval.dtype)
        return self._values.get(atom)


def moving_variables(jaxpr: Jaxpr, moving: Sequence[bool]) -> set[Atom]:
    """The variables that have a cotangent: floats that depend on one of the inputs that have.

    >>> program = jax.make_jaxpr(lambda x, n: (x + 1, n + 1, x > 0))(1.0, 2)
    >>> len(moving_variables(program.jaxpr, [True, True]))
    2
    """
    found: set[Atom] = {v for v, m in zip(jaxpr.invars, moving, strict=True) if m and is_float(v)}
    for eqn in jaxpr.eqns:
        if _moves(eqn, found):
            found |= set(filter(is_float, eqn.outvars))
    return found


def check_glue(name: str, program: ClosedJaxpr, moving: Sequence[bool], place: Place) -> None:
    """A TypeError that names the first operation without a hand-derived backward pass.

    >>> check_glue("net", jax.make_jaxpr(jnp.sin)(1.0), [True], lambda eqn: "linear.py:3")
    Traceback (most recent call last):
    TypeError: net: sin at linear.py:3 has no hand-derived backward pass there: make it ...
    """
    found = moving_variables(program.jaxpr, moving)
    for eqn in program.jaxpr.eqns:
        if not (_moves(eqn, found) and any(map(is_float, eqn.outvars))):
            continue
        if eqn.primitive.name in _CALLS:
            # What is inside was perhaps traced elsewhere, and knows another place.
            inside = which(eqn.invars, found)
            check_glue(name, eqn.params["jaxpr"], inside, lambda _, call=eqn: place(call))
        elif eqn.primitive.name not in _PULLS:
            where = place(eqn)
            raise TypeError(
                f"{name}: {_said(eqn)}{f' at {where}' if where else ''} has no hand-derived "
                "backward pass there: make it a part, from a rule (fnn.layer_from_rule), or use "
                "jax.grad"
            )


def _said(eqn: Equation) -> str:
    """The name of an operation; that of a function with a rule stands in the call inside it."""
    inside: ClosedJaxpr | None = eqn.params.get("call_jaxpr")
    names = [e.params["name"] for e in inside.jaxpr.eqns if "name" in e.params] if inside else []
    return names[0] if names else eqn.primitive.name


def _moves(eqn: Equation, moving: set[Atom]) -> bool:
    return any(which(eqn.invars, moving))


def which(atoms: Sequence[Atom], moving: Collection[Atom]) -> list[bool]:
    """For each atom, whether it is one of these variables; a literal is none."""
    return [not isinstance(atom, jex.Literal) and atom in moving for atom in atoms]


def is_float(atom: Atom) -> bool:
    """Whether a variable is of floating point, and so may have a cotangent."""
    aval: Aval = atom.aval
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _values(program: ClosedJaxpr, args: Sequence[Any], moving: set[Atom]) -> dict[Atom, Any]:
    """The values that the backward pass asks for, from one run of the program."""
    jaxpr = program.jaxpr
    asked = [e for e in jaxpr.eqns if e.primitive.name in _NEEDS_VALUES and _moves(e, moving)]
    wanted = dict.fromkeys(v for e in asked for v in e.invars if not isinstance(v, jex.Literal))
    computed = jex.ClosedJaxpr(jaxpr.replace(outvars=list(wanted)), program.consts)
    return dict(zip(wanted, jex.jaxpr_as_fun(computed)(*args), strict=True)) if wanted else {}


def _of_shape(aval: Aval, dx: Array) -> Array:
    """A scalar beside an array stands for all of its elements, and gets the sum of what they do."""
    return jnp.sum(dx) if not aval.shape else dx


def _concatenate(eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
    axis = eqn.params["dimension"]
    ends = np.cumsum([_shape(v)[axis] for v in eqn.invars])
    return jnp.split(dys[0], ends[:-1].tolist(), axis)


def _broadcast(eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
    """The sum over the axes along which an operand was repeated."""
    axes, shape = eqn.params["broadcast_dimensions"], _shape(eqn.invars[0])
    kept = {axis for axis, size in zip(axes, shape, strict=True) if size == dys[0].shape[axis]}
    summed = tuple(axis for axis in range(dys[0].ndim) if axis not in kept)
    return [jnp.sum(dys[0], summed).reshape(shape)]


def _sum(eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
    shape, axes = _shape(eqn.invars[0]), eqn.params["axes"]
    return [jnp.broadcast_to(jnp.expand_dims(dys[0], axes), shape)]


def _slice(eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
    """Zeros where the slice did not look."""
    shape, starts = _shape(eqn.invars[0]), eqn.params["start_indices"]
    strides = eqn.params["strides"] or (1,) * len(shape)
    seen = [max(0, (n - 1) * stride + 1) for n, stride in zip(dys[0].shape, strides, strict=True)]
    around = [
        (start, size - start - n, stride - 1)
        for start, size, n, stride in zip(starts, shape, seen, strides, strict=True)
    ]
    return [jax.lax.pad(dys[0], jnp.zeros((), dys[0].dtype), around)]


def _select(eqn: Equation, x: Sequence[Any], dys: Sequence[Any]) -> Sequence[Any]:
    """Each case gets the cotangent of the elements that were taken from it."""
    which, zero = x[0].astype(int), jnp.zeros_like(dys[0])
    return [None, *(jnp.where(which == i, dys[0], zero) for i in range(len(x) - 1))]


def _shape(atom: Atom) -> tuple[int, ...]:
    aval: Aval = atom.aval
    return tuple(aval.shape)


_PULLS: dict[str, Pull] = {
    "add": lambda eqn, x, dys: [dys[0], dys[0]],
    "sub": lambda eqn, x, dys: [dys[0], -dys[0]],
    "neg": lambda eqn, x, dys: [-dys[0]],
    "mul": lambda eqn, x, dys: [dys[0] * x[1], dys[0] * x[0]],
    "div": lambda eqn, x, dys: [dys[0] / x[1], -dys[0] * (x[0] / x[1]) / x[1]],
    "exp": lambda eqn, x, dys: [dys[0] * jnp.exp(x[0])],
    "select_n": _select,
    "concatenate": _concatenate,
    "split": lambda eqn, x, dys: [jnp.concatenate(dys, eqn.params["axis"])],
    "stack": lambda eqn, x, dys: list(jnp.moveaxis(dys[0], eqn.params["axis"], 0)),
    "slice": _slice,
    "reduce_sum": _sum,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda eqn, x, dys: [dys[0].reshape(_shape(eqn.invars[0]))],
    "squeeze": lambda eqn, x, dys: [dys[0].reshape(_shape(eqn.invars[0]))],
    "transpose": lambda eqn, x, dys: [dys[0].transpose(np.argsort(eqn.params["permutation"]))],
    "rev": lambda eqn, x, dys: [jax.lax.rev(dys[0], eqn.params["dimensions"])],
    "copy": lambda eqn, x, dys: [dys[0]],
    "convert_element_type": lambda eqn, x, dys: [dys[0].astype(_dtype(eqn.invars[0]))],
    "stop_gradient": lambda eqn, x, dys: [None],
}


def _dtype(atom: Atom) -> Any:
    aval: Aval = atom.aval
    return aval.dtype
