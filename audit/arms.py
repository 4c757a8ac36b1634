"""The derivatives of a case: with rules and without, in float32 and in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case

from funcnn.core.removal import Removal
from funcnn.gradient.program.float64 import raise_function, raised
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.sites import Site
from funcnn.gradient.program.without_rules import Program, take_out, trace

# Programs that run a few times only; what a user would run is compiled as a user would.
_QUICK = {"xla_backend_optimization_level": 0}
Run = Callable[..., list[Any]]


class Arms:
    """A case as functions of its floating-point leaves, and their derivatives."""

    def __init__(self, case: Case):
        self.case = case
        self.leaves, self.tree = jax.tree.flatten(case.args)
        self.chosen = [i for i, leaf in enumerate(self.leaves) if case.is_float(leaf)]
        self.x = [self.leaves[i] for i in self.chosen]

    @functools.cached_property
    def sites(self) -> list[Site]:
        """The rules in the program."""
        return sites(trace(self.case.f, self.case.args, {}).jaxpr)

    @functools.cached_property
    def _taken_out(self) -> tuple[Program, list[Site]]:
        return take_out(self.case.f, self.case.args, {}, Removal())

    def native_manual(self) -> list[Any]:
        """The derivative with the rules, as a user gets it."""
        return self._pull(self._of_floats(self.case.f), self.x)

    def native_values(self) -> Any:
        """The function itself in float32; of one that works element by element."""
        return np.asarray(jax.jit(self._of_floats(self.case.f))(*self.x)[0])

    def value_is_off(self) -> bool:
        """Whether a value in float32 is not even within a percent of the one in float64."""
        if self.case.draws:
            return False
        f = self._of_floats(self.case.f)
        native = jax.jit(f)(*self.x)
        with jax.enable_x64(True):
            try:
                double = jax.jit(f)(*[raised(x) for x in self.x])
            except (TypeError, ValueError):
                return False
        return not all(map(_near, native, double))

    def native_automatic(self) -> list[Any] | None:
        """The derivative without rules; None where there are none, or none could be taken out."""
        program, kept = self._taken_out
        if not self.sites or len(kept) == len(self.sites):
            return None
        f = self._of_floats(lambda *args: program.run(_arrays(args)))
        return self._pull(f, self.x)

    def raised_manual(self) -> list[Any] | None:
        """The derivative with the rules in float64; None where the function names a dtype."""
        with jax.enable_x64(True):
            try:
                f = self._of_floats(self.case.f)
                found = self._pull(f, [raised(x) for x in self.x], _QUICK)
            except (TypeError, ValueError):
                return None
        return found if all(g.dtype == np.float64 for g in found) else None

    def raised_automatic(self, x: list[Any] | None = None) -> list[Any]:
        """The derivative in float64 without rules; raises NoTruth."""
        program, _ = self._taken_out
        with jax.enable_x64(True):
            run = raise_function(program)
            f = self._of_floats(lambda *args: run([raised(a) for a in _arrays(args)]))
            return self._pull(f, [raised(v) for v in (x or self.x)], _QUICK)

    def raised_value(self) -> Callable[[list[Any]], float]:
        """The weighted sum of the outputs in float64, for finite differences; x64 is enabled."""
        f = self._of_floats(self.case.f)
        x = [raised(v) for v in self.x]
        shapes = jax.eval_shape(lambda *x: f(*x), *x)
        if any(s.dtype != np.float64 for s in shapes):
            program, _ = self._taken_out
            run = raise_function(program)
            f = self._of_floats(lambda *args: run([raised(a) for a in _arrays(args)]))
        weights = self._weights(shapes)

        def value(*x: Any) -> Any:
            return sum(jnp.vdot(w, y) for w, y in zip(weights, f(*x), strict=True))

        return jax.jit(value, compiler_options=_QUICK)

    def _of_floats(self, f: Callable[..., Any]) -> Run:
        def run(*x: Any) -> list[Any]:
            filled = list(self.leaves)
            for i, value in zip(self.chosen, x, strict=True):
                filled[i] = value
            y = jax.tree.leaves(f(*jax.tree.unflatten(self.tree, filled)))
            return [leaf for leaf in y if jnp.issubdtype(leaf.dtype, jnp.floating)]

        return run

    def _weights(self, shapes: list[Any]) -> list[Any]:
        """Ones where f works element by element, so that it is its derivative that comes back."""
        random = np.random.default_rng(0)
        if self.case.exact or self.case.truth:
            return [np.ones(s.shape) for s in shapes]
        return [np.round(64 * random.normal(size=s.shape)) / 64 for s in shapes]

    def _pull(self, f: Run, x: list[Any], options: Any = None) -> list[Any]:
        def pull(*x: Any) -> Any:
            y, transposed = jax.vjp(lambda *x: f(*x), *x)
            weights = self._weights(y)
            return transposed([jnp.asarray(w, v.dtype) for w, v in zip(weights, y, strict=True)])

        return [np.asarray(g) for g in jax.jit(pull, compiler_options=options)(*x)]


def _near(native: Any, double: Any) -> bool:
    native, double = np.asarray(native, np.float64), np.asarray(double, np.float64)
    distance = np.abs(native - double)
    return bool(np.all((native == double) | (distance <= 0.01 * np.abs(double))))


def _arrays(args: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, (jax.Array, np.ndarray))]
