"""Trials worth going on from: furthest off, the first of their kind in a branch, nearest to one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.hunt.judging import Trial
from funcnn.gradient.hunt.place import Place
from funcnn.gradient.hunt.values import Random
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.jaxprs import inner_program
from funcnn.types import Array, Aval, ClosedJaxpr, Equation

_KEPT = 8
_COMPARES = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "max", "min"})
_GLANCES = 60  # trials before the branches are watched
_MOST = 64  # comparisons that are watched

Branches = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(eq=False)
class Guide:
    """Keeps the trials at one place that are worth a change.

    Attributes:
        place: where.
        furthest: those with the largest errors, with these.
        first: those at which something in the backward pass was compared as never before.
        nearest: for each comparison, how near its two sides came, and where.
        saw_so_far: how many trials it was shown.
    """

    place: Place
    furthest: list[tuple[float, Trial]] = dataclasses.field(default_factory=list)
    first: list[Trial] = dataclasses.field(default_factory=list)
    nearest: dict[int, tuple[float, Trial]] = dataclasses.field(default_factory=dict)
    saw_so_far: int = 0
    _seen: np.ndarray | None = None

    def saw(self, trial: Trial, ratio: float) -> None:
        """Keep a trial that was compared and found right, where it is worth it."""
        self.furthest.append((ratio, trial))
        self.furthest.sort(key=lambda pair: -pair[0])
        del self.furthest[_KEPT:]
        # A glance at each kind of number comes first, and needs no program more.
        self.saw_so_far += 1
        if self.saw_so_far < _GLANCES or self._branches is None:
            return
        outcomes, distances = self._branches(trial.x, trial.w)
        if self._seen is None:
            self._seen = np.zeros(outcomes.shape, bool)
        if np.any(outcomes & ~self._seen):
            self._seen |= outcomes
            self.first = [*self.first[-_KEPT + 1 :], trial]
        for k in np.flatnonzero(~np.all(self._seen, -1)):
            if distances[k] < self.nearest.get(int(k), (np.inf, trial))[0]:
                self.nearest[int(k)] = float(distances[k]), trial

    def chosen(self, random: Random) -> Trial | None:
        """One of them, by chance."""
        kinds = [
            [trial for _, trial in self.furthest],
            self.first,
            [trial for _, trial in self.nearest.values()],
        ]
        kinds = [kind for kind in kinds if kind]
        if not kinds:
            return None
        kind = kinds[int(random.integers(len(kinds)))]
        return kind[int(random.integers(len(kind)))]

    @functools.cached_property
    def _branches(self) -> Branches | None:
        """How the numbers of the backward pass compare; None where nothing is compared."""
        place = self.place
        dys = [jnp.zeros(s.shape, s.dtype) for s in place.outputs]
        program = place.low.pull_manual.jaxpr(place.low.x, dys)
        if not _Watched.sees(program):
            return None
        run = compiled(lambda leaves: _Watched.run(program, leaves))

        def branches(x: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
            outcomes, distances = run([*x, *w])
            return np.asarray(outcomes), np.asarray(distances)

        return branches


class _Watched(Evaluation):
    """Notes of each comparison outside of loops its outcomes, and how near its sides are."""

    def __init__(self) -> None:
        self.outcomes: list[Array] = []
        self.distances: list[Array] = []

    @classmethod
    def sees(cls, program: ClosedJaxpr) -> bool:
        """Whether anything is compared."""
        return any(
            _compares(eqn) or ((inner := inner_program(eqn)) and cls.sees(inner[1]))
            for eqn in program.eqns
        )

    @classmethod
    def run(cls, program: ClosedJaxpr, leaves: list[Any]) -> tuple[Array, Array]:
        """The outcomes, (K, 3): less, equal and more, anywhere; and the distances, (K,)."""
        watched = cls()
        watched(program, leaves)
        return jnp.stack(watched.outcomes[:_MOST]), jnp.stack(watched.distances[:_MOST])

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        inner = inner_program(eqn)
        if inner:
            return self(inner[1], x)
        if _compares(eqn):
            a, b = (jnp.asarray(v).astype(jnp.float32) for v in x)
            self.outcomes.append(jnp.stack([jnp.any(a < b), jnp.any(a == b), jnp.any(a > b)]))
            apart = jnp.abs(a - b) / (jnp.abs(a) + jnp.abs(b) + jnp.finfo(jnp.float32).tiny)
            apart = jnp.where(jnp.isfinite(apart) & (a != b), apart, 2.0)
            self.distances.append(jnp.min(apart, initial=2.0))
        return super().equation(eqn, x)

    def parameter(self, value: Any) -> Any:
        return value


def _compares(eqn: Equation) -> bool:
    """Whether numbers are compared; those of a mask are not."""
    if eqn.primitive.name not in _COMPARES:
        return False
    aval: Aval = eqn.invars[0].aval
    return jnp.issubdtype(aval.dtype, jnp.number)
