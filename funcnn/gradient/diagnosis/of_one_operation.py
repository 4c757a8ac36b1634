"""Mistakes made on purpose in the reference's own derivative, one operation at a time.

The reference is a chain of operations, each with its local derivative. Where one of them is left
out, doubled, or taken at another array, the whole gradient changes in a way of its own: what the
rule returned must be that. All these mistakes are in one compiled program; an argument says which.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.diagnosis.operations import named, operations
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import bind, filled, inside_call
from funcnn.types import Array, ClosedJaxpr, Equation, Function

# Their derivative needs the numbers, which may be others than the right ones.
_TAKES_VALUES = frozenset(
    {"mul", "div", "dot_general", "conv_general_dilated", "integer_pow", "pow", "exp", "log"}
    | {"tanh", "logistic", "sin", "cos", "sqrt", "rsqrt", "log1p", "expm1", "erf", "abs", "square"}
)
_MAY_BE_FORGOTTEN = _TAKES_VALUES | {"add", "sub", "select_n", "max", "min", "neg", "clamp"}
_TAKES_INDICES = frozenset({"gather", "dynamic_slice", "scatter-add", "scatter"})
# What is named first, where one number is on the path of many operations.
_PLAIN = ("add_any", "add", "sub", "mul", "div", "squeeze", "reshape", "copy", "neg")
_PLAIN += ("broadcast_in_dim", "convert_element_type", "transpose", "stop_gradient", "select_n")
_MOST_OPERATIONS = 80
_MOST_NUMBERS = 100_000
_MOST_OTHERS = 6  # arrays of the same shape that an operation may have taken for its own


@dataclasses.dataclass(frozen=True)
class Local:
    """One mistake in one operation.

    Attributes:
        kind: "scaled", where the amount is the factor; "left out", "twice", "other values",
            "other branch" or "other index"; "without", where the values lack the operation, too.
        operation: its name and where it stands, "tanh (model.py:12)".
        detail: the operand, or what is taken in its place.
        rank: the smaller, the more it says to name this operation.
    """

    kind: str
    operation: str
    detail: str = ""
    rank: int = 0


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the program, its name, and whether it is an argument or an output."""

    value: Any
    name: str
    known: bool = False


