"""The backward pass of a rule at one case, with a mutant in its place where one is chosen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cast, cotangents_of, is_array_of_floats
from funcnn.gradient.checks.registered import Check, traits
from funcnn.gradient.mutation.mutants import UNCHANGED, Mutants, Switch
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.loops import Ending
from funcnn.types import Array, ArrayLike, ClosedJaxpr, DType, PyTree

_CANCELLED = 1e-14  # of the largest: what is below is the noise of sums that cancel


class Specimen:
    """One case of a rule, traced in float64; x64 is enabled by the caller, here and below.

    Attributes:
        situation: the case.
        mutants: of its backward pass.

    >>> from funcnn import rules
    >>> from funcnn.gradient.checks.algebra import truth
    >>> from funcnn.core.registry import Case
    >>> situation = Situation.of_rule(rules.softplus, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> with jax.enable_x64(True):
    ...     specimen = Specimen(situation)
    ...     by = {specimen.rejects(s, [truth]) for s in specimen.mutants.switches.values()}
    >>> by
    {'truth'}
    """

    def __init__(self, situation: Situation):
        self.situation = situation
        self._accepted: dict[Check, bool] = {}
        rule = situation.rule
        if rule is None:
            raise ValueError(f"{situation.name}: only a Rule has a backward pass to mutate")
        static = rule.static_arguments(**situation.case.static)
        self._args = cast(situation.args, "float64")
        self._forward = compiled(lambda *args: rule.forward(*args, **static))
        y, res = self._forward.eval_shape(*self._args)
        residuals, res_tree = jax.tree.flatten(res)
        outputs, y_tree = jax.tree.flatten(y)
        chosen = list(map(is_array_of_floats, jax.tree.leaves(self._args, is_leaf=_is_none)))

        def backward(residuals: list[Array], dys: list[Array]) -> list[Array]:
            res, drawn = jax.tree.unflatten(res_tree, residuals), iter(dys)
            dy = [next(drawn) if is_float(o) else _no_cotangent(o) for o in outputs]
            cotangents = rule.backward(res, jax.tree.unflatten(y_tree, dy), **static)
            leaves = jax.tree.leaves(cotangents, is_leaf=_is_none)
            return [d for d, wanted in zip(leaves, chosen, strict=True) if wanted]

        traced = jax.make_jaxpr(backward)(residuals, [o for o in outputs if is_float(o)])
        self.mutants = Mutants(traced, len(residuals))
        self._program = compiled(lambda *inputs: self.mutants(*inputs))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the differentiable arguments."""
        return tuple(np.shape(x) for x in self.situation.subject("float64").x)

    def moved(self, seed: int) -> Specimen:
        """Other arguments of the same shapes: each element times a number between 0.5 and 1.5."""
        random = np.random.default_rng(seed)

        def move(leaf: Any) -> Any:
            if not is_array_of_floats(leaf):
                return leaf
            return np.asarray(leaf) * random.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)

        args = jax.tree.map(move, self.situation.args)
        return Specimen(dataclasses.replace(self.situation, args=args))

    @functools.cached_property
    def _values(self) -> tuple[list[Array], list[Array]]:
        """The float outputs and the residuals."""
        y, res = self._forward(*self._args)
        return [leaf for leaf in jax.tree.leaves(y) if is_float(leaf)], jax.tree.leaves(res)

    @functools.cached_property
    def _subject(self) -> Subject:
        """The subject; its automatic side is computed once for all mutants."""
        subject = dataclasses.replace(self.situation.subject("float64"))
        # Set before they are first read, these take the place of the cached properties.
        vars(subject)["pull_automatic"] = _Remembering(subject.pull_automatic)
        vars(subject)["push_automatic"] = _Remembering(subject.push_automatic)
        return subject

    def pull(self, switch: Switch, dys: Sequence[ArrayLike]) -> list[np.ndarray]:
        """The cotangents that a mutant makes of those of the outputs."""
        return [np.asarray(out) for out in self._program(*self._inputs(switch, dys))]

    def _inputs(self, switch: Switch, dys: Sequence[ArrayLike]) -> list[ArrayLike]:
        return [switch.number, switch.amount, *self._values[1], *dys]

    def rejects(self, switch: Switch, checks: Sequence[Check]) -> str:
        """The first check that fails on the mutant and not on the rule itself, or "".

        Raises:
            ValueError: it fails on both; what rejects everything notices nothing.
        """
        for run in filter(self._applies, checks):
            if self._fails(run, switch):
                if run not in self._accepted:
                    self._accepted[run] = not self._fails(run, UNCHANGED)
                if self._accepted[run]:
                    return run.__name__
                raise ValueError(
                    f"{self.situation.name}: the rule itself fails the check {run.__name__} on "
                    f"case {self.situation.case.name!r}, so its mutants prove nothing"
                )
        return ""

    def _applies(self, run: Check) -> bool:
        case = self.situation.case
        derivative = case.intent == "derivative"
        return derivative or (not traits(run).only_derivatives and case.reference is not None)

    def _fails(self, run: Check, switch: Switch) -> bool:
        subject = dataclasses.replace(self._subject)
        vars(subject).update(
            pull_manual=_Pull(self, switch),
            pull_automatic=self._subject.pull_automatic,
            push_automatic=self._subject.push_automatic,
        )
        fields = {f.name: getattr(self.situation, f.name) for f in dataclasses.fields(Situation)}
        return any(r.verdict == "fail" for r in run(_Mutated(**fields, mutated=subject)))

    @functools.cached_property
    def _drawn(self) -> list[tuple[Any, list[np.ndarray]]]:
        """Cotangents of the outputs, and what the rule itself makes of them."""
        drawn = cotangents_of(self._subject, self.situation.seed)
        return [(dys, self.pull(UNCHANGED, dys)) for _, dys in drawn]

    @functools.cached_property
    def _largest(self) -> list[float]:
        """The norm of each leaf for the cotangent that makes it largest."""
        leaves = zip(*(leaves for _, leaves in self._drawn), strict=True)
        return [max(float(np.linalg.norm(d)) for d in ds) for ds in leaves]

    def differences(self, switch: Switch) -> Iterator[float]:
        """How far the mutant is from the rule, for each cotangent that the checks draw.

        The largest relative difference of a leaf; none where what differs is the rounding noise of
        sums that cancel, beside the largest such leaf.
        """
        for dys, rule in self._drawn:
            yield max(map(_difference, self.pull(switch, dys), rule, self._largest))


