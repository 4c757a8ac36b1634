"""Check 4, the contract: shape, dtype and tree of what the backward pass returns."""

from __future__ import annotations

from collections.abc import Iterator

import jax

from funcnn.gradient.results import Result
from funcnn.gradient.situation import Situation


def contract(situation: Situation) -> Iterator[Result]:
    """The cotangents in each dtype of the case; nothing is computed.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.registry import Case
    >>> one = Situation.of_rule(rules.relu, Case("one", (np.ones(3),)))
    >>> [result.verdict for result in contract(one)]
    ['pass', 'pass', 'pass']
    """
    for dtype in (*situation.case.dtypes, "float64"):
        note = _broken(situation, dtype)
        yield situation.result("contract", "", "fail" if note else "pass", note, dtype=dtype)


def _broken(situation: Situation, dtype: str) -> str:
    with jax.enable_x64(dtype == "float64"):
        try:
            subject = situation.subject(dtype)
            shapes = jax.eval_shape(subject.manual, *subject.x)
            jax.eval_shape(subject.pull_manual, subject.x, shapes)
        except Exception as error:  # whatever it raises is what is wrong with the rule
            return (str(error) or type(error).__name__).splitlines()[0]
    return ""
