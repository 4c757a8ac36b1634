"""A program in as many digits as one likes: its jaxpr with mpmath's numbers in the place of floats.

What moves numbers is run by JAX on their places; what computes is done number by number. It is
slow, and shares with XLA neither its functions nor its rounding: a second truth for what is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import mpmath
import numpy as np

from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.jaxprs import MOVES, bind, closed, inside_call, scan_layout
from funcnn.types import Array, Aval, Equation


class NoDigits(Exception):
    """The program has an equation that is not done in digits, or too many of them."""


def _guarded(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, which is NaN where mpmath says that it is not real, or not defined."""

    def run(*numbers: Any) -> Any:
        try:
            y = f(*numbers)
        except (ZeroDivisionError, ValueError):
            return mpmath.nan
        return mpmath.nan if isinstance(y, mpmath.mpc) else y

    return run


def _divided(x: Any, y: Any) -> Any:
    if y != 0:
        return x / y
    return mpmath.nan if x == 0 or mpmath.isnan(x) else mpmath.sign(x) * mpmath.inf


def _logarithm(x: Any) -> Any:
    return -mpmath.inf if x == 0 else mpmath.log(x)


_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "add_any": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": _divided,
    "neg": lambda x: -x,
    "abs": abs,
    "sign": mpmath.sign,
    "square": lambda x: x * x,
    "max": max,
    "min": min,
    "floor": mpmath.floor,
    "ceil": mpmath.ceil,
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.power(2, x),
    "expm1": mpmath.expm1,
    "log": _logarithm,
    "log1p": lambda x: _logarithm(1 + x),
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: _divided(mpmath.mpf(1), mpmath.sqrt(x)),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "pow": lambda x, y: mpmath.power(x, y),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "asin": mpmath.asin,
    "acos": mpmath.acos,
    "atan": mpmath.atan,
    "atan2": mpmath.atan2,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "asinh": mpmath.asinh,
    "acosh": mpmath.acosh,
    "atanh": mpmath.atanh,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "erf_inv": mpmath.erfinv,
    "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
    "digamma": mpmath.digamma,
}
_TESTS: dict[str, Callable[..., Any]] = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "is_finite": mpmath.isfinite,
}
_SUMS: dict[str, Callable[..., Any]] = {
    "reduce_sum": lambda x, y: x + y,
    "reduce_prod": lambda x, y: x * y,
    "reduce_max": max,
    "reduce_min": min,
}
_EMPTY = {"reduce_sum": 0, "reduce_prod": 1, "reduce_max": -np.inf, "reduce_min": np.inf}
_OF_BITS = {"bitcast_convert_type", "reduce_precision"}  # of numbers that these are not
# NaN passes through a maximum: Python's max and min are asked only about numbers.
_ORDERED = {"max", "min", "reduce_max", "reduce_min"}


