"""Finite differences of a function as an oracle for its derivatives: it shares no code with any."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.gradient.case.pullbacks import cotangents
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.truth.richardson import (
    HALVINGS,
    along,
    central,
    extrapolated,
    jumps,
    rounding_noise,
    steps_from,
    unit_direction,
)
from funcnn.types import Function, Verdict

_ALLOWED = 1e-9  # relative, beside ten times the error bar
_TOO_WIDE = 1e-4  # an error bar that says nothing
_SEEN = 1e-8  # of the derivative: a smaller jump of the slope is no matter
# The largest step, relative to the root mean square of the leaf; then to each element, for leaves
# whose elements differ by orders of magnitude.
_ATTEMPTS = (("leaf", 1e-2), ("leaf", 1e-4), ("element", 1e-2), ("element", 1e-4))
_DIRECTIONS = 3
KINKED = "the function has a kink or jump near the sample that the case does not declare"
_MOVES = 2  # away from a kink that the case does not declare

Pull = Callable[[Any, Any], Sequence[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Oracle:
    """A function in float64 at a point, its derivatives by name, and differences to judge them.

    Attributes:
        f: from leaves to a list of outputs.
        x: the leaves.
        pulls: name -> `(x, dys) -> cotangents of the leaves`.
        w: the cotangents of the outputs; they weight what is compared.
        v: a direction of length 1 for each leaf.
        program: f at many points at once, see `along`.
        seed: of the moves.
        slack: relative, what a loop that stops at a tolerance leaves open.
    """

    f: Callable[..., list[Any]]
    x: tuple[np.ndarray, ...]
    pulls: Mapping[str, Pull]
    w: list[np.ndarray]
    v: tuple[np.ndarray, ...]
    program: Function
    seed: int
    slack: float = 0.0

    @classmethod
    def of(
        cls,
        f: Callable[..., list[Any]],
        x: Sequence[Any],
        pulls: Mapping[str, Pull],
        seed: int = 0,
        slack: float = 0.0,
    ) -> Oracle:
        """With a random direction of each leaf, and a random cotangent. Needs x64 to be enabled.

        >>> with jax.enable_x64(True):
        ...     pulls = {"mine": lambda x, dys: [2 * x[0] * dys[0]]}
        ...     one = Oracle.of(lambda x: [x * x], (np.ones(2),), pulls)
        ...     [verdict for verdict, _ in one.verdicts()]
        ['pass']
        """
        x = tuple(np.asarray(leaf, np.float64) for leaf in x)
        random = np.random.default_rng([seed, 8])
        v = tuple(unit_direction(leaf.shape, random) for leaf in x)
        w = cotangents(jax.eval_shape(f, *x), seed)[0][1] if x else []
        return cls(f, x, pulls, w, v, along(f, compiled), seed, slack)

    def verdicts(self) -> list[tuple[Verdict, str]]:
        """("pass", "fail" or "inconclusive", why) for each leaf.

        "note" where the automatic derivative alone is contradicted: then the manual one is right.
        """
        if not sum(w.size for w in self.w):
            return [("inconclusive", "no outputs")] * len(self.x)
        if not all(np.all(np.isfinite(leaf)) for leaf in self.x):
            return [("skip", "the arguments are not finite")] * len(self.x)
        with np.errstate(over="ignore", invalid="ignore"):
            return [self._verdict(i) for i in range(len(self.x))]

    def _verdict(self, i: int) -> tuple[Verdict, str]:
        if not self.x[i].size:
            return "inconclusive", "no elements"
        slopes: list[Slope] = []
        for move in range(_MOVES + 1):
            for scale, largest in _ATTEMPTS:
                slope = self._slope(i, move, scale, largest)
                if slope.problem:
                    slopes.append(slope)
                elif slope.agrees:
                    return "pass", slope.describe(self._moved(move, slopes))
                else:
                    slopes.append(slope)
            if any(not slope.problem for slope in slopes):
                break  # differences that are sure of themselves contradict it: no move helps
        sure = [slope for slope in slopes if not slope.problem]
        if not sure:
            return "inconclusive", slopes[0].problem
        # Steps that reach over a kink beside the point are sure of another number.
        alone = [s for s in sure if s.wrong == ["automatic"] and "manual" in s.exact]
        return ("note", alone[0].blame()) if alone else ("fail", sure[0].blame())

    def sure_slope(self, i: int, problems: Sequence[str] = ("",)) -> Slope | None:
        """The first slope of leaf i, at the point itself, whose differences are sure.

        With other `problems`, the first one that has one of them.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            slopes = (self._slope(i, 0, scale, largest) for scale, largest in _ATTEMPTS)
            return next((slope for slope in slopes if slope.problem in problems), None)

    def _moved(self, move: int, slopes: list[Slope]) -> str:
        return f"; moved, as {slopes[0].problem}" if move else ""

    def _slope(self, i: int, move: int, scale: str, largest: float) -> Slope:
        values = self._evaluated[move, scale, largest]
        w = np.concatenate([np.ravel(dy) for dy in self.w])  # (M,)
        steps, n = steps_from(largest), HALVINGS + 1
        start, middle = 2 * n * i, values[-1]
        right, left = values[start : start + n], values[start + n : start + 2 * n]
        if not all(np.all(np.isfinite(y)) for y in (right, left, middle)):
            return Slope({}, 0.0, 0.0, 0.0, problem="the function is not finite near the sample")
        table = central(right, left, steps)
        value, change = extrapolated(table @ w)
        direction, pulled = self._directions(move, scale)[i], self._derivatives(move)
        exact = {name: float(np.sum(d[i] * direction)) for name, d in pulled.items()}
        x = np.abs(self._point(move)[i])
        noise = rounding_noise(middle, w)  # of the sum, and of x + h v itself
        # What is infinite is wrong, and no reason to expect noise.
        finite = [np.where(np.isfinite(d[i]), d[i], 0.0) for d in pulled.values()]
        noise += max(rounding_noise(d, x) for d in finite)
        sizes = [float(np.sum(np.abs(w * table[-1]))), *map(abs, exact.values())]
        size = max(s for s in sizes if np.isfinite(s))
        bar = float(change) + 2 * noise / steps[-1]
        slope = Slope(exact, float(value), bar, size, self.slack)
        jump = np.abs(w) * jumps(right, left, middle, steps)
        seen = np.maximum(_SEEN * size, 16 * noise / steps[-1])
        kinked = bool(np.any((jump[-1] > 0.5 * jump[-2]) & (jump[-1] > seen)))
        return dataclasses.replace(slope, problem=_problem(slope, kinked))

    @functools.cached_property
    def _evaluated(self) -> _Cache:
        return _Cache(self._evaluate)

    def _evaluate(self, move: int, scale: str, largest: float) -> np.ndarray:
        """f at +h and at -h of every step, for one leaf after the other, and at the point."""
        steps = steps_from(largest)
        signed = np.concatenate([steps, -steps])
        factors = np.zeros((len(signed) * len(self.x) + 1, len(self.x)))
        for i in range(len(self.x)):
            factors[len(signed) * i : len(signed) * (i + 1), i] = signed
        point, v = self._point(move), self._directions(move, scale)
        return np.asarray(self.program(point, v, factors))

    def _point(self, move: int) -> tuple[np.ndarray, ...]:
        """x, or x moved by about a thousandth."""
        if not move:
            return self.x
        random = np.random.default_rng([self.seed, 88, move])
        return tuple(
            x + 1e-3 * _element_sizes(x) * random.uniform(0.5, 1.5, x.shape) for x in self.x
        )

    def _directions(self, move: int, scale: str) -> tuple[np.ndarray, ...]:
        sizes = _element_sizes if scale == "element" else _leaf_size
        point = self._point(move)
        return tuple(v * sizes(x) for v, x in zip(self.v, point, strict=True))

    def _derivatives(self, move: int) -> Mapping[str, list[np.ndarray]]:
        return self._pulled[(move,)]

    @functools.cached_property
    def _pulled(self) -> _Cache:
        return _Cache(self._pull)

    def _pull(self, move: int) -> Mapping[str, list[np.ndarray]]:
        x = self._point(move)
        return {n: [np.asarray(d) for d in pull(x, self.w)] for n, pull in self.pulls.items()}


