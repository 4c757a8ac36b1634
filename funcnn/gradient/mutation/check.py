"""Check 9, mutation: would the checks have noticed a mistake in this backward pass?"""

from __future__ import annotations

from collections.abc import Iterator

import jax

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.mutation.score import MutationScore, mutation_score
from funcnn.gradient.verdict.results import Result
from funcnn.types import Verdict

_KILLED = 0.98  # of the mutants that are not equivalent
_SCALE = 1e-6  # a factor of 1 + this is noticed on every equation


@registered("release", order=1)
def mutation(situation: Situation) -> Iterator[Result]:
    """The score of the rule, over all its cases, and so at the first of them alone.

    Arguments that are no case of the rule are scored by themselves: a single case seldom notices
    every mistake.

    >>> import jax.numpy as jnp
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.softplus, Case("one", (jnp.linspace(-1.0, 1.0, 3),)))
    >>> [result.verdict for result in mutation(one)]
    ['pass']
    """
    rule, case, seed = situation.rule, situation.case, situation.seed
    if rule is None:
        yield situation.result("mutation", "", "skip", "no Rule, whose backward pass could change")
        return
    cases = rule.cases(jax.random.key(seed))
    if not any(situation.leaves) or case.name not in [c.name for c in cases]:
        cases = [case]
    if case.name != cases[0].name:
        note = f"scored once a rule, at case {cases[0].name!r}"
        yield situation.result("mutation", "", "skip", note)
    elif not situation.leaves:
        yield situation.result("mutation", "", "skip", "no floating-point argument")
    else:
        score = mutation_score(rule, cases=cases, seed=seed)
        yield situation.result("mutation", "", *_verdict(score))


def _verdict(score: MutationScore) -> tuple[Verdict, str]:
    note = "; ".join([score.conclusion(), *map(str, score.survived)])
    if not score.killed and not score.survived:
        return "inconclusive", f"{note}: nothing to notice"
    enough = score.score >= _KILLED and score.smallest_scale <= _SCALE
    return ("pass" if enough else "fail"), note
