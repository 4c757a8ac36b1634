"""Check 5, homogeneity, and the laws that a case declares: no tolerance, or the size of a sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cast, cotangents_of
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.loops import has_loop
from funcnn.gradient.truth.appeal import SOLVED
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

_POWERS = (-20, -6, -1, 1, 6, 20)  # of two: scaling by them is exact
_LAW = 1e-12  # relative; both sides of a law are sums in float64


@registered("fast", order=4, only_derivatives=True)
@in_float64
def homogeneity(situation: Situation) -> Iterator[Result]:
    """bwd(0) = 0, bwd(-w) = -bwd(w), bwd(2^k w) = 2^k bwd(w), without any tolerance.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.check, result.verdict) for result in homogeneity(one)]
    [('zero', 'pass'), ('homogeneity', 'pass')]
    """
    subject = situation.subject("float64")
    w = cotangents_of(subject, situation.seed)[0][1]
    yield from (
        situation.result(name, leaf, *verdict) for name, leaf, verdict in _exact(subject, w)
    )


def _exact(subject: Subject, w: list[Any]) -> Iterator[tuple[str, str, tuple[Verdict, str]]]:
    def backward(dys: list[Any]) -> list[np.ndarray]:
        return [np.asarray(d) for d in subject.pull_manual(subject.x, dys)[1]]

    d = backward(w)
    zero = backward([np.zeros_like(dy) for dy in w])
    scaled = {2.0**k: backward([dy * 2.0**k for dy in w]) for k in _POWERS}
    scaled[-1.0] = backward([-dy for dy in w])
    for i, leaf in enumerate(subject.leaves):
        if not np.all(np.isfinite(d[i])):
            yield "zero", leaf, ("skip", "the cotangent is not finite")
            yield "homogeneity", leaf, ("skip", "the cotangent is not finite")
            continue
        nonzero = np.count_nonzero(zero[i])
        yield "zero", leaf, ("fail", f"{nonzero} elements from 0") if nonzero else ("pass", "")
        off = {s: _off(ds[i], s * d[i]) for s, ds in scaled.items() if np.any(ds[i] != s * d[i])}
        yield "homogeneity", leaf, _proportional(subject, w, off)


def _off(actual: np.ndarray, expected: np.ndarray) -> float:
    size = float(np.linalg.norm(expected))
    return float(np.linalg.norm(actual - expected)) / size if size else np.inf


def _proportional(subject: Subject, w: list[Any], off: dict[float, float]) -> tuple[Verdict, str]:
    """An adaptive solver chooses its steps by the cotangent, so that it is nearly proportional."""
    if not off:
        return "pass", ""
    scale, error = next(iter(off)), max(off.values())
    note = f"bwd({scale:g} w) differs from {scale:g} bwd(w)"
    if error > SOLVED or not has_loop(subject.pull_manual.jaxpr(subject.x, w)):
        return "fail", note
    return "note", f"{note} by {error:.1e}: a loop of the backward pass ends by the cotangent"


@registered("fast", order=6)
@in_float64
def declared_laws(situation: Situation) -> Iterator[Result]:
    """The laws that a case declares, in float64: the left side equals the right."""
    subject, case = situation.subject("float64"), situation.case
    w = cotangents_of(subject, situation.seed)[0][1]
    d = subject.pull_manual(subject.x, w)[1]
    size = max((float(np.linalg.norm(di)) for di in d), default=0.0)
    # All in one program: outside of jit each operation of a law would be compiled alone.
    sides = compiled(lambda *of: [law(*of) for law in case.laws.values()])
    pairs = sides(cast(case.args, jnp.float64), w[0], d) if case.laws else []
    for name, pair in zip(case.laws, pairs, strict=True):
        left, right = map(np.asarray, pair)
        # A law that says 0 has no size of its own, so the cotangents give it one.
        error = float(np.max(np.abs(left - right), initial=0.0))
        verdict = "pass" if error <= _LAW * max(size, float(np.linalg.norm(right))) else "fail"
        yield situation.result(name, "", verdict, f"off by {error:.3g}")
