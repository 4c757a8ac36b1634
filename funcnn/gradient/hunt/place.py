"""What is hunted, at arguments of certain sizes: integers and masks are arguments of it, too."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.arguments import Parts, real_arrays
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, is_array_of_floats
from funcnn.gradient.hunt.constants import constants_of
from funcnn.gradient.hunt.values import Numbers
from funcnn.gradient.program.dtypes import pinned_dtypes
from funcnn.gradient.program.float64 import is_float, raise_function
from funcnn.gradient.program.without_rules import trace
from funcnn.types import ArrayLike, Function, PyTree

Kind = Literal["float", "integer", "mask"]

_EXACT = 2**24  # whole numbers below it are numbers of float32, too
_FEW = 400  # elements, above which a smaller example is looked for first


@dataclasses.dataclass(frozen=True)
class Hunted:
    """A function of somebody's with its arguments.

    Attributes:
        name: of the function or the rule.
        f: the function, or the rule with its static arguments.
        args: its arguments.
        parameters: their names.
        reference: the function whose derivative is the truth; None: `f` without its rules.
    """

    name: str
    f: Function
    args: tuple[Any, ...]
    parameters: tuple[str, ...]
    reference: Function | None = None

    @classmethod
    def of_rule(cls, rule: Rule, case: Case) -> Hunted:
        """A rule at the arguments of a case.

        >>> from funcnn import rules
        >>> Hunted.of_rule(rules.tanh, Case("one", (np.ones(2),))).parameters
        ('x',)
        """
        args, static = rule.bind(*case.args, **case.static)
        truth = case.reference or rule.reference
        f, reference = (functools.partial(g, **static) for g in (rule, truth))
        return cls(rule.name, f, args, rule.parameters, reference)

    @classmethod
    def of_function(cls, name: str, f: Function, case: Case, reference: Function | None) -> Hunted:
        """Any function at the arguments of a case.

        >>> Hunted.of_function("sin", jnp.sin, Case("one", (np.ones(2),)), None).parameters
        ('argument_0',)
        """
        f = functools.partial(f, **case.static)
        truth = reference and functools.partial(reference, **case.static)
        names = tuple(f"argument_{i}" for i in range(len(case.args)))
        return cls(name, f, case.args, names, truth)

    @functools.cached_property
    def dtypes(self) -> PyTree:
        """In the tree of the arguments: of integers and masks that may change the dtype, else None.

        Keys and other numbers too large for a float stay as they are.
        """
        return jax.tree.map(_dtype_of_choices, self.args)

    @functools.cached_property
    def numbers(self) -> tuple[Any, ...]:
        """The arguments with those integers and masks as floats."""
        return jax.tree.map(_as_float, self.args, self.dtypes)

    def of_numbers(self, f: Function) -> Function:
        """`f` of such arguments: what is no whole number, by an error of rounding, becomes one."""

        def run(*numbers: PyTree) -> PyTree:
            return f(*jax.tree.map(_restored, numbers, self.dtypes))

        return run

    @functools.cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Of each leaf that may change: "float", "integer" or "mask"."""
        kinds = jax.tree.map(_kinds, self.args, self.dtypes)
        return tuple(kind for kind in jax.tree.leaves(kinds) if kind)

    def at(self, sizes: Mapping[int, int], seed: int = 0) -> Place:
        """The same with axes of other sizes: those of equal size change together."""
        numbers = jax.tree.map(lambda leaf: _resized(leaf, sizes), self.numbers)
        reference = self.reference and self.of_numbers(self.reference)
        case = Case("hunted", numbers, reference=reference)
        situation = Situation.of_function(self.of_numbers(self.f), case, self.name, seed)
        situation = dataclasses.replace(situation, parameters=self.parameters)
        return Place(self, dict(sizes), situation)

    def sizes(self) -> dict[int, int]:
        """Sizes to begin with: the given ones, or where they are many elements smaller ones."""
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(self.numbers) if _changes(leaf)]
        if sum(int(np.prod(shape)) for shape in shapes) <= _FEW:
            return {}
        found = sorted({n for shape in shapes for n in shape if n > 7})
        return {n: 4 + i for i, n in enumerate(found)}

    def other_sizes(self) -> Iterator[dict[int, int]]:
        """One size after the other changed, and all at once, the telling ones first."""
        begin = self.sizes()
        leaves = [leaf for leaf in jax.tree.leaves(self.numbers) if _changes(leaf)]
        sizes = list(dict.fromkeys(n for leaf in leaves for n in np.shape(leaf)))
        if begin:
            yield {}
        for new in (1, 3, 2, 9, 17, 6, 33, 65, 130, 257):
            for old in sizes:
                if begin.get(old, old) != new and old > 0:
                    yield {**begin, old: new}
        yield dict.fromkeys(sizes, 1)
        for new in (2, 5, 8, 16):
            yield dict.fromkeys(sizes, new)
            yield {n: new + i for i, n in enumerate(sizes)}