@dataclasses.dataclass(frozen=True)
class _Mutated(Situation):
    """A situation whose backward pass is a mutant."""

    mutated: Any = None

    def subject(self, dtype: DType | None = None) -> Subject:
        if dtype is None or np.dtype(dtype) != np.float64:
            raise ValueError(f"mutants run in float64 alone, and a check asks for {dtype}")
        return self.mutated


def _difference(mutant: np.ndarray, rule: np.ndarray, largest: float) -> float:
    if np.array_equal(mutant, rule, equal_nan=True):
        return 0.0
    with np.errstate(all="ignore"):
        off, size = float(np.linalg.norm(mutant - rule)), float(np.linalg.norm(rule))
    if off <= _CANCELLED * largest:
        return 0.0
    return off / size if size and np.isfinite(off / size) else np.inf


class _Pull:
    """A mutant in the place of the subject's own backward pass."""

    def __init__(self, specimen: Specimen, switch: Switch) -> None:
        self._specimen, self._switch = specimen, switch

    def __call__(self, _: PyTree, dys: Sequence[ArrayLike]) -> PyTree:
        return self._specimen._values[0], self._specimen.pull(self._switch, dys)

    def jaxpr(self, _: PyTree, dys: Sequence[ArrayLike]) -> ClosedJaxpr:
        """The program of all mutants at once."""
        specimen = self._specimen
        return specimen._program.jaxpr(*specimen._inputs(self._switch, dys))


class _Remembering:
    """A compiled function, which computes its value once for each set of arguments."""

    def __init__(self, function: Ending) -> None:
        self.eval_shape = function.eval_shape
        self._function = function
        self._known: dict[tuple[bytes, ...], PyTree] = {}

    def __call__(self, *args: PyTree) -> PyTree:
        key = tuple(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(args))
        if key not in self._known:
            self._known[key] = jax.tree.map(np.asarray, self._function(*args))
        return self._known[key]


def _is_none(x: object) -> bool:
    return x is None


def _no_cotangent(output: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.zeros(output.shape, jax.dtypes.float0)
