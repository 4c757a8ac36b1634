"""Checks 1 and 7, truth and the dot test: the rule's own code in float64 against autodiff's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.truth.appeal import SOLVED, Appeal
from funcnn.gradient.truth.branch import Branches
from funcnn.gradient.truth.coarse import contradicted
from funcnn.gradient.truth.oracle import Oracle, Pull
from funcnn.gradient.verdict.figures import describe_error
from funcnn.gradient.verdict.judge import (
    ELEMENTS,
    NOT_FINITE,
    UNCERTAIN,
    ZERO,
    allowed_in_algebra,
    allowed_of_elements,
    judge_algebra,
    noise_of,
)
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

_ORDER = ("fail", "inconclusive", "skip", "pass")
_DIRECTIONS = 3
_DOT = 1e-10  # relative, as the truth of a leaf is judged

Judged = tuple[Verdict | Literal["zero"], str]  # verdict and note


@registered("fast", order=3, needs_truth=True)
@in_float64
def truth(situation: Situation) -> Iterator[Result]:
    """Each leaf's cotangent, for several cotangents of the output.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.leaf, result.verdict) for result in truth(one)]
    [('x', 'pass')]
    """
    subject = situation.subject("float64")
    drawn = cotangents_of(subject, situation.seed)
    why = without_reverse_mode(subject, drawn[0][1])
    if why:
        yield from _by_differences(situation, subject, why)
        return
    branches = Branches.of(subject)
    for i, leaf in enumerate(subject.leaves):
        verdict, note = truth_of_leaf(situation, subject, drawn, i)
        # The first cotangents are random, and reach everything.
        against = branches.contradict(drawn[0][1], i) if verdict != "fail" else ""
        if against:
            yield situation.result("truth", leaf, "fail", against)
        elif verdict == "zero":
            yield situation.result("truth", leaf, "pass", note, zero=True)
        else:
            yield situation.result("truth", leaf, verdict, note)


def without_reverse_mode(subject: Subject, dys: list[Any]) -> str:
    """Why nothing independent of the rule can be differentiated backwards, or "".

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     one = Subject(("x",), (np.ones(2),), list, lambda x: [x * x], False)
    ...     without_reverse_mode(one, [np.ones(2)])
    ''
    """
    shapes_of = subject.pull_automatic.eval_shape
    try:
        shapes_of(subject.x, dys)
    except Exception as error:
        return first_line(error)
    return ""


def _by_differences(situation: Situation, subject: Subject, why: str) -> Iterator[Result]:
    """Each leaf against differences of the function, along several directions."""
    pulls: dict[str, Pull] = {"manual": lambda x, dys: subject.pull_manual(x, dys)[1]}
    f = subject.plain or subject.automatic
    seeds = range(situation.seed, situation.seed + _DIRECTIONS)
    by_seed = [Oracle.of(f, subject.x, pulls, seed).verdicts() for seed in seeds]
    for leaf, verdicts in zip(subject.leaves, zip(*by_seed, strict=True), strict=True):
        verdict, note = min(verdicts, key=lambda v: _ORDER.index(v[0]))
        reason = f"by differences, as there is no automatic derivative ({why}): {note}"
        yield situation.result("truth", leaf, verdict, reason)


def without_truth(situation: Situation, dys: list[Any], why: str) -> Iterator[Result]:
    """Each leaf against differences in the dtype given, which show a large mistake alone.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> x = np.linspace(-1.0, 1.0, 3, dtype=np.float32)
    >>> one = Situation.of_rule(rules.tanh, Case("one", (x,)))
    >>> [result.note for result in without_truth(one, [np.ones(3, np.float32)], "no truth")]
    ['no truth; differences in float32 say nothing against it']
    """
    subject = situation.subject()
    x = tuple(np.asarray(leaf) for leaf in subject.x)
    gradients = subject.pull_manual(subject.x, dys)[1]
    f = compiled(subject.plain or subject.automatic)
    for i, leaf in enumerate(subject.leaves):
        against = contradicted(f, x, i, np.asarray(gradients[i]), dys, situation.seed)
        by = f"differences in {x[i].dtype}"
        if against:
            yield situation.result("truth", leaf, "fail", f"by {by} ({why}): {against}")
        else:
            note = f"{why}; {by} say nothing against it"
            yield situation.result("truth", leaf, "inconclusive", note)


def truth_of_leaf(
    situation: Situation, subject: Subject, drawn: list[tuple[str, list[Any]]], i: int
) -> Judged:
    """The verdict on leaf i over all cotangents: any failure fails, any comparison passes.

    Args:
        situation: for its seed.
        subject: in float64.
        drawn: cotangents of its outputs, by name.
        i: the leaf.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> import jax
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> with jax.enable_x64(True):
    ...     subject = one.subject("float64")
    ...     truth_of_leaf(one, subject, cotangents_of(subject), 0)[0]
    'pass'
    """
    truths = [np.asarray(subject.pull_automatic(subject.x, dys)[1][i]) for _, dys in drawn]
    size = max(float(np.linalg.norm(truth[np.isfinite(truth)])) for truth in truths)
    verdicts = []
    for (name, dys), truth in zip(drawn, truths, strict=True):
        manual = np.asarray(subject.pull_manual(subject.x, dys)[1][i])
        moved = [subject.pull_automatic(x, dys)[1][i] for x in subject.moved(jnp.float64)]
        verdict, note = judge_algebra(manual, truth, moved, size)
        allowed = allowed_in_algebra(truth, size)
        if verdict == "pass":
            verdict, note, allowed = _by_elements(manual, truth, moved, (note, allowed))
        if verdict == "fail" or note.startswith(UNCERTAIN):
            appeal = Appeal(subject, subject.x, dys, i, manual, truth, allowed)
            excused = None if subject.kinks else appeal.verdict()
            if excused is None and verdict == "fail":
                return verdict, f"cotangent {name}: {note}"
            verdict, note = excused or (verdict, note)
        verdicts.append((verdict, note))
    left_open = [v for v in verdicts if v[1].startswith(UNCERTAIN) or v[1] == NOT_FINITE]
    if left_open:  # a cotangent that does not reach the element shows nothing of it
        return left_open[0]
    noted = [v for v in verdicts if v[0] == "pass"]
    if noted:
        return max(noted, key=lambda v: len(v[1]))
    if not truths[0].size:
        return "zero", "no elements"
    if not size and all(note == ZERO for _, note in verdicts):
        return _zero_here(situation, subject, drawn[0][1], i)
    return verdicts[0]


def _by_elements(
    manual: np.ndarray, truth: np.ndarray, moved: list[Any], judged: tuple[str, np.ndarray]
) -> tuple[Verdict, str, np.ndarray]:
    """The verdict after a look at the elements that others outweigh, and what is allowed."""
    note, allowed = judged
    of_elements = np.minimum(allowed, allowed_of_elements(manual, truth, noise_of(truth, moved)))
    off = ~(np.abs(manual - truth) <= of_elements)
    if not np.any(off):
        return "pass", note, allowed
    worst = describe_error(np.where(off, manual, truth), None, truth)
    return "fail", f"{ELEMENTS}: {worst}", of_elements


def _zero_here(situation: Situation, subject: Subject, dys: list[Any], i: int) -> Judged:
    """Zero by hand and by autodiff: right, and nothing proved; a step away it may be another."""
    random = np.random.default_rng([situation.seed, 6])
    beside = tuple(x + 0.1 * (np.abs(x) + 0.1) * random.normal(size=x.shape) for x in subject.x)
    manual, truth = (
        np.asarray(pull(beside, dys)[1][i])
        for pull in (subject.pull_manual, subject.pull_automatic)
    )
    if not np.any(truth) and not np.any(manual):
        return "zero", f"{ZERO}, here and beside"
    verdict, note = judge_algebra(manual, truth, [])
    if verdict == "fail":
        return "inconclusive", f"{ZERO}; at arguments beside these it differs: {note}"
    return "zero", f"{ZERO}; at arguments beside these it is right"


@registered("fast", order=5, only_derivatives=True)
@in_float64
def dot(situation: Situation) -> Iterator[Result]:
    """<w, J v> = <J' w, v> over all leaves at once, with J v from forward mode.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [result.verdict for result in dot(one)]
    ['pass']
    """
    subject = situation.subject("float64")
    w = cotangents_of(subject, situation.seed)[0][1]
    yield situation.result("dot", "", *_dot(subject, w, situation.seed))


def _dot(subject: Subject, w: list[Any], seed: int) -> tuple[Verdict, str]:
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
    note = f"<w, Jv> {left:.6g}, <J'w, v> {right:.6g}"
    if error <= _DOT:
        return "pass", note
    if error <= SOLVED and subject.has_loop:
        return "inconclusive", f"{note}: off by {error:.1e}, and a loop stops at a tolerance"
    excuse = _excused(subject, w, pulled)
    return ("inconclusive", f"{note}: {excuse}") if excuse else ("fail", note)


def _excused(subject: Subject, w: list[Any], pulled: Sequence[Any]) -> str:
    """Why both modes may differ: each leaf that is not autodiff's is none the worse for it."""
    automatic, why = subject.pull_automatic(subject.x, w)[1], ""
    for i, (m, t) in enumerate(
        zip(map(np.asarray, pulled), map(np.asarray, automatic), strict=True)
    ):
        if judge_algebra(m, t, [])[0] == "fail" or not np.all(np.isfinite(t)):
            excuse = Appeal(subject, subject.x, w, i, m, t, allowed_in_algebra(t)).verdict()
            if excuse is None:
                return ""
            why = excuse[1]
    return why


def _inner(a: Sequence[Any], b: Sequence[Any]) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b, strict=True)))


def _norms(a: Sequence[Any], b: Sequence[Any]) -> float:
    return float(sum(np.linalg.norm(x) * np.linalg.norm(y) for x, y in zip(a, b, strict=True)))