@dataclasses.dataclass(frozen=True)
class Place:
    """What is hunted, traced and compiled at arguments of certain sizes.

    Attributes:
        hunted: what it is.
        sizes: from the size of an axis as given to that here.
        situation: the function of numbers at arguments of these sizes.
    """

    hunted: Hunted
    sizes: dict[int, int]
    situation: Situation

    @functools.cached_property
    def low(self) -> Subject:
        """In the dtypes that were given."""
        return self.situation.subject()

    @functools.cached_property
    def exact(self) -> Subject:
        """In float64. x64 is enabled by the caller, here and wherever it is run."""
        exact = self.situation.subject("float64")
        if not self.pinned:
            return exact
        program = trace(self.situation.automatic, self.situation.args, {})
        raised = raise_function(program)

        def automatic(*x: ArrayLike) -> list[Any]:
            leaves = list(program.leaves)
            places = [i for i, leaf in enumerate(leaves) if is_array_of_floats(leaf)]
            for i, value in zip(places, x, strict=True):
                leaves[i] = value
            return [y for y in raised(leaves) if is_float(y)]

        return dataclasses.replace(exact, automatic=automatic, plain=automatic, further=None)

    @functools.cached_property
    def pinned(self) -> bool:
        """Whether the function names a dtype, so that its own code does not run in float64."""
        with jax.enable_x64(True):
            subject = self.situation.subject("float64")
            try:
                dys = jax.eval_shape(subject.manual, *subject.x)
                pull = jax.make_jaxpr(subject.pull_manual)
                return bool(pinned_dtypes(pull(subject.x, dys)))
            except Exception:  # float64 meets the dtype that the function names
                return True

    @functools.cached_property
    def outputs(self) -> list[Any]:
        """The shapes and dtypes of the float outputs."""
        return jax.eval_shape(self.low.automatic, *self.low.x)

    @functools.cached_property
    def constants(self) -> tuple[float, ...]:
        """The numbers in the programs of both gradients, those that they compare with first."""
        dys = [jnp.zeros(s.shape, s.dtype) for s in self.outputs]
        pulls = self.low.pull_manual, self.low.pull_automatic
        return constants_of(*(pull.jaxpr(self.low.x, dys) for pull in pulls))

    @functools.cached_property
    def numbers(self) -> tuple[Numbers, ...]:
        """Of each leaf."""
        return tuple(Numbers.of(x, x.dtype, self.constants) for x in self.low.x)

    @functools.cached_property
    def numbers_of_outputs(self) -> tuple[Numbers, ...]:
        """Of each output."""
        return tuple(Numbers.of(np.zeros(s.shape), s.dtype, self.constants) for s in self.outputs)

    def ends(self, i: int) -> tuple[int, int]:
        """The smallest and the largest number of an integer leaf: those of an index, if it is one.

        An index counts an axis that it has not itself; the first such axis is taken.
        """
        original, given = np.asarray(self._given(i)), np.asarray(self.low.x[i])
        low, high = (int(f(original)) for f in (np.min, np.max)) if original.size else (0, 0)
        if low < 0:
            return min(low, -high), high
        pairs = zip(self.hunted.kinds, range(len(self.low.x)), strict=True)
        for kind, j in pairs:
            for old, n in zip(np.shape(self._given(j)), np.shape(self.low.x[j]), strict=True):
                if kind == "float" and old > high and old not in original.shape:
                    return 0, max(n - 1, 0)
        return 0, max(high, int(np.max(given, initial=0)))

    def _given(self, i: int) -> Any:
        """The leaf in the sizes that it was given in."""
        leaves = jax.tree.leaves(real_arrays(self.hunted.numbers))
        return [leaf for leaf in leaves if is_array_of_floats(leaf)][i]


def _changes(leaf: object) -> bool:
    return is_array_of_floats(leaf) or _is_complex(leaf)


def _is_complex(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def _dtype_of_choices(leaf: Any) -> np.dtype[Any] | None:
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return None
    if leaf.dtype == bool:
        return np.dtype(bool)
    if not jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == np.uint32:
        return None
    small = not leaf.size or int(np.max(np.abs(np.asarray(leaf, np.int64)))) < _EXACT
    return jax.dtypes.canonicalize_dtype(leaf.dtype) if small else None


def _as_float(leaf: Any, dtype: np.dtype[Any] | None) -> Any:
    return leaf if dtype is None else np.asarray(leaf, np.float32)


def _restored(leaf: Any, dtype: np.dtype[Any] | None) -> Any:
    if dtype is None:
        return leaf
    leaf = jax.lax.stop_gradient(leaf)
    return leaf > 0.5 if _is_mask(dtype) else jnp.round(leaf).astype(dtype)


def _is_mask(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "b"


def _kinds(leaf: Any, dtype: np.dtype[Any] | None) -> Any:
    if dtype is not None:
        return "mask" if _is_mask(dtype) else "integer"
    real = real_arrays(leaf)
    if isinstance(real, Parts):
        return "float", "float"
    return "float" if is_array_of_floats(real) else ""


def _resized(leaf: Any, sizes: Mapping[int, int]) -> Any:
    if not _changes(leaf) or not any(n in sizes for n in np.shape(leaf)):
        return leaf
    leaf = np.asarray(leaf)
    for axis, n in enumerate(leaf.shape):
        if n in sizes:
            leaf = np.take(leaf, np.arange(sizes[n]) % n, axis)
    return leaf
