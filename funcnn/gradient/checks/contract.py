"""Check 4, the contract: shape, dtype and tree of what the backward pass returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from funcnn.contract import describe
from funcnn.gradient.results import Result
from funcnn.gradient.situation import Situation
from funcnn.gradient.subject import Subject
from funcnn.gradient.variants import one_line


def contract(situation: Situation) -> Iterator[Result]:
    """The cotangents of a rule in each dtype of the case, of a function in the given ones.

    Nothing is computed: JAX says what they would be.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.registry import Case
    >>> one = Situation.of_rule(rules.relu, Case("one", (np.ones(3),)))
    >>> [result.verdict for result in contract(one)]
    ['pass', 'pass', 'pass']
    """
    dtypes = (*situation.case.dtypes, "float64") if situation.rule else (None,)
    for dtype in dtypes:
        note = _broken(situation, dtype)
        shown = dtype or ""
        yield situation.result("contract", "", "fail" if note else "pass", note, dtype=shown)


def _broken(situation: Situation, dtype: str | None) -> str:
    with jax.enable_x64(dtype == "float64" or "float64" in situation.given_dtypes):
        try:
            subject = situation.subject(dtype)
            shapes = jax.eval_shape(subject.manual, *subject.x)
            _, cotangents = jax.eval_shape(subject.pull_manual, subject.x, shapes)
        except Exception as error:  # whatever it raises is what is wrong with the rule
            return one_line(error)
        return _unlike(subject, cotangents)


def _unlike(subject: Subject, cotangents: Any) -> str:
    """What JAX lets pass where a rule is not funcnn's: a cotangent of another shape or dtype."""
    for leaf, x, d in zip(subject.leaves, subject.x, cotangents, strict=True):
        if (x.shape, x.dtype) != (d.shape, d.dtype):
            expected, found = describe((x.shape, x.dtype)), describe((d.shape, d.dtype))
            return f"cotangent of {leaf}: expected {expected}, found {found}"
    return ""
