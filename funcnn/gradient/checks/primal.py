"""Check 3, primal: the forward pass computes the function."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import cotangents_of
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.verdict.judge import judge_algebra
from funcnn.gradient.verdict.results import Result


@registered("fast", order=2, stops=True)
@in_float64
def primal(situation: Situation) -> Iterator[Result]:
    """The value beside the gradient, in float64, against that of the reference.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [str(result) for result in primal(one)]
    ['PASS tanh primal: leaf output case one: 0.0e+00']
    """
    subject = situation.subject("float64")
    w = cotangents_of(subject, situation.seed)[0][1]
    y, _ = subject.pull_manual(subject.x, w)
    moved: list[Any] = []
    if situation.case.intent == "surrogate":  # it has a gradient to follow, not a value
        plain = dataclasses.replace(situation, automatic=situation.plain)
        expected = plain.subject("float64").automatic(*subject.x)
    else:
        try:
            expected, _ = subject.pull_automatic(subject.x, w)
        except EndlessLoop:
            raise
        except Exception:  # a callback, which has a value and no derivative
            plain = compiled(subject.plain or subject.automatic)
            yield from _values(situation, y, plain(*subject.x), [])
            return
        moved = [subject.pull_automatic(x, w)[0] for x in subject.moved(jnp.float64)]
    yield from _values(situation, y, expected, moved)


def _values(
    situation: Situation, y: Sequence[Any], expected: Sequence[Any], moved: list[Any]
) -> Iterator[Result]:
    names = situation.subject("float64").outputs
    for i, (name, actual, value) in enumerate(zip(names, y, expected, strict=True)):
        verdict = judge_algebra(actual, value, [m[i] for m in moved])
        yield situation.result("primal", name, *verdict)
