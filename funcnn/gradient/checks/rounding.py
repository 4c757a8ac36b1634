"""Check 2, rounding: the rule in each low precision against what autodiff does there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.judge import judge_rounding
from funcnn.gradient.results import Result
from funcnn.gradient.situation import Situation
from funcnn.gradient.subject import cast, cotangents_of


def rounding(situation: Situation) -> Iterator[Result]:
    """Both gradients in each dtype of the case, held against float64 truth at the same inputs.

    >>> from funcnn import rules
    >>> from funcnn.registry import Case
    >>> one = Case("one", (jnp.linspace(-1.0, 1.0, 3),), dtypes=("float32",))
    >>> [result.verdict for result in rounding(Situation.of_rule(rules.tanh, one))]
    ['pass']
    """
    for dtype in situation.case.dtypes:
        yield from _in_dtype(situation, dtype)


def _in_dtype(situation: Situation, dtype: str) -> Iterator[Result]:
    low = situation.subject(dtype)
    w = cotangents_of(low, situation.seed)[0][1]
    manual, automatic = low.pull_manual(low.x, w)[1], low.pull_automatic(low.x, w)[1]
    with jax.enable_x64(True):
        # In float64, at the very numbers that the low precision holds.
        exact = dataclasses.replace(situation.subject("float64"), x=cast(low.x, jnp.float64))
        dy = cast(w, jnp.float64)
        truth = exact.pull_automatic(exact.x, dy)[1]
        moved = [exact.pull_automatic(x, dy)[1] for x in exact.moved(dtype)]
        truth, moved = jax.tree.map(np.asarray, (truth, moved))
    for i, leaf in enumerate(low.leaves):
        row = judge_rounding(leaf, manual[i], automatic[i], truth[i], [m[i] for m in moved])
        verdict = {"WRONG": "fail", "INCONCLUSIVE": "inconclusive"}.get(row.verdict, "pass")
        note = row.note or f"{row.manual:.2g} ulps, autodiff {row.automatic:.2g}: {row.verdict}"
        yield situation.result("rounding", leaf, verdict, note, dtype=dtype)
