"""What a check looks at: a function with a manual and an automatic pullback at given arguments."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import evaluate_raised, evaluate_shaken, is_float, perturbed
from funcnn.gradient.program.loops import Ending, has_loop
from funcnn.gradient.program.rewriting import Rewriting
from funcnn.types import ClosedJaxpr, DType, PyTree

_SHAKES = 2
_PULLS = "pull_manual", "pull_automatic", "push_automatic", "pull_further"
COARSE = 32.0


@dataclasses.dataclass(frozen=True)
class Subject:
    """A function of flat float leaves in one dtype, with its manual and its automatic derivative.

    In float64 it is the algebra of the rule's own code that is checked, below that its rounding.

    Attributes:
        leaves: the names of the differentiable leaves.
        x: those leaves.
        manual, automatic: `x -> list of float outputs`.
        kinks: whether x stands on kinks or ties.
        plain: the function without rules, for its value and forward mode; by default `automatic`.
        further: `automatic` with loops that run on after they have ended, where there are any.
        names_of_outputs: filled when a function is first traced; see `outputs`.
        backward: the program of the manual pullback, `(*x, *dys) -> cotangents`, traced in any
            precision; by default that of `manual`.
    """

    leaves: tuple[str, ...]
    x: tuple[Any, ...]
    manual: Callable[..., list[Any]]
    automatic: Callable[..., list[Any]]
    kinks: bool
    plain: Callable[..., list[Any]] | None = None
    further: Callable[..., list[Any]] | None = None
    names_of_outputs: Sequence[str] = ()
    backward: Callable[[], ClosedJaxpr] | None = None

    def at(self, x: tuple[Any, ...]) -> Subject:
        """The same at other leaves of the same shapes: what is compiled stays so.

        >>> x, y = (np.ones(2),), (np.zeros(2),)
        >>> one = Subject(("x",), x, list, list, False)
        >>> one.at(y).pull_manual is one.pull_manual
        True
        """
        for name in (*_PULLS, "_shaken", "_shaken_manual", "has_loop"):
            getattr(self, name)
        other = copy.copy(self)
        object.__setattr__(other, "x", x)
        return other

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, their paths in the tree of the result."""
        shapes = jax.eval_shape(self.manual, *self.x)
        return tuple(self.names_of_outputs) or tuple(f"output {i}" for i in range(len(shapes)))

    @functools.cached_property
    def pull_manual(self) -> Ending:
        """`(x, dys) -> (y, list of cotangents, one for each leaf of x)`, compiled."""
        return _pullback(self.manual)

    @functools.cached_property
    def pull_automatic(self) -> Ending:
        """The same through the automatic derivative."""
        return _pullback(self.automatic)

    @functools.cached_property
    def push_automatic(self) -> Ending:
        """`(x, v) -> J v`, by forward mode: it shares no transposition with the pullback."""
        plain = self.plain or self.automatic
        return compiled(lambda x, v: jax.jvp(lambda *x: plain(*x), x, v)[1])

    @functools.cached_property
    def pull_further(self) -> Ending:
        """As `pull_automatic`, with loops that run on after they have ended."""
        return _pullback(self.further or self.automatic)

    def shaken(self, unit: float) -> list[Any]:
        """`(x, dys) -> cotangents`, compiled: as they are, then pairs with rounding errors.

        Of each pair the first with errors of a size `unit` upon every number that is computed, the
        second with errors COARSE times larger. x64 is enabled by the caller.
        """
        if unit not in self._shaken:
            self._shaken[unit] = _shaken_pullbacks(self, unit)
        return self._shaken[unit]

    def shaken_manual(self, unit: float, draws: int) -> list[Ending]:
        """The manual pullback as it is, and some with such errors; compiled. x64 is enabled."""
        if (unit, draws) not in self._shaken_manual:
            own = self.backward or (lambda: _program_of_pullback(self, self.manual))
            # What a rule calls on its way back is evaluated there, and not differentiated.
            program = Rewriting(lambda site: True).closed(own())

            def with_errors(seed: int) -> Ending:
                return compiled(
                    lambda x, dys: evaluate_shaken(program, [*x, *dys], unit, seed=seed)
                )

            exact = compiled(lambda x, dys: evaluate_raised(program, [*x, *dys]))
            self._shaken_manual[unit, draws] = [exact, *map(with_errors, range(draws))]
        return self._shaken_manual[unit, draws]

    @functools.cached_property
    def _shaken_manual(self) -> dict[tuple[float, int], list[Ending]]:
        return {}

    @functools.cached_property
    def _shaken(self) -> dict[float, list[Any]]:
        return {}

    @functools.cached_property
    def has_loop(self) -> bool:
        """Whether a loop that ends by itself stands in the function, or in what a rule wraps."""
        return has_loop(jax.make_jaxpr(self.plain or self.automatic)(*self.x))

    def moved(self, dtype: DType, draws: int = 2) -> list[tuple[Any, ...]]:
        """x, in float64, changed in the last place of `dtype`.

        None at kinks, where any change means another derivative.
        """
        if self.kinks:
            return []
        u = float(jnp.finfo(dtype).eps) / 2
        return [tuple(perturbed(self.x, u, seed)) for seed in range(draws)]


