"""Check 17, hunted: a short search for arguments at which the gradient is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

from funcnn.core.registry import Case
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.representatives import stands_for_its_rule
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.hunt.judging import size_of
from funcnn.gradient.hunt.place import Hunted
from funcnn.gradient.hunt.search import Search
from funcnn.gradient.verdict.results import Result

_SECONDS = 3.0


@registered("release", order=2, only_derivatives=True)
def hunted(situation: Situation) -> Iterator[Result]:
    """A few seconds of `hunt`, from the one case that stands for its rule.

    Nobody gave these arguments: what is wrong with them is of another setting.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> case = Case("own", (np.ones(3, np.float32),), reference=np.tanh)
    >>> [result.verdict for result in hunted(Situation.of_rule(rules.tanh, case))]
    ['skip']
    """
    case = situation.case
    if case.reference is not None:
        why = "the case has a reference of its own, which holds at its arguments alone"
        yield situation.result("hunted", "", "skip", why)
        return
    if not stands_for_its_rule(situation):
        yield situation.result("hunted", "", "skip", "hunted once a rule")
        return
    rule, name = situation.rule, situation.name
    of_function = Case("arguments", situation.args)
    subject = (
        Hunted.of_rule(rule, case)
        if rule
        else Hunted.of_function(name, situation.manual, of_function, None)
    )
    search = Search(subject, situation.seed)
    wrong = search.run(time.monotonic() + _SECONDS)
    if wrong is None:
        verdict = "pass" if search.counts.compared else "skip"
        yield situation.result("hunted", "", verdict, f"{search.counts.compared:,} trials")
        return
    note = f"{size_of(wrong.score)} at other arguments, which hunt hands back: {wrong.note}"
    leaf = situation.leaves[wrong.score.leaf] if wrong.score.leaf < len(situation.leaves) else ""
    yield situation.result("hunted", leaf, "fail", note, setting="hunted arguments")
