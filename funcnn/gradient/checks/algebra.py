"""Checks 1 and 7, truth and the dot test: the rule's own code in float64 against autodiff's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.judge import judge_algebra
from funcnn.gradient.results import Result
from funcnn.gradient.situation import Situation, in_float64
from funcnn.gradient.subject import Subject, cotangents_of

_DOT = 1e-12  # relative; both sides of the dot test are sums in float64


@in_float64
def truth(situation: Situation) -> Iterator[Result]:
    """Each leaf's cotangent, for several cotangents of the output.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.leaf, result.verdict) for result in truth(one)]
    [('x', 'pass')]
    """
    subject = situation.subject("float64")
    drawn = cotangents_of(subject, situation.seed)
    for i, leaf in enumerate(subject.leaves):
        yield situation.result("truth", leaf, *_truth_of_leaf(subject, drawn, i))


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


@in_float64
def dot(situation: Situation) -> Iterator[Result]:
    """<w, J v> = <J' w, v> over all leaves at once, with J v from forward mode.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [result.verdict for result in dot(one)]
    ['pass']
    """
    subject = situation.subject("float64")
    w = cotangents_of(subject, situation.seed)[0][1]
    yield situation.result("dot", "", *_dot(subject, w, situation.seed))


def _dot(subject: Subject, w: list[Any], seed: int) -> tuple[str, str]:
    if subject.kinks:
        return "skip", "at a kink forward and reverse mode may take different sides"
    random = np.random.default_rng([seed, 1])
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
