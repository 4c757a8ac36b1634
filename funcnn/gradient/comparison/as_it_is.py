"""A function that names a dtype, so that it cannot run in float64: its rounding is judged."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.errors import kind_and_line
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import cotangents
from funcnn.gradient.checks.algebra import without_truth
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.program.dtypes import pinned_dtypes
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike, Function, PyTree, Verdict


def pinned_in(situation: Situation) -> set[str]:
    """What a function, or its gradient, computes in where float64 cannot reach; x64 is enabled.

    >>> from funcnn.core.registry import Case
    >>> half = lambda x: (x.astype(jnp.bfloat16) * 2).astype(x.dtype)
    >>> with jax.enable_x64(True):
    ...     pinned_in(Situation.of_function(half, Case("one", (jnp.ones(2),)), "half"))
    {'bfloat16'}
    """
    try:
        subject = situation.subject("float64")
        dys = jax.eval_shape(subject.manual, *subject.x)
        return pinned_dtypes(jax.make_jaxpr(subject.pull_manual)(subject.x, dys))
    except Exception:  # float64 meets the dtype that the function names
        return {"a dtype that it names"}


def judged_as_it_is(situation: Situation, pinned: set[str]) -> list[Result]:
    """What `compare` says of its leaves.

    >>> from funcnn.core.registry import Case
    >>> half = lambda x: (x.astype(jnp.bfloat16) * 2).astype(x.dtype)
    >>> one = Situation.of_function(half, Case("one", (jnp.ones(2),)), "half")
    >>> [(result.leaf, result.verdict) for result in judged_as_it_is(one, {"bfloat16"})]
    [('argument_0', 'pass')]
    """
    try:
        return list(_judged(situation, pinned))
    except Exception as error:
        note = f"no truth: {kind_and_line(error)}"
        return [situation.result("truth", n, "inconclusive", note) for n in situation.leaves]


def _judged(situation: Situation, pinned: set[str]) -> Iterator[Result]:
    f, args = situation.manual, situation.args
    outputs = [leaf for leaf in jax.tree.leaves(jax.eval_shape(f, *args)) if is_float(leaf)]
    weights = cotangents(outputs)[0][1]

    def weighted(f: Function, *args: PyTree) -> ArrayLike:
        ys = [leaf for leaf in jax.tree.leaves(f(*args)) if is_float(leaf)]
        return sum(jnp.vdot(w, y) for w, y in zip(weights, ys, strict=True))

    manual, followed = (functools.partial(weighted, g) for g in (f, situation.automatic))
    options: dict[str, Any] = {"argnums": range(len(args)), "pairs": 0, "cost": False}
    if situation.case.reference is not None:
        options["reference"] = followed
    comparison = compare(manual, *args, **options)
    note = f"judged in its own precision, since it computes in {', '.join(sorted(pinned))}"
    if comparison.no_truth:
        yield from without_truth(situation, weights, comparison.no_truth)
    verdicts: dict[str, Verdict] = {"WRONG": "fail", "INCONCLUSIVE": "inconclusive"}
    for leaf, row in zip(situation.leaves, comparison.leaves, strict=False):
        verdict = verdicts.get(row.verdict, "pass")
        yield situation.result("truth", leaf, verdict, row.note or note, zero=row.zero)
