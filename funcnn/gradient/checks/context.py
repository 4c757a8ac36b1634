"""Check 14, determinism and context: the same bits twice, and settings that reach the backward."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.case.representatives import shown_elsewhere
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import live, subprograms
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike, Aval, ClosedJaxpr, Equation, Function, Jaxpr, PyTree, Verdict

_KEEPING_PRECISION = (
    "give each product precision=..., or make the rule with @fnn.rule, which keeps the caller's"
)


@registered("full", order=8)
def context(situation: Situation) -> Iterator[Result]:
    """What stands around a call reaches its backward pass, and nothing else does.

    Two runs and a fresh compilation give the same bits; no tracer outlives its trace; every product
    of the backward pass has the matmul precision in force around the call; under x64 nothing is
    computed above or below the dtype of the arguments where autodiff stays in it; strict dtype
    promotion and rank promotion raise nothing that they do not raise without the rule.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.verdict, result.note) for result in context(one)][:2]
    [('pass', 'same bits: two runs and a fresh compilation'), ('pass', 'no leaked tracer')]
    """
    if not situation.leaves:
        yield situation.result("context", "", "skip", "no floating-point argument")
        return
    yield from _same_bits(situation)
    for name, judge in _SETTINGS.items():
        verdict, note = judge(situation)
        text, setting = f"{name}: {note}" if note else name, "" if judge is _leaks else name
        yield situation.result("context", "", verdict, text, setting=setting)


@in_float64
def _same_bits(situation: Situation) -> Iterator[Result]:
    fresh = not shown_elsewhere(situation)
    what = "two runs and a fresh compilation" if fresh else "two runs"
    subject = situation.subject("float64")
    spread = _spread(subject, "pull_manual", situation.seed, fresh)
    if spread and _spread(subject, "pull_automatic", situation.seed, fresh):
        note = f"runs differ by {spread:.2g}, and those of autodiff do, too"
        yield situation.result("context", "", "inconclusive", note)
    elif spread:
        note = f"{what} with the same residuals and cotangents differ by {spread:.2g}"
        yield situation.result("context", "", "fail", note)
    else:
        yield situation.result("context", "", "pass", f"same bits: {what}")


def _spread(subject: Subject, arm: str, seed: int, fresh: bool) -> float:
    """The largest difference between runs, as a number that is 0 only where all bits agree."""
    w = cotangents_of(subject, seed)[0][1]
    first, *others = [
        [np.asarray(d) for d in getattr(s, arm)(s.x, w)[1]]
        for s in (subject, subject, *([dataclasses.replace(subject)] if fresh else []))
    ]
    pairs = [(a, b) for other in others for a, b in zip(first, other, strict=True)]
    differ = [(a, b) for a, b in pairs if a.tobytes() != b.tobytes()]
    tiny = float(np.finfo(np.float64).tiny)
    return max((float(np.nanmax(np.abs(a - b), initial=tiny)) for a, b in differ), default=0.0)


def _leaks(situation: Situation) -> tuple[Verdict, str]:
    return _raises_nothing(situation, jax.checking_leaks)


def _strict_dtypes(situation: Situation) -> tuple[Verdict, str]:
    return _raises_nothing(situation, functools.partial(jax.numpy_dtype_promotion, "strict"))


def _strict_ranks(situation: Situation) -> tuple[Verdict, str]:
    return _raises_nothing(situation, functools.partial(jax.numpy_rank_promotion, "raise"))


def _raises_nothing(
    situation: Situation, setting: Callable[[], contextlib.AbstractContextManager[Any]]
) -> tuple[Verdict, str]:
    """Trace the gradient at the arguments as they were given, under a setting that raises."""
    subject = situation.subject()
    with _lax(), setting():
        try:
            _trace(subject.manual, subject.x)
        except Exception as error:
            try:
                _trace(subject.automatic, subject.x)
            except Exception as automatic:
                return "skip", f"raises without the rule, too: {first_line(automatic)}"
            return "fail", first_line(error)
    return "pass", ""


@contextlib.contextmanager
def _lax() -> Iterator[None]:
    """JAX's own defaults, of which each setting changes one."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _trace(f: Function, x: tuple[Any, ...]) -> ClosedJaxpr:
    shapes = jax.eval_shape(f, *x)
    return jax.make_jaxpr(lambda x, dys: jax.vjp(lambda *x: f(*x), *x)[1](dys))(x, shapes)


def _precision(situation: Situation) -> tuple[Verdict, str]:
    """JAX traces a backward pass when the context around the call has closed already."""
    subject = situation.subject()

    def lacking(f: Function) -> tuple[int, int]:
        def inside(*x: ArrayLike) -> PyTree:
            with jax.default_matmul_precision("highest"):
                return f(*x)

        eqns = _equations(_trace(inside, subject.x).jaxpr)
        named = [eqn.params["precision"] for eqn in eqns if "precision" in eqn.params]
        return sum(p is None for p in named), len(named)

    with _lax():
        without, products = lacking(subject.manual)
        if not products:
            return "skip", "no matrix product and no convolution"
        if without and not lacking(subject.automatic)[0]:
            lost = f"lost on {without} of {products} products of forward and backward"
            return "fail", f"{lost}; {_KEEPING_PRECISION}"
    return ("skip", "lost without the rule, too") if without else ("pass", f"{products} products")


def _width(situation: Situation) -> tuple[Verdict, str]:
    """Under x64 a NumPy number widens what it meets; a dtype that a rule names narrows it."""
    with jax.enable_x64(True), _lax():
        for given in ("float32", "float64"):
            subject = situation.subject(given)
            own = _float_dtypes(_trace(subject.manual, subject.x).jaxpr)
            if own <= {given}:
                continue
            extra = own - _float_dtypes(_trace(subject.automatic, subject.x).jaxpr) - {given}
            if extra:
                return "fail", f"computes in {', '.join(sorted(extra))} on {given} arguments"
    return "pass", ""


def _float_dtypes(jaxpr: Jaxpr) -> set[str]:
    """Of the arrays computed; scalars are the weakly typed numbers of Python, mostly."""
    needed = live(jaxpr, [True] * len(jaxpr.outvars))[0]  # JAX discards what an integer is given
    avals: list[Aval] = [v.aval for eqn, _ in needed for e in _with_inner(eqn) for v in e.outvars]
    arrays = [a for a in avals if getattr(a, "shape", ()) and hasattr(a, "dtype")]
    return {str(a.dtype) for a in arrays if is_float(a) and not a.weak_type}


def _equations(jaxpr: Jaxpr) -> Iterator[Equation]:
    for eqn in jaxpr.eqns:
        yield from _with_inner(eqn)


def _with_inner(eqn: Equation) -> Iterator[Equation]:
    yield eqn
    for inner in subprograms(eqn):
        yield from _equations(inner.jaxpr)


_SETTINGS: dict[str, Callable[[Situation], tuple[Verdict, str]]] = {
    "no leaked tracer": _leaks,
    "matmul precision": _precision,
    "x64": _width,
    "strict dtype promotion": _strict_dtypes,
    "rank promotion raises": _strict_ranks,
}
