"""One case of a rule, or one call of a function: what each check takes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.contract import leaf_names
from funcnn.gradient.results import Result
from funcnn.gradient.subject import Subject, cast, is_array_of_floats
from funcnn.gradient.truth import is_float
from funcnn.gradient.without_rules import without_rules
from funcnn.registry import Case, Rule


def in_float64(check: Callable[[Situation], Iterator[Result]]) -> Any:
    """Decorate a check that computes in float64, all of it, whatever the caller has enabled.

    >>> @in_float64
    ... def dtype(situation):
    ...     yield jnp.ones(3).dtype
    >>> next(dtype(None))
    dtype('float64')
    """

    @functools.wraps(check)
    def run(situation: Situation) -> Iterator[Result]:
        # Not lazily: the context would be left and entered wherever the results are consumed.
        with jax.enable_x64(True):
            return iter(list(check(situation)))

    return run


@dataclasses.dataclass(frozen=True)
class Situation:
    """A function with its manual and its automatic form at given arguments.

    Attributes:
        name: of the rule or function.
        case: which arguments these are, with their kinks, dtypes, laws and intent.
        parameters: the names of the positional arguments.
        args: those arguments, as they were given.
        manual: `manual(*args) -> y`, with its hand-written rules.
        automatic: the function whose automatic derivative is the truth.
        plain: the function itself without hand-written rules; mostly the same.
        rule: the rule that is checked, None for another function.
        seed: of the cotangents and directions.
    """

    name: str
    case: Case
    parameters: tuple[str, ...]
    args: tuple[Any, ...]
    manual: Callable[..., Any]
    automatic: Callable[..., Any]
    plain: Callable[..., Any]
    rule: Rule | None = None
    seed: int = 0

    @classmethod
    def of_rule(cls, rule: Rule, case: Case, seed: int = 0) -> Situation:
        """One case of a rule.

        >>> from funcnn import rules
        >>> Situation.of_rule(rules.relu, Case("one", (jnp.ones(3),))).parameters
        ('x',)
        """
        args, static = rule.bind(*case.args, **case.static)
        manual = functools.partial(rule, **static)
        plain = functools.partial(rule.reference, **static)
        automatic = functools.partial(case.reference, **static) if case.reference else plain
        return cls(rule.name, case, rule.parameters, args, manual, automatic, plain, rule, seed)

    @classmethod
    def of_function(cls, f: Callable[..., Any], case: Case, name: str, seed: int = 0) -> Situation:
        """One call of any function, held against itself without rules.

        >>> Situation.of_function(jnp.sin, Case("one", (jnp.ones(3),)), "sin").parameters
        ('argument_0',)
        """
        parameters = tuple(f"argument_{i}" for i in range(len(case.args)))
        manual = functools.partial(f, **case.static)
        plain = without_rules(manual)
        automatic = functools.partial(case.reference, **case.static) if case.reference else plain
        return cls(name, case, parameters, case.args, manual, automatic, plain, seed=seed)

    @functools.cached_property
    def leaves(self) -> tuple[str, ...]:
        """The names of the differentiable leaves, those that are arrays of floating point."""
        names = leaf_names(self.parameters, jax.tree.structure(self.args))
        leaves = jax.tree.leaves(self.args)
        return tuple(n for n, x in zip(names, leaves, strict=True) if is_array_of_floats(x))

    @functools.cached_property
    def _subjects(self) -> dict[str | None, Subject]:
        return {}

    @property
    def given_dtypes(self) -> tuple[str, ...]:
        """The floating-point dtypes of the arguments as they were given."""
        leaves = filter(is_array_of_floats, jax.tree.leaves(self.args))
        return tuple(dict.fromkeys(str(leaf.dtype) for leaf in leaves))

    def subject(self, dtype: Any = None) -> Subject:
        """The subject with every floating-point array in `dtype`, made and compiled once.

        None leaves the arrays in the dtypes in which they were given. For "float64" the caller has
        enabled x64, here and whenever it runs the subject.
        """
        name = None if dtype is None else jnp.dtype(dtype).name
        if name not in self._subjects:
            self._subjects[name] = self._make_subject(name)
        return self._subjects[name]

    def _make_subject(self, dtype: str | None) -> Subject:
        leaves, tree = jax.tree.flatten(cast(self.args, dtype) if dtype else self.args)
        chosen = [i for i, leaf in enumerate(leaves) if is_array_of_floats(leaf)]

        def of_floats(f: Callable[..., Any]) -> Callable[..., list[Any]]:
            def run(*x: Any) -> list[Any]:
                filled = list(leaves)
                for i, value in zip(chosen, x, strict=True):
                    filled[i] = value
                y = f(*jax.tree.unflatten(tree, filled))
                return [leaf for leaf in jax.tree.leaves(y) if is_float(leaf)]

            return run

        x = tuple(leaves[i] for i in chosen)
        manual, automatic = of_floats(self.manual), of_floats(self.automatic)
        return Subject(self.leaves, x, manual, automatic, self.case.kinks)

    def result(
        self, check: str, leaf: str, verdict: str, note: str = "", *, dtype: str = "", **more: Any
    ) -> Result:
        """A result of this case; `dtype` where the check runs in several."""
        return Result(
            self.name, check, self.case.name, leaf, verdict, note, self.seed, dtype, **more
        )

    @functools.cached_property
    def source(self) -> str:
        """File and line of the backward pass, or of the function where there is no rule."""
        function: Any = self.rule.backward if self.rule else self.manual
        while isinstance(function, functools.partial):
            function = function.func
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else ""
