"""Check 8, finite differences: an oracle for the rule and for the truth that shares no code."""

from __future__ import annotations

from collections.abc import Iterator

import jax

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.dtypes import pinned_dtypes
from funcnn.gradient.truth.appeal import SOLVED
from funcnn.gradient.truth.oracle import Oracle, Pull
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

NAME = "finite differences"


@registered("full", order=3, only_derivatives=True)
def finite_differences(situation: Situation) -> Iterator[Result]:
    """Each leaf's cotangent along a direction, manual and automatic, against differences.

    The directional derivative passes within ten times the error bar of the differences and 1e-9 of
    its size. A bar above 1e-4 is inconclusive. Where the automatic derivative is contradicted,
    autodiff or the reference is to blame, and that is a failure too: the truth is not one.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> [(result.leaf, result.verdict) for result in finite_differences(one)]
    [('x', 'pass')]
    """
    if situation.case.kinks:
        why = "differences across a kink are no derivative"
        yield from (situation.result(NAME, leaf, "skip", why) for leaf in situation.leaves)
        return
    with jax.enable_x64(True):
        subject = situation.subject("float64")
        pulls: dict[str, Pull] = {
            "manual": lambda x, dys: subject.pull_manual(x, dys)[1],
            "automatic": lambda x, dys: subject.pull_automatic(x, dys)[1],
        }
        f, slack = subject.plain or subject.automatic, SOLVED if subject.has_loop else 0.0
        verdicts = Oracle.of(f, subject.x, pulls, situation.seed, slack).verdicts()
        if any(verdict in {"fail", "note"} for verdict, _ in verdicts):
            verdicts = _unless_pinned(subject, verdicts)
    for leaf, (verdict, note) in zip(situation.leaves, verdicts, strict=True):
        setting = "reference" if verdict == "note" else ""
        judged = "fail" if verdict == "note" else verdict
        yield situation.result(NAME, leaf, judged, note, setting=setting)


def _unless_pinned(
    subject: Subject, verdicts: list[tuple[Verdict, str]]
) -> list[tuple[Verdict, str]]:
    pinned = pinned_dtypes(jax.make_jaxpr(subject.automatic)(*subject.x))
    if not pinned:
        return verdicts
    why = f"differences need float64, and it computes in {', '.join(sorted(pinned))}"
    return [
        ("inconclusive", why) if verdict in {"fail", "note"} else (verdict, n)
        for verdict, n in verdicts
    ]
