"""Check 9, mutation: would the checks have noticed a mistake in this backward pass?"""

from __future__ import annotations

from collections.abc import Iterator

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.representatives import (
    cases_of_its_rule,
    shown_cases,
    stands_for_its_rule,
)
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
    >>> one = Situation.of_rule(rules.relu, Case("one", (jnp.linspace(-1.0, 1.0, 3),)))
    >>> [result.verdict for result in mutation(one)]
    ['pass']
    """
    rule, seed = situation.rule, situation.seed
    if rule is None:
        yield situation.result("mutation", "", "skip", "a function; mutants are made of a Rule")
    elif not situation.leaves:
        yield situation.result("mutation", "", "skip", "no floating-point argument")
    elif not stands_for_its_rule(situation):
        note = f"scored once a rule, at case {shown_cases(situation)[0].name!r}"
        yield situation.result("mutation", "", "skip", note)
    else:
        score = mutation_score(rule, cases=cases_of_its_rule(situation), seed=seed)
        yield situation.result("mutation", "", *_verdict(score))


def _verdict(score: MutationScore) -> tuple[Verdict, str]:
    note = "; ".join([score.conclusion(), *map(str, score.survived)])
    if not score.killed and not score.survived:
        return "inconclusive", f"{note}: nothing to notice"
    enough = score.score >= _KILLED and score.smallest_scale <= _SCALE
    return ("pass" if enough else "fail"), note