def sure_slopes(
    f: Callable[..., list[Any]],
    x: Sequence[Any],
    w: Sequence[Any],
    leaf: int,
    known: Mapping[str, np.ndarray],
    problems: Sequence[str] = ("",),
) -> list[Slope] | None:
    """Differences along three directions of one leaf, beside known gradients of it.

    None where one of them is not sure of itself, or has no other of these problems. Needs x64 to be
    enabled.

    >>> with jax.enable_x64(True):
    ...     x = np.array([1.0, 2.0])
    ...     known = {"twice": 4 * x, "right": 2 * x}
    ...     slopes = sure_slopes(lambda x: [x * x], (x,), [np.ones(2)], 0, known)
    >>> [slope.wrong for slope in slopes]
    [['twice'], ['twice'], ['twice']]
    """
    x = tuple(np.asarray(leaf, np.float64) for leaf in x)

    def pull(gradient: np.ndarray) -> Pull:
        return lambda *_: [gradient if i == leaf else np.zeros(xi.shape) for i, xi in enumerate(x)]

    pulls = {name: pull(gradient) for name, gradient in known.items()}
    slopes, program = [], along(f, compiled)
    for seed in range(_DIRECTIONS):
        random = np.random.default_rng([seed, 9])
        v = tuple(unit_direction(xi.shape, random) for xi in x)
        slope = Oracle(f, x, pulls, list(w), v, program, seed).sure_slope(leaf, problems)
        if slope is None:
            return None
        slopes.append(slope)
    return slopes


