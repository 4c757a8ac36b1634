"""The checks themselves, each a function from a subject to results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.judge import judge_algebra, judge_rounding
from funcnn.gradient.results import Result
from funcnn.gradient.subject import Subject, cast, cotangents, rule_subject
from funcnn.registry import Case, Rule

_POWERS = (-6, -1, 1, 6)  # of two: scaling by them is exact
_DOT = 1e-12  # relative; both sides of the dot test are sums in float64


def contract(rule: Rule, case: Case, dtype: str) -> Result:
    """Shape, dtype and tree of the cotangents in one dtype; nothing is computed.

    >>> from funcnn import rules
    >>> contract(rules.relu, Case("one", (jnp.ones(3),)), "bfloat16").verdict
    'pass'
    """
    name = f"{case.name} {dtype}"
    with jax.enable_x64(dtype == "float64"):
        try:
            subject = rule_subject(rule, case, dtype)
            shapes = jax.eval_shape(subject.manual, *subject.x)
            jax.eval_shape(subject.pull_manual, subject.x, shapes)
        except Exception as error:  # whatever it raises is what is wrong with the rule
            note = (str(error) or type(error).__name__).splitlines()[0]
            return Result(rule.name, "contract", name, "", "fail", note)
    return Result(rule.name, "contract", name, "", "pass")


def algebra(subject: Subject) -> Iterator[Result]:
    """Value, truth, exact laws and dot test of a subject in float64.

    >>> import jax.numpy as jnp
    >>> from funcnn import rules
    >>> with jax.enable_x64(True):
    ...     case = Case("one", (jnp.linspace(-1.0, 1.0, 3),))
    ...     subject = rule_subject(rules.tanh, case, "float64")
    ...     [result.check for result in algebra(subject)]
    ['primal', 'truth', 'zero', 'homogeneity', 'dot']
    """

    def result(name: str, leaf: str, verdict: tuple[str, str]) -> Result:
        return Result(subject.name, name, subject.case, leaf, *verdict)

    shapes = jax.eval_shape(subject.manual, *subject.x)
    drawn = cotangents(shapes)
    w = drawn[0][1]
    y, _ = subject.pull_manual(subject.x, w)
    reference_y, _ = subject.pull_automatic(subject.x, w)
    moved = [subject.pull_automatic(x, w)[0] for x in subject.moved(jnp.float64)]
    for i, (found, expected) in enumerate(zip(y, reference_y, strict=True)):
        verdict = judge_algebra(found, expected, [m[i] for m in moved])
        yield result("primal", f"output {i}", verdict)
    for i, leaf in enumerate(subject.leaves):
        yield result("truth", leaf, _truth_of_leaf(subject, drawn, i))
    yield from (result(*found) for found in _exact_laws(subject, w))
    yield result("dot", "", _dot(subject, w))


def _truth_of_leaf(subject: Subject, drawn: Any, i: int) -> tuple[str, str]:
    """The verdict over all cotangents: any failure fails, any comparison passes."""
    truths = [np.asarray(subject.pull_automatic(subject.x, dys)[1][i]) for _, dys in drawn]
    size = max(float(np.linalg.norm(truth)) for truth in truths)
    verdicts = []
    for (name, dys), truth in zip(drawn, truths, strict=True):
        found = subject.pull_manual(subject.x, dys)[1][i]
        moved = [subject.pull_automatic(x, dys)[1][i] for x in subject.moved(jnp.float64)]
        verdict, note = judge_algebra(found, truth, moved, size)
        if verdict == "fail":
            return verdict, f"cotangent {name}: {note}"
        verdicts.append((verdict, note))
    return next((v for v in verdicts if v[0] == "pass"), verdicts[0])


def _exact_laws(subject: Subject, w: list[Any]) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """bwd(0) = 0, bwd(-w) = -bwd(w), bwd(2^k w) = 2^k bwd(w), without any tolerance."""

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
        off = [s for s, ds in scaled.items() if not np.array_equal(ds[i], s * d[i])]
        note = f"bwd({off[0]:g} w) differs from {off[0]:g} bwd(w)" if off else ""
        yield "homogeneity", leaf, ("fail" if off else "pass", note)


def _dot(subject: Subject, w: list[Any]) -> tuple[str, str]:
    """<w, J v> = <J' w, v> over all leaves at once."""
    if subject.kinks:
        return "skip", "at a kink forward and reverse mode may take different sides"
    random = np.random.default_rng(1)
    v = tuple(random.normal(size=x.shape) for x in subject.x)
    pushed = subject.push_automatic(subject.x, v)
    pulled = subject.pull_manual(subject.x, w)[1]
    left, right = _inner(w, pushed), _inner(pulled, v)
    size = _norms(w, pushed) + _norms(pulled, v)
    if not np.isfinite(size):
        return "skip", "the derivative is not finite"
    if size == 0:
        return "inconclusive", "both sides are zero"
    error = abs(left - right) / size
    return ("pass" if error <= _DOT else "fail"), f"<w, Jv> {left:.6g}, <J'w, v> {right:.6g}"


def _inner(a: Any, b: Any) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b, strict=True)))


def _norms(a: Any, b: Any) -> float:
    return float(sum(np.linalg.norm(x) * np.linalg.norm(y) for x, y in zip(a, b, strict=True)))


def declared_laws(subject: Subject, case: Case) -> Iterator[Result]:
    """The laws that a case declares, in float64: the left side equals the right."""
    w = cotangents(jax.eval_shape(subject.manual, *subject.x))[0][1]
    d = subject.pull_manual(subject.x, w)[1]
    size = max((float(np.linalg.norm(di)) for di in d), default=0.0)
    for name, law in case.laws.items():
        left, right = (np.asarray(side) for side in law(cast(case.args, jnp.float64), w[0], d))
        # A law that says 0 has no size of its own, so the cotangents give it one.
        error = float(np.max(np.abs(left - right), initial=0.0))
        verdict = "pass" if error <= _DOT * max(size, float(np.linalg.norm(right))) else "fail"
        yield Result(subject.name, name, case.name, "", verdict, f"off by {error:.3g}")


def rounding(rule: Rule, case: Case, dtype: str) -> Iterator[Result]:
    """The rule in a low precision against autodiff there, both held against float64 truth.

    >>> from funcnn import rules
    >>> case = Case("one", (jnp.linspace(-1.0, 1.0, 3),))
    >>> [result.verdict for result in rounding(rules.tanh, case, "float32")]
    ['pass']
    """
    low = rule_subject(rule, case, dtype)
    w = cotangents(jax.eval_shape(low.manual, *low.x))[0][1]
    manual, automatic = low.pull_manual(low.x, w)[1], low.pull_automatic(low.x, w)[1]
    with jax.enable_x64(True):
        rounded = dataclasses.replace(case, args=cast(case.args, dtype))
        exact = rule_subject(rule, rounded, "float64")
        dy = cast(w, jnp.float64)
        truth = exact.pull_automatic(exact.x, dy)[1]
        moved = [exact.pull_automatic(x, dy)[1] for x in exact.moved(dtype)]
        truth, moved = jax.tree.map(np.asarray, (truth, moved))
    for i, leaf in enumerate(low.leaves):
        row = judge_rounding(leaf, manual[i], automatic[i], truth[i], [m[i] for m in moved])
        verdict = {"WRONG": "fail", "INCONCLUSIVE": "inconclusive"}.get(row.verdict, "pass")
        note = row.note or f"{row.manual:.2g} ulps, autodiff {row.automatic:.2g}: {row.verdict}"
        yield Result(rule.name, "rounding", f"{case.name} {dtype}", leaf, verdict, note)
