"""Floats to try in the place of a leaf: the ends of its dtype, ties, orders, constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from funcnn.types import DType

Random = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What the numbers of a leaf may be.

    Attributes:
        given: the leaf as it was given, in the shape that is tried.
        smallest, tiny, largest: the smallest subnormal, the smallest normal and the largest number.
        eps: the distance from 1 to the next number.
        constants: the numbers that stand in the program, those that it compares with first.
    """

    given: np.ndarray
    smallest: float
    tiny: float
    largest: float
    eps: float
    constants: tuple[float, ...] = ()

    @classmethod
    def of(cls, given: np.ndarray, dtype: DType, constants: tuple[float, ...] = ()) -> Numbers:
        """Those of a dtype.

        >>> Numbers.of(np.ones(2), "float32").eps
        1.1920928955078125e-07
        """
        info = jnp.finfo(dtype)
        ends = info.smallest_subnormal, info.smallest_normal, info.max, info.eps
        smallest, tiny, largest, eps = map(float, ends)
        return cls(np.asarray(given, np.float64), smallest, tiny, largest, eps, constants)


def _scaled(random: Random, n: Numbers, low: float, high: float) -> np.ndarray:
    return random.normal(size=n.given.shape) * 10.0 ** random.uniform(low, high)


def _wide(random: Random, n: Numbers, low: float, high: float) -> np.ndarray:
    """Each element of a size of its own."""
    signs = random.choice([-1.0, 1.0], n.given.shape)
    return signs * 10.0 ** random.uniform(low, high, n.given.shape)


def _ends(n: Numbers) -> tuple[float, float]:
    return np.log10(n.tiny), np.log10(n.largest) - 2


def _special(random: Random, n: Numbers) -> float:
    ends = (n.smallest, n.tiny, n.largest, np.inf, n.eps, np.sqrt(n.largest), np.sqrt(n.tiny))
    values = (0.0, 0.0, 1.0, 1.0 - n.eps, 1.0 + n.eps, 0.5, 2.0, np.pi, 10.0, 100.0, 1e4, *ends)
    return float(random.choice(values) * random.choice([-1.0, 1.0]))


def near_constant(random: Random, n: Numbers) -> float:
    """A constant of the program, or just below it, or just above; or one of the special numbers.

    >>> near_constant(np.random.default_rng(0), Numbers.of(np.ones(1), "float32", (6.0,)))
    6.000000715255737
    """
    if not n.constants:
        return _special(random, n)
    # The first are those that it compares with.
    first = min(int(random.exponential(3.0)), len(n.constants) - 1)
    c = n.constants[first] * random.choice([1.0, 1.0, 1.0, -1.0])
    by = random.choice([0.0, -n.eps, n.eps, -1e-3, 1e-3, -0.1, 0.1, 1.0])
    return float(c * (1.0 + by))


def _alone(background: np.ndarray, random: Random, value: float) -> np.ndarray:
    out = np.array(background)
    if out.size:
        out.flat[random.integers(out.size)] = value
    return out


def _normal(random: Random, n: Numbers) -> np.ndarray:
    return random.normal(size=n.given.shape)


def _along(random: Random, n: Numbers) -> np.ndarray:
    """Sorted along the last axis, up or down."""
    x = np.sort(_scaled(random, n, 0, 1), -1) if n.given.ndim else _normal(random, n)
    return x if random.random() < 0.5 or not x.ndim else x[..., ::-1]


def _few(random: Random, n: Numbers) -> np.ndarray:
    return random.choice(random.normal(size=2), n.given.shape)


def _equal_rows(random: Random, n: Numbers) -> np.ndarray:
    x = _scaled(random, n, -1, 2)
    return np.broadcast_to(x[..., :1], x.shape).copy() if x.ndim and x.size else x


def _matrix(random: Random, n: Numbers) -> np.ndarray:
    """Symmetric, diagonal, an identity or of lower rank, where it is square."""
    x = _normal(random, n)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        return x
    mirrored = np.swapaxes(x, -1, -2)
    eye = np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    kinds = (x + mirrored) / 2, x * eye, eye.copy(), x @ mirrored, x - mirrored, np.triu(x)
    return kinds[random.integers(len(kinds))]


def _shares(random: Random, n: Numbers) -> np.ndarray:
    x = random.uniform(size=n.given.shape)
    ends = random.choice([0.0, 1.0], n.given.shape)
    return np.where(random.random(n.given.shape) < random.choice([0.0, 0.3]), ends, x)


def _constants(random: Random, n: Numbers) -> np.ndarray:
    values = [near_constant(random, n) for _ in range(max(n.given.size, 1))]
    return np.reshape(values[: n.given.size], n.given.shape)


DRAWS: dict[str, Callable[[Random, Numbers], np.ndarray]] = {
    "as given": lambda random, n: np.array(n.given),
    "normal": _normal,
    "given, scaled": lambda random, n: n.given * 10.0 ** random.uniform(-3, 3),
    "moderate": lambda random, n: _scaled(random, n, -2, 2.5),
    "whole range": lambda random, n: _scaled(random, n, *_ends(n)),
    "sizes apart": lambda random, n: _wide(random, n, -6, 6),
    "sizes far apart": lambda random, n: _wide(random, n, *_ends(n)),
    "positive": lambda random, n: np.abs(_scaled(random, n, -3, 3)),
    "negative": lambda random, n: -np.abs(_scaled(random, n, -3, 3)),
    "small and positive": lambda random, n: np.abs(_wide(random, n, -9, 0)),
    "shares": _shares,
    "zeros": lambda random, n: np.zeros(n.given.shape),
    "equal": lambda random, n: np.full(n.given.shape, _special(random, n)),
    "equal, ordinary": lambda random, n: np.full(n.given.shape, random.normal()),
    "whole numbers": lambda random, n: random.integers(-3, 4, n.given.shape) * 1.0,
    "repeated": _few,
    "in order": _along,
    "equal rows": _equal_rows,
    "one of them": lambda random, n: _alone(np.zeros(n.given.shape), random, _special(random, n)),
    "one apart": lambda random, n: _alone(_normal(random, n), random, _special(random, n)),
    "subnormal": lambda random, n: n.smallest * random.integers(1, 9, n.given.shape),
    "offset": lambda random, n: _normal(random, n) + 10.0 ** random.uniform(1, 7),
    "at constants": _constants,
    "all at a constant": lambda random, n: np.full(n.given.shape, near_constant(random, n)),
    "one at a constant": lambda random, n: _alone(
        n.given if random.random() < 0.5 else _normal(random, n), random, near_constant(random, n)
    ),
    "a matrix": _matrix,
}


def drawn(name: str, random: Random, numbers: Numbers) -> np.ndarray:
    """The numbers of one kind, in float64, none beyond the largest but infinities.

    >>> numbers = Numbers.of(np.ones(3), "float32")
    >>> drawn("zeros", np.random.default_rng(0), numbers)
    array([0., 0., 0.])
    >>> sorted(DRAWS)[:3]
    ['a matrix', 'all at a constant', 'as given']
    """
    with np.errstate(over="ignore"):
        x = np.asarray(DRAWS[name](random, numbers), np.float64)
    beyond = np.isfinite(x) & (np.abs(x) > numbers.largest)
    return np.where(beyond, np.sign(x) * numbers.largest, x)