class LocalMistakes:
    """All of them for one function; `gradient` makes one.

    Args:
        f: from flat float leaves to a list of outputs.
        x: the leaves.
        names: of the leaves.
        outputs: the names of the outputs.

    >>> with jax.enable_x64(True):
    ...     made = LocalMistakes(lambda x: [jnp.tanh(3 * x)], (np.ones(2),), ("x",), ("y",))
    ...     [i] = [i for i, m in enumerate(made.all) if m.kind == "left out" and m.detail == "3"]
    ...     right = made.gradient(-1, 0.0, (np.ones(2),), [np.ones(2)])[0]
    ...     np.round(right / made.gradient(i, 0.0, (np.ones(2),), [np.ones(2)])[0], 12)
    array([3., 3.])
    """

    def __init__(
        self,
        f: Callable[..., list[Any]],
        x: Sequence[Any],
        names: Sequence[str],
        outputs: Sequence[str],
    ):
        self.all: list[Local] = []
        self._names, self._outputs = names, outputs
        self._closed = jax.make_jaxpr(f)(*x)
        if not self._is_small():
            raise ValueError("too large a program")
        self._operations = named(self._closed)
        self._program = compiled(self._gradient)
        jax.eval_shape(self._gradient, 0, 0.0, tuple(x), _outputs_of(self._closed))

    def gradient(
        self, number: int, amount: float, x: Sequence[np.ndarray], dys: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The cotangents of x where the mistake of this number is made; -1 is none."""
        return [np.asarray(d) for d in self._program(number, amount, tuple(x), list(dys))]

    def _is_small(self) -> bool:
        sizes = [v.aval.size for e, _ in operations(self._closed.jaxpr) for v in e.outvars]
        return len(sizes) <= _MOST_OPERATIONS and sum(sizes) <= _MOST_NUMBERS

    def _gradient(
        self, number: Array, amount: Array, x: tuple[Array, ...], dys: list[Array]
    ) -> tuple[Array, ...]:
        self.all.clear()  # the same in every trace

        def f(*x: Array) -> list[Any]:
            right = _Run(iter(self._operations))
            named = list(map(Value, x, self._names, [True] * len(x)))
            ys = right(self._closed, named)
            others = [v for v in (*named, *right.made) if is_float(v.value)]
            outputs = {id(y.value): n for y, n in zip(ys, self._outputs, strict=True)}
            others = [
                Value(v.value, outputs.get(id(v.value), v.name), v.known or id(v.value) in outputs)
                for v in others
            ]
            run = _Run(iter(self._operations), _Switch(self.all, number, amount, others))
            return [y.value for y in run(self._closed, named)]

        return jax.vjp(f, *x)[1](dys)


def _outputs_of(closed: ClosedJaxpr) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.outvars]


@dataclasses.dataclass
class _Switch:
    """Which mistake is made: `number`, an argument of the program."""

    all: list[Local]
    number: Array
    amount: Array
    others: list[Value]

    def is_on(self, *mistake: Any) -> Array:
        self.all.append(Local(*mistake))
        return self.number == len(self.all) - 1


@dataclasses.dataclass
class _Run(Evaluation):
    """One evaluation of a jaxpr on `Value`s; without a switch it notes the arrays that it makes."""

    operations: Iterator[str]
    switch: _Switch | None = None
    made: list[Value] = dataclasses.field(default_factory=list)

    def literal(self, atom: jex.Literal) -> Value:
        return Value(atom.val, f"{atom.val}", True)

    def constant(self, x: Array | np.ndarray) -> Value:
        return Value(x, "a constant")

    def equation(self, eqn: Equation, x: list[Value]) -> list[Value]:
        wrapped = inside_call(eqn)
        if wrapped is not None:
            return self(wrapped, x)
        name = next(self.operations)
        values = [
            _literal(v) if isinstance(v, jex.Literal) else o.value
            for o, v in zip(x, eqn.invars, strict=True)
        ]
        if self.switch is None or not any(is_float(v.aval) for v in eqn.outvars):
            outs = bind(eqn, values)
        else:
            outs = _tapped(eqn, name, values, x, self.switch)
        made = [Value(out, f"the result of {name}") for out in outs]
        self.made += made
        return made


def _literal(v: Any) -> np.ndarray:
    return np.asarray(v.val, v.aval.dtype)


def _tapped(
    eqn: Equation, name: str, values: list[Any], operands: list[Value], switch: _Switch
) -> list[Array]:
    """The operation, in whose derivative the mistakes can be made."""
    floats = [i for i, v in enumerate(eqn.invars) if is_float(v.aval)]
    at = _points(eqn, name, values, operands, switch)

    def of_floats(point: list[Any]) -> Callable[..., list[Array]]:
        return lambda *x: [y for y in bind(eqn, filled(point, floats, x)) if is_float(y)]

    switched = _switched(eqn, name, operands, floats, switch)

    def plain(own: list[Any], point: list[Any]) -> list[Array]:
        del point
        return bind(eqn, own)

    def forward(own: list[Any], point: list[Any]) -> tuple[list[Array], list[Any]]:
        return plain(own, point), point

    def backward(point: list[Any], dys: list[Array]) -> tuple[list[Array | None], None]:
        pull = jax.vjp(of_floats(point), *[point[i] for i in floats])[1]
        dys = [dy for dy, v in zip(dys, eqn.outvars, strict=True) if is_float(v.aval)]
        cotangents = dict(zip(floats, _changed(pull(dys), pull, dys, switched), strict=True))
        return [cotangents.get(i) for i in range(len(values))], None

    step = jax.custom_vjp(plain)
    step.defvjp(forward, backward)
    outs = step(values, jax.lax.stop_gradient(at))
    if len(outs) == 1 and eqn.primitive.name in _MAY_BE_FORGOTTEN:
        for i in floats:
            if values[i].shape == outs[0].shape and not isinstance(eqn.invars[i], jex.Literal):
                beside = [operands[j] for j in floats if j != i]
                known = bool(beside) and beside[0].known
                on = switch.is_on("without", name, _number(beside[0].name) if known else "")
                outs = [jnp.where(on, values[i].astype(outs[0].dtype), outs[0])]
    return outs


def _points(
    eqn: Any, name: str, values: list[Any], operands: list[Value], switch: _Switch
) -> list[Any]:
    """Where the derivative is taken: at the operands, or at an array that stands for one."""
    point = list(values)
    for j, v in enumerate(eqn.invars):
        is_literal = isinstance(v, jex.Literal)
        if eqn.primitive.name == "select_n" and v.aval.dtype == jnp.bool_:
            for detail, other in (("exchanged", ~point[j]), ("one", True), ("one", False)):
                on = switch.is_on("other branch", name, detail)
                point[j] = jnp.where(on, other, point[j])
        elif eqn.primitive.name in _TAKES_INDICES and jnp.issubdtype(v.aval.dtype, jnp.integer):
            # Each column of the indices belongs to an axis of its own.
            columns = np.eye(v.aval.shape[-1] if v.aval.shape else 1, dtype=v.aval.dtype)
            for step, column in itertools.product((1, -1), columns):
                on = switch.is_on("other index", name)
                moved = point[j] + np.broadcast_to(step * column, v.aval.shape or (1,))
                moved = moved.reshape(v.aval.shape)
                point[j] = jnp.where(on, moved, point[j])
        elif eqn.primitive.name in _TAKES_VALUES and not is_literal and is_float(v.aval):
            for other in _others(operands[j], switch.others):
                taken = f"{other.name} for {operands[j].name}"
                on = switch.is_on("other values", name, taken, 0 if other.known else 1)
                point[j] = jnp.where(on, other.value.astype(v.aval.dtype), point[j])
    return point


def _others(own: Value, values: list[Value]) -> list[Value]:
    """The arrays of the same shape, arguments and outputs first."""
    others = [o for o in values if o.value.shape == own.value.shape and o.value is not own.value]
    others = sorted(others, key=lambda o: not o.known)[:_MOST_OTHERS]
    *_, rows, columns = (0, 1, *own.value.shape)
    if rows == columns:
        others.append(Value(jnp.swapaxes(own.value, -1, -2), f"the transpose of {own.name}"))
    return others


def _switched(
    eqn: Any, name: str, operands: list[Value], floats: list[int], switch: _Switch
) -> list[Any]:
    """For each float operand: the factor of its cotangent, and whether it is left out or twice."""
    switched = []
    rank = 1 + _PLAIN.index(eqn.primitive.name) if eqn.primitive.name in _PLAIN else 0
    for i in floats:
        if isinstance(eqn.invars[i], jex.Literal):
            switched.append((1.0, False, False))
            continue
        which = f"operand {i}" if len(floats) > 1 else ""
        scaled = switch.is_on("scaled", name, which, rank)
        alike = [v.aval.shape for v in eqn.outvars] == [eqn.invars[i].aval.shape]
        linear = eqn.primitive.name in _PLAIN and eqn.primitive.name not in {"mul", "div"}
        out, twice = False, False
        if alike and (not linear or eqn.primitive.name == "select_n"):
            is_product = eqn.primitive.name == "mul" or (eqn.primitive.name == "div" and i == 0)
            detail = _beside(operands, floats, i) if is_product else ""
            out = switch.is_on("left out", name, detail)
            twice = switch.is_on("twice", name, detail)
        switched.append((jnp.where(scaled, switch.amount, 1.0), out, twice))
    return switched


def _beside(operands: list[Value], floats: list[int], i: int) -> str:
    """What stands beside an operand: the name of an array, or a number."""
    others = [operands[j].name for j in floats if j != i]
    return _number(others[0]) if others else ""


def _number(name: str) -> str:
    try:
        return f"{float(name):.6g}"
    except ValueError:
        return name


def _changed(
    cotangents: Sequence[Array], pull: Function, dys: list[Array], switched: list[Any]
) -> list[Array]:
    changed = []
    for i, (d, (factor, out, twice)) in enumerate(zip(cotangents, switched, strict=True)):
        if out is not False:
            again = pull([d.astype(dys[0].dtype)])[i]
            d = jnp.where(twice, again, jnp.where(out, dys[0].astype(d.dtype), d))
        changed.append((d * factor).astype(d.dtype))
    return changed
