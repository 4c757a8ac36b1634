"""Which cases stand for their rule, where a check costs compilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from funcnn.core.registry import Case
from funcnn.gradient.case.bound_case import Situation

_SHOWN = 2


def shown_elsewhere(situation: Situation) -> str:
    """Why a costly check need not run on this case of a rule, or "".

    >>> from funcnn import rules
    >>> cases = {case.name: case for case in rules.relu.cases()}
    >>> shown_elsewhere(Situation.of_rule(rules.relu, cases["law"]))
    'shown on the cases normal and cube'
    """
    cases = shown_cases(situation)
    if any(_signature(case) == _signature(situation.case) for case in cases):
        return ""
    return "shown on the cases " + " and ".join(case.name for case in cases)


def stands_for_its_rule(situation: Situation) -> bool:
    """Whether this is the one case that stands for its rule, the first of the `shown_cases`.

    >>> from funcnn import rules
    >>> cases = rules.tanh.cases()[:2]
    >>> [stands_for_its_rule(Situation.of_rule(rules.tanh, case)) for case in cases]
    [True, False]
    """
    return _signature(shown_cases(situation)[0]) == _signature(situation.case)


def shown_cases(situation: Situation) -> list[Case]:
    """Two unlike cases of the rule: the first, and the first of another kind.

    Kinds differ in static arguments, in the tree of the arguments or in their ranks. Kinks and
    empty arrays prove little, so they are taken only where there is nothing else. For a function,
    and for a rule on arguments of the caller, it is the case itself.

    >>> from funcnn import rules
    >>> one = Situation.of_rule(rules.relu, rules.relu.cases()[0])
    >>> [case.name for case in shown_cases(one)]
    ['normal', 'cube']
    """
    cases = cases_of_its_rule(situation)
    return _unlike([c for c in cases if not c.kinks and _is_dense(c)] or cases)


def cases_of_its_rule(situation: Situation) -> list[Case]:
    """All cases of the rule of which this is one; where it is none of them, the case itself.

    >>> from funcnn import rules
    >>> mine = Situation.of_rule(rules.relu, Case("mine", (np.ones(2),)))
    >>> [case.name for case in cases_of_its_rule(mine)]
    ['mine']
    """
    rule, case = situation.rule, situation.case
    if rule is None:
        return [case]
    with jax.enable_x64(False):  # in float64 the draws would be compiled once more
        cases = rule.cases(jax.random.key(situation.seed))
    return cases if _signature(case) in map(_signature, cases) else [case]


def _unlike(cases: Sequence[Case]) -> list[Case]:
    by_kind: dict[str, Case] = {}
    for case in cases:
        leaves, tree = jax.tree.flatten(case.args)
        kind = f"{tree} {_static(case)} {[np.ndim(leaf) for leaf in leaves]}"
        by_kind.setdefault(kind, case)
    return list(by_kind.values())[:_SHOWN]


def _signature(case: Case) -> tuple[str, str, str]:
    return case.name, _static(case), str(jax.tree.map(np.shape, case.args))


def _static(case: Case) -> str:
    return str(sorted(case.static.items(), key=lambda item: item[0]))


def _is_dense(case: Case) -> bool:
    leaves: list[Any] = jax.tree.leaves(case.args)
    return all(np.size(leaf) > 0 for leaf in leaves) and max(map(np.size, leaves), default=0) > 1