def _pullback(f: Callable[..., list[Any]]) -> Ending:
    def pull(x: tuple[Any, ...], dys: list[Any]) -> tuple[list[Any], tuple[Any, ...]]:
        y, transposed = jax.vjp(lambda *x: f(*x), *x)
        return y, transposed(dys)

    return compiled(pull)


def _program_of_pullback(subject: Subject, f: Callable[..., list[Any]]) -> ClosedJaxpr:
    def pull(x: tuple[Any, ...], dys: list[Any]) -> tuple[Any, ...]:
        return jax.vjp(lambda *x: f(*x), *x)[1](dys)

    x = tuple(jnp.asarray(leaf) for leaf in subject.x)
    return jax.make_jaxpr(pull)(x, jax.eval_shape(f, *x))


def _shaken_pullbacks(subject: Subject, unit: float) -> list[Any]:
    program = _program_of_pullback(subject, subject.automatic)

    def with_errors(size: float, seed: int) -> Ending:
        def run(x: tuple[Any, ...], dys: list[Any]) -> list[Any]:
            return evaluate_shaken(program, [*x, *dys], size, seed)

        return compiled(run)

    exact = compiled(lambda x, dys: evaluate_raised(program, [*x, *dys]))
    pairs = [(with_errors(unit, s), with_errors(COARSE * unit, s)) for s in range(_SHAKES)]
    return [exact, *pairs]


def cotangents_of(subject: Subject, seed: int = 0) -> list[tuple[str, list[Any]]]:
    """`cotangents` of the outputs of a subject."""
    return cotangents(jax.eval_shape(subject.manual, *subject.x), seed)


def cotangents(shapes: list[Any], seed: int = 0) -> list[tuple[str, list[Any]]]:
    """Cotangents of the outputs: three random ones, all ones, and one element alone.

    >>> [name for name, _ in cotangents([np.zeros(3)], 0)]
    ['random 0', 'random 1', 'random 2', 'ones', 'one-hot']
    """
    random = np.random.default_rng(seed)
    drawn = [(f"random {i}", [random.normal(size=s.shape) for s in shapes]) for i in range(3)]
    drawn.append(("ones", [np.ones(s.shape) for s in shapes]))
    one_hot = [np.zeros(s.shape) for s in shapes]
    for dy in one_hot:
        if dy.size:
            dy.flat[random.integers(dy.size)] = 1.0
    drawn.append(("one-hot", one_hot))
    return [
        (name, [np.asarray(dy).astype(s.dtype) for dy, s in zip(dys, shapes, strict=True)])
        for name, dys in drawn
    ]


def cast(args: PyTree, dtype: DType) -> PyTree:
    """The tree with its floating-point arrays as NumPy's in `dtype`; everything else as it is.

    Eager operations of JAX would each be compiled for each shape.

    >>> cast((jnp.ones(2), 3), "float64")
    (array([1., 1.]), 3)
    """
    dtype = jnp.dtype(dtype)
    return jax.tree.map(lambda a: np.asarray(a).astype(dtype) if is_array_of_floats(a) else a, args)


def float_leaves(tree: PyTree) -> list[Any]:
    """The leaves of a tree that are arrays of real floating point.

    >>> len(float_leaves({"a": jnp.ones(2), "b": 3}))
    1
    """
    return [leaf for leaf in jax.tree.leaves(tree) if is_array_of_floats(leaf)]


def is_array_of_floats(leaf: object) -> bool:
    """Whether a leaf is an array, JAX's or NumPy's, of real floating point.

    >>> is_array_of_floats(jnp.ones(2)), is_array_of_floats(1.0)
    (True, False)
    """
    return isinstance(leaf, (jax.Array, np.ndarray)) and is_float(leaf)