class _Cache(dict[Any, Any]):
    """Makes a value when it is first asked for."""

    def __init__(self, make: Callable[..., Any]):
        super().__init__()
        self.make = make

    def __missing__(self, key: tuple[Any, ...]) -> Any:
        self[key] = self.make(*key)
        return self[key]


def _leaf_size(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(x) / np.sqrt(max(x.size, 1)) or 1.0)


def _element_sizes(x: np.ndarray) -> np.ndarray:
    nonzero = np.abs(x[x != 0])
    return np.where(x != 0, np.abs(x), np.median(nonzero) if nonzero.size else 1.0)


@dataclasses.dataclass(frozen=True)
class Slope:
    """Derivatives along one direction, by name, beside that of the differences.

    Attributes:
        exact: name -> derivative.
        value, bar: the differences, and their error bar.
        size: the sum of the magnitudes of what was added up.
        slack: relative, see Oracle.
        problem: why the differences say nothing, or "".
    """

    exact: Mapping[str, float]
    value: float
    bar: float
    size: float
    slack: float = 0.0
    problem: str = ""

    @property
    def wrong(self) -> list[str]:
        """The names of the derivatives that the differences contradict."""
        allowed = 10 * self.bar + max(_ALLOWED, self.slack) * self.size
        return [name for name, d in self.exact.items() if not abs(d - self.value) <= allowed]

    @property
    def agrees(self) -> bool:
        """Whether they contradict none."""
        return not self.wrong

    def describe(self, more: str = "") -> str:
        """All of them, and the differences with their error bar."""
        derivatives = ", ".join(f"{name} {d:.10g}" for name, d in self.exact.items())
        return f"{derivatives}, differences {self.value:.10g} +- {self.bar:.1e}{more}"

    def blame(self) -> str:
        """The same, and whether it is the truth that they contradict."""
        if "automatic" not in self.wrong:
            return self.describe()
        return self.describe(
            ": autodiff or the reference is to blame, e.g. a stop_gradient, or a NaN behind a where"
        )


def _problem(slope: Slope, kinked: bool) -> str:
    if kinked:
        return KINKED
    if slope.size == 0:
        return "the derivative is zero"
    if slope.bar > _TOO_WIDE * slope.size:
        return f"the differences are uncertain by {slope.bar / slope.size:.1e}"
    return ""
