"""One case of a rule, or one call of a function: what each check takes."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.contract import leaf_names
from funcnn.core.errors import first_line
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.arguments import of_real_arrays, real_arrays
from funcnn.gradient.case.pullbacks import Subject, cast, float_leaves, is_array_of_floats
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.program.loops import has_loop
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.sites import Site
from funcnn.gradient.program.without_rules import Program, differentiable, inlined, trace
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike, DType, Function, PyTree, Verdict


def in_float64(
    check: Callable[[Situation], Iterator[Result]],
) -> Callable[[Situation], Iterator[Result]]:
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
        plain: the function itself without hand-written rules, for its value and forward mode.
        further: `automatic` with loops that run on after they have ended.
        rule: the rule that is checked, None for another function.
        seed: of the cotangents and directions.
        asked: the dtypes that somebody has asked for; in others a finding is a note.
    """

    name: str
    case: Case
    parameters: tuple[str, ...]
    args: tuple[Any, ...]
    manual: Function
    automatic: Function
    plain: Function
    further: Function | None = None
    rule: Rule | None = None
    seed: int = 0
    asked: tuple[str, ...] = ()

    @classmethod
    def of_rule(cls, rule: Rule, case: Case, seed: int = 0, *, own: bool = True) -> Situation:
        """One case of a rule; `own` where the rule declares it, dtypes included.

        >>> from funcnn import rules
        >>> Situation.of_rule(rules.relu, Case("one", (jnp.ones(3),))).parameters
        ('x',)
        """
        args, static = rule.bind(*case.args, **case.static)
        plain = functools.partial(rule.reference, **static)
        truth = _Truth.of(functools.partial(case.reference or rule.reference, **static), args)
        return cls(
            rule.name,
            case,
            rule.parameters,
            real_arrays(args),
            of_real_arrays(functools.partial(rule, **static)),
            of_real_arrays(truth.automatic),
            of_real_arrays(inlined(plain) if truth.further else plain),
            truth.further and of_real_arrays(truth.further),
            rule,
            seed,
            (*(case.dtypes if own else ()), *_dtypes(real_arrays(args)), "float64"),
        )

    @classmethod
    def of_function(cls, f: Function, case: Case, name: str, seed: int = 0) -> Situation:
        """One call of any function, held against itself without rules.

        >>> Situation.of_function(jnp.sin, Case("one", (jnp.ones(3),)), "sin").parameters
        ('argument_0',)
        """
        manual = functools.partial(f, **case.static)
        truth = _Truth(differentiable(manual), differentiable(manual, further=True))
        if case.reference:
            truth = _Truth.of(functools.partial(case.reference, **case.static), case.args)
        args = real_arrays(case.args)
        return cls(
            name,
            case,
            tuple(f"argument_{i}" for i in range(len(args))),
            args,
            of_real_arrays(manual),
            of_real_arrays(truth.automatic),
            of_real_arrays(inlined(manual)),
            truth.further and of_real_arrays(truth.further),
            seed=seed,
            asked=(*_dtypes(args), "float64"),
        )

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
        return _dtypes(self.args)

    def subject(self, dtype: DType | None = None) -> Subject:
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

        names: list[str] = []

        def of_floats(f: Function) -> Callable[..., list[Any]]:
            def run(*x: ArrayLike) -> list[Any]:
                # As a call takes them: without x64 an int64 array of NumPy's is int32.
                taken = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in leaves]
                given = jax.tree.unflatten(tree, filled(taken, chosen, x))
                y = jax.tree.leaves_with_path(f(*given))
                y = [(p, v if hasattr(v, "dtype") else np.asarray(v)) for p, v in y]  # numbers
                floats = [(path, leaf) for path, leaf in y if is_float(leaf)]
                names[:] = [f"output{jax.tree_util.keystr(path)}" for path, _ in floats]
                return [leaf for _, leaf in floats]

            return run

        x = tuple(leaves[i] for i in chosen)
        manual, automatic = of_floats(self.manual), of_floats(self.automatic)
        # With a function to follow, forward mode is that of the function.
        plain = of_floats(self.plain) if self.case.reference is None else automatic
        further = of_floats(self.further) if self.further else None
        kinks = self.case.kinks
        return Subject(self.leaves, x, manual, automatic, kinks, plain, further, names)

    def result(
        self,
        check: str,
        leaf: str,
        verdict: Verdict,
        note: str = "",
        *,
        dtype: str = "",
        **more: Any,
    ) -> Result:
        """A result of this case; `dtype` where the check runs in several.

        In a dtype that nobody asked for it concerns another setting.
        """
        if dtype and dtype.partition(" ")[0] not in (*self.asked, "mixed"):
            more.setdefault("setting", dtype)
        return Result(
            self.name, check, self.case.name, leaf, verdict, note, self.seed, dtype, **more
        )

    @property
    def source(self) -> str:
        """File and line of the backward pass, or of the function where there is none to be had."""
        return self._source[1]

    @property
    def source_of(self) -> str:
        """What stands at `source`: "backward" or "function"."""
        return self._source[0]

    @functools.cached_property
    def _source(self) -> tuple[str, str]:
        kind, function = (
            ("backward", self.rule.backward) if self.rule else ("function", self.manual)
        )
        while True:
            if isinstance(function, jax.custom_vjp) and function.bwd is not None:
                kind, function = "backward", function.bwd
            elif isinstance(function, functools.partial):
                function = function.func
            elif hasattr(function, "__wrapped__"):
                function = getattr(function, "__wrapped__")  # noqa: B009
            else:
                break
        code = getattr(function, "__code__", None)
        return kind, f"{code.co_filename}:{code.co_firstlineno}" if code else ""