class Digits(Evaluation):
    """`digits(program, leaves) -> outputs`: float arrays are NumPy arrays of mpmath's numbers.

    The precision is that of mpmath, `mpmath.workdps`; x64 is enabled by the caller.

    Args:
        most: how many numbers may be computed, in all calls.

    Raises:
        NoDigits: an equation that is not done in digits, or too many numbers.

    >>> with jax.enable_x64(True), mpmath.workdps(40):
    ...     program = jax.make_jaxpr(lambda x: jnp.exp(x).sum())(np.ones(2))
    ...     e, = Digits(100)(program, [in_digits(np.ones(2))])
    ...     print(mpmath.nstr(e.item(), 30))
    5.43656365691809047072057494271
    """

    def __init__(self, most: int) -> None:
        self.left = most

    def literal(self, atom: jex.Literal) -> Any:
        """A number that is written in the program, exactly as it stands there."""
        return in_digits(np.asarray(atom.val, getattr(atom.aval, "dtype")))  # noqa: B009, any aval

    def constant(self, x: Array | np.ndarray) -> Any:
        """An array that is part of the program, likewise."""
        return in_digits(x)

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """The outputs of one equation: those without digits among its operands are JAX's."""
        name = eqn.primitive.name
        program = inside_call(eqn)
        if program is not None:
            return self(program, x)
        if name in {"cond", "scan", "while"}:
            return getattr(self, f"_{name}")(eqn, x)
        if not any(_is_digits(each) for each in x):
            return [in_digits(y) for y in bind(eqn, x)]
        outs: list[Aval] = [v.aval for v in eqn.outvars]
        self._count(sum(int(np.prod(aval.shape)) for aval in outs))
        if name in (MOVES | {"select_n", "clamp"}) - _OF_BITS:
            return self._moved(eqn, x)
        return [self._computed(eqn, x)]

    def _moved(self, eqn: Equation, x: list[Any]) -> list[Any]:
        """What only moves numbers, done with their places."""
        if eqn.primitive.name == "convert_element_type":
            return [self._converted(eqn, x[0])]
        if eqn.primitive.name == "clamp":
            low, middle, high = map(np.asarray, x)
            return [_each(min, _each(max, middle, low), high)]
        pool: list[Any] = []
        places = []
        for each in x:
            if _is_digits(each):
                count = len(pool)
                pool += list(each.ravel())
                places.append(np.arange(count, len(pool)).reshape(each.shape))
            else:
                places.append(each)
        params, filling = dict(eqn.params), None
        if "fill_value" in params:
            filling, params["fill_value"] = params["fill_value"], -1
        numbers = in_digits(np.array([np.nan if filling is None else filling], np.float64))
        numbers = np.array([*pool, *numbers], object)
        outs = bind(eqn, places, params)
        # What is filled in for an index out of range is a negative integer, and no place.
        taken = [np.where(np.asarray(out) < 0, len(pool), np.asarray(out)) for out in outs]
        return [np.asarray(numbers[out], object) for out in taken]

    def _converted(self, eqn: Equation, x: np.ndarray) -> Any:
        dtype = eqn.params["new_dtype"]
        if jnp.issubdtype(dtype, jnp.floating):
            return x
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise NoDigits("complex numbers")
        return np.asarray(_each(int, x), dtype)

    def _computed(self, eqn: Equation, x: list[Any]) -> Any:
        name = eqn.primitive.name
        if name in _TESTS:
            return np.asarray(_each(_TESTS[name], *x), bool)
        if name in _NUMBERS:
            f = _propagating(_NUMBERS[name]) if name in _ORDERED else _NUMBERS[name]
            return _each(_guarded(f), *x)
        if name == "integer_pow":
            n = eqn.params["y"]
            return _each(_guarded(lambda v: v**n if n >= 0 else _divided(1, v**-n)), x[0])
        if name in _SUMS:
            return _reduced(name, x[0], eqn.params["axes"])
        if name == "dot_general":
            return self._product(x[0], x[1], eqn.params["dimension_numbers"])
        raise NoDigits(f"{name} is not done in digits")

    def _product(self, a: Any, b: Any, dimensions: Any) -> Any:
        (summed_a, summed_b), (rows_a, rows_b) = dimensions
        free_a = [i for i in range(np.ndim(a)) if i not in {*summed_a, *rows_a}]
        free_b = [i for i in range(np.ndim(b)) if i not in {*summed_b, *rows_b}]
        left = np.transpose(a, (*rows_a, *free_a, *summed_a))
        right = np.transpose(b, (*rows_b, *summed_b, *free_b))
        rows = left.shape[: len(rows_a)]
        shape = (*rows, *(a.shape[i] for i in free_a), *(b.shape[i] for i in free_b))
        inner = int(np.prod([a.shape[i] for i in summed_a]))
        self._count(int(np.prod(shape)) * inner)
        if not inner:
            raise NoDigits("an empty product")
        size = int(np.prod(rows))
        flat = zip(left.reshape(size, -1, inner), right.reshape(size, inner, -1), strict=True)
        return np.array([a.dot(b) for a, b in flat], dtype=object).reshape(shape)

    def _cond(self, eqn: Equation, x: list[Any]) -> list[Any]:
        branches = eqn.params["branches"]
        return self(branches[int(np.clip(int(x[0]), 0, len(branches) - 1))], x[1:])

    def _scan(self, eqn: Equation, x: list[Any]) -> list[Any]:
        constants, carried = scan_layout(eqn)
        carry, rows = x[constants : constants + carried], x[constants + carried :]
        length, stacked = eqn.params["length"], []
        order = range(length)[::-1] if eqn.params["reverse"] else range(length)
        for i in order:
            of_row = [np.asarray(np.asarray(row)[i], np.asarray(row).dtype) for row in rows]
            outs = self(eqn.params["jaxpr"], [*x[:constants], *carry, *of_row])
            carry = outs[:carried]
            stacked.append(outs[carried:])
        if not length:
            raise NoDigits("a scan of no steps")
        stacked = stacked[::-1] if eqn.params["reverse"] else stacked
        return [*carry, *(np.stack(ys) for ys in zip(*stacked, strict=True))]

    def _while(self, eqn: Equation, x: list[Any]) -> list[Any]:
        n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        test, body, carry = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"], x[n + m :]
        while bool(np.asarray(self(closed(test), [*x[:n], *carry])[0])):
            self._count(1)
            carry = self(closed(body), [*x[n : n + m], *carry])
        return carry

    def _count(self, numbers: int) -> None:
        self.left -= numbers
        if self.left < 0:
            raise NoDigits("more numbers than may be computed")


def in_digits(x: Any) -> Any:
    """An array of floats as one of mpmath's numbers, each exactly; what has none as it is.

    >>> in_digits(np.float32([0.5]))
    array([mpf('0.5')], dtype=object)
    """
    if _is_digits(x) or not jnp.issubdtype(jax.typeof(x).dtype, jnp.floating):
        return x
    return _each(lambda number: mpmath.mpf(float(number)), np.asarray(x, np.float64))


def _is_digits(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object


def _each(f: Callable[..., Any], *x: Any) -> np.ndarray:
    """f at each number of some arrays."""
    numbers = [np.asarray(each) for each in np.broadcast_arrays(*x)]
    out = np.empty(numbers[0].shape, object)
    for i in np.ndindex(out.shape):
        out[i] = f(*(each[i] for each in numbers))
    return out


def _propagating(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: mpmath.nan if mpmath.isnan(x) or mpmath.isnan(y) else f(x, y)


def _reduced(name: str, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    f = _propagating(_SUMS[name]) if name in _ORDERED else _SUMS[name]
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = np.transpose(x, (*kept, *axes)).reshape(*(x.shape[i] for i in kept), -1)
    out = np.empty(rows.shape[:-1], object)
    for i in np.ndindex(out.shape):
        total = mpmath.mpf(_EMPTY[name])
        for number in rows[i]:
            total = f(total, number)
        out[i] = total
    return out
