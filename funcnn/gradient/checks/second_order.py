"""Check 13, second order: the derivative of the hand-derived gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.case.representatives import shown_elsewhere
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.truth.appeal import Appeal
from funcnn.gradient.verdict.judge import allowed_in_algebra, judge_algebra
from funcnn.gradient.verdict.results import Result
from funcnn.types import Function, Verdict

_SYMMETRY = 1e-10  # relative; both sides are sums in float64
_CANCELLED = 1e-14  # beside the largest leaf: rounding noise
_DOCUMENTED = "forward-mode"


@registered("full", order=7, only_derivatives=True)
def second_order(situation: Situation) -> Iterator[Result]:
    """Reverse over reverse, in float64, against that of the function without rules.

    With g(x, w) the gradient through the cotangent w, and H the Hessian of <w, f(x)>: H u for each
    leaf, the cotangent of w, the symmetry <v, H u> = <u, H v>, and H u again by forward over
    reverse. JAX refuses to differentiate some backward passes, a loop that ends by itself for one:
    that is inconclusive, since nobody is misled. It is shown on two unlike cases of a rule.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.leaf, result.verdict) for result in second_order(one)]
    [('x', 'pass'), ('cotangent of output', 'pass'), ('', 'pass'), ('x', 'pass')]
    """
    why = shown_elsewhere(situation)
    if situation.case.kinks:
        why = "at a kink there is no second derivative"
    if not situation.leaves:
        why = "no floating-point argument"
    if why:
        yield situation.result("second_order", "", "skip", why)
    else:
        yield from _second_order(situation)


@in_float64
def _second_order(situation: Situation) -> Iterator[Result]:
    subject = situation.subject("float64")
    w = cotangents_of(subject, situation.seed)[0][1]
    random = np.random.default_rng([situation.seed, 13])
    u, v = (tuple(random.normal(size=x.shape) for x in subject.x) for _ in range(2))
    automatic = compiled(functools.partial(_second, subject.automatic))
    try:
        truth = automatic(subject.x, w, u)
    except Exception as error:
        note = f"raises without the rule, too: {first_line(error)}"
        yield situation.result("second_order", "", "skip", note)
        return
    manual = compiled(functools.partial(_second, subject.manual))
    try:
        along_u, along_v = manual(subject.x, w, u), manual(subject.x, w, v)
    except Exception as error:
        note = f"JAX refuses to differentiate the backward pass: {first_line(error)}"
        yield situation.result("second_order", "", "inconclusive", note)
        return
    moved = functools.cache(lambda: [automatic(x, w, u) for x in subject.moved(np.float64)])
    excuse = functools.cache(lambda: _no_derivative(subject, w))
    names = [*situation.leaves, *(f"cotangent of {name}" for name in subject.outputs)]
    for i, name in enumerate(names):
        yield situation.result("second_order", name, *_judge(along_u, truth, i, moved, excuse))
    yield situation.result("second_order", "", *_symmetry(u, v, along_u, along_v))
    judge = functools.partial(_judge, truth=truth, moved=moved, excuse=excuse)
    yield from _forward_over_reverse(situation, subject, (w, u), judge)


def _second(f: Function, x: tuple[Any, ...], w: list[Any], u: tuple[Any, ...]) -> list[Any]:
    """Reverse over reverse: H u for each leaf of x, then the cotangent of each w."""
    dx, dw = jax.vjp(lambda x, w: list(jax.vjp(f, *x)[1](w)), x, w)[1](list(u))
    return [*dx, *dw]


def _forward_over_reverse(
    situation: Situation,
    subject: Subject,
    drawn: tuple[list[Any], tuple[Any, ...]],
    judge: Callable[..., tuple[Verdict, str]],
) -> Iterator[Result]:
    """H u once more: it meets a rule that its own forward pass calls, which reverse mode does not.

    JAX refuses that loudly, and says so in its documentation.
    """
    w, u = drawn

    def forward(x: tuple[Any, ...], w: list[Any], u: tuple[Any, ...]) -> list[Any]:
        return jax.jvp(lambda x: list(jax.vjp(subject.manual, *x)[1](w)), (x,), (u,))[1]

    try:
        manual = compiled(forward)(subject.x, w, u)
    except Exception as error:
        verdict = "skip" if isinstance(error, TypeError) and _DOCUMENTED in str(error) else "fail"
        note = f"forward over reverse: {first_line(error)}"
        yield situation.result("second_order", "", verdict, note)
        return
    for i, leaf in enumerate(situation.leaves):
        verdict, note = judge(manual, i=i)
        yield situation.result("second_order", leaf, verdict, f"forward over reverse: {note}")


def _no_derivative(subject: Subject, w: list[Any]) -> str:
    """Where autodiff of the reference is not its derivative, it has no second one either."""
    if subject.kinks:
        return ""
    pulled = (pull(subject.x, w)[1] for pull in (subject.pull_manual, subject.pull_automatic))
    for i, pair in enumerate(zip(*pulled, strict=True)):
        m, t = map(np.asarray, pair)
        appeal = Appeal(subject, subject.x, w, i, m, t, allowed_in_algebra(t))
        excused = appeal.off.size and appeal.verdict()
        if excused:
            return excused[1]
    return ""


def _judge(
    manual: Sequence[Any],
    truth: Sequence[Any],
    i: int,
    moved: Callable[[], list[Any]],
    excuse: Callable[[], str],
) -> tuple[Verdict, str]:
    size = max(float(np.linalg.norm(t)) for t in truth)
    if not np.any(truth[i]) and float(np.linalg.norm(manual[i])) <= _CANCELLED * size:
        return "inconclusive", "the second derivative is zero everywhere"
    verdict, note = judge_algebra(manual[i], truth[i], [])
    if verdict == "fail":  # only now is the noise floor worth its price
        verdict, note = judge_algebra(manual[i], truth[i], [m[i] for m in moved()], size)
    if verdict == "fail" and excuse():
        return "inconclusive", excuse()
    return verdict, note


def _symmetry(
    u: Sequence[Any], v: Sequence[Any], hu: Sequence[Any], hv: Sequence[Any]
) -> tuple[Verdict, str]:
    left, right = (
        sum(float(np.vdot(a, b)) for a, b in zip(p, q, strict=False)) for p, q in ((v, hu), (u, hv))
    )
    size = sum(
        float(np.linalg.norm(a) * np.linalg.norm(b))
        for p, q in ((v, hu), (u, hv))
        for a, b in zip(p, q, strict=False)
    )
    if not np.isfinite(size):
        return "inconclusive", "the second derivative is not finite"
    if size == 0:
        return "inconclusive", "the second derivative is zero everywhere"
    verdict = "pass" if abs(left - right) <= _SYMMETRY * size else "fail"
    return verdict, f"<v, H u> {left:.6g}, <u, H v> {right:.6g}"