class _Truth(NamedTuple):
    """What has the true gradient; the same with loops that run on, where there may be any."""

    automatic: Function
    further: Function | None

    @classmethod
    def of(cls, reference: Function, args: tuple[Any, ...]) -> _Truth:
        """Of a reference without the rules that it calls, but for JAX's own.

        One that calls the rule whose truth it is would be compared with itself.
        """
        try:
            program = trace(of_real_arrays(reference), real_arrays(args), {}).jaxpr
        except Exception:  # the checks say what it raises
            return cls(reference, None)
        if all(map(_is_of_jax, sites(program))) and not has_loop(program):
            return cls(reference, None)
        without = functools.partial(differentiable, reference, keep=_is_of_jax)
        return cls(without(), without(further=True))


def _is_of_jax(site: Site) -> bool:
    """Whether a site is one of JAX's own custom_jvp functions: what stands at its line is one.

    A rule of somebody else's over a function of JAX has the name and the line of that function.
    """
    file, _, _ = site.source.rpartition(":")
    if site.kind != "custom_jvp" or site.around or not file.startswith(_JAX):
        return False
    modules = (m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file)
    return any(isinstance(getattr(m, site.name, None), jax.custom_jvp) for m in modules)


_JAX = str(pathlib.Path(jax.__file__).parent)


def _dtypes(args: PyTree) -> tuple[str, ...]:
    """The floating-point dtypes of the arguments."""
    return tuple(dict.fromkeys(str(leaf.dtype) for leaf in float_leaves(args)))


def trace_real(f: Function, args: tuple[Any, ...], given: PyTree) -> Program:
    """`f` traced on real arrays; an error that a number of Python explains says so.

    >>> trace_real(lambda x, on: x if on else -x, real_arrays((1.0, 0.5)), (1.0, 0.5))
    Traceback (most recent call last):
    TypeError: a number among the arguments is one to differentiate, and the function cannot take it
    as an array; give what is fixed by static=, or in a closure: ...
    """
    try:
        return trace(f, args, {})
    except Exception as error:
        if not any(isinstance(leaf, float) for leaf in jax.tree.leaves(given)):
            raise
        raise TypeError(
            "a number among the arguments is one to differentiate, and the function cannot take it "
            f"as an array; give what is fixed by static=, or in a closure: {first_line(error)}"
        ) from error
