"""Check 15, alone: a rule that is told what nobody asks for, with each argument and each output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.checks.algebra import Judged, truth_of_leaf, without_reverse_mode
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.without_rules import trace
from funcnn.gradient.verdict.results import Result

Values = Callable[..., list[Any]]


@registered("fast", order=4)
@in_float64
def alone(situation: Situation) -> Iterator[Result]:
    """The truth once more: one argument differentiated alone, and one output used alone.

    For functions with a rule that asks for symbolic zeros: it may answer otherwise where one of its
    arguments is not differentiated, or one of its outputs has no cotangent.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from funcnn.core.registry import Case
    >>> product = jax.custom_vjp(jnp.multiply)
    >>> def forward(x, w):
    ...     return x.value * w.value, (x.value, w.value, x.perturbed and w.perturbed)
    >>> def backward(res, dy):
    ...     x, w, both = res
    ...     return (w * dy, x * dy) if both else (7 * w * dy, x * dy)
    >>> product.defvjp(forward, backward, symbolic_zeros=True)
    >>> one = Situation.of_function(product, Case("one", (jnp.ones(2), jnp.ones(2))), "product")
    >>> [(result.leaf, result.verdict) for result in alone(one)]
    [('argument_0', 'fail'), ('argument_1', 'pass')]
    """
    case = situation.case
    if situation.rule or (case.intent == "surrogate" and case.reference is None):
        return
    if not _sees_zeros(situation):
        return
    subject = situation.subject("float64")
    drawn = cotangents_of(subject, situation.seed)
    if without_reverse_mode(subject, drawn[0][1]):
        return
    for i, leaf in enumerate(subject.leaves if len(subject.leaves) > 1 else ()):
        judged = truth_of_leaf(situation, _of_argument(subject, i), drawn, 0)
        yield _result(situation, leaf, judged, "differentiated alone")
    for k, output in enumerate(subject.outputs if len(subject.outputs) > 1 else ()):
        of_one, dys = _of_output(subject, k), [(name, [dys[k]]) for name, dys in drawn]
        for i, leaf in enumerate(subject.leaves):
            judged = truth_of_leaf(situation, of_one, dys, i)
            yield _result(situation, leaf, judged, f"{output} used alone")


def _result(situation: Situation, leaf: str, judged: Judged, where: str) -> Result:
    verdict, note = judged
    more = {"note": f"{where}: {note}", "zero": verdict == "zero"}
    return situation.result("alone", leaf, "pass" if verdict == "zero" else verdict, **more)


def _sees_zeros(situation: Situation) -> bool:
    program = trace(situation.manual, situation.args, {})
    return any(site.sees_zeros for site in sites(program.jaxpr))


def _of_argument(subject: Subject, i: int) -> Subject:
    """The subject as a function of one of its leaves."""
    x = subject.x

    def with_others(f: Values) -> Values:
        return lambda xi: f(*x[:i], xi, *x[i + 1 :])

    return _restricted(subject, with_others, leaves=(subject.leaves[i],), x=(x[i],))


def _of_output(subject: Subject, k: int) -> Subject:
    """The subject with one of its outputs."""

    def taken(f: Values) -> Values:
        return lambda *x: [f(*x)[k]]

    return _restricted(subject, taken, names_of_outputs=(subject.outputs[k],))


def _restricted(subject: Subject, restrict: Callable[[Values], Values], **changed: Any) -> Subject:
    return dataclasses.replace(
        subject,
        manual=restrict(subject.manual),
        automatic=restrict(subject.automatic),
        plain=subject.plain and restrict(subject.plain),
        further=subject.further and restrict(subject.further),
        **changed,
    )
