"""Check 15, cost: what the hand-derived gradient takes beside the automatic one, as compiled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import cotangents_of
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.cost.flops import compiled_expense, count_operations
from funcnn.gradient.verdict.results import Result
from funcnn.types import Function


@registered("release", order=2)
def cost(situation: Situation) -> Iterator[Result]:
    """Operations and bytes of both gradients; it passes where all of them could be counted.

    What costs more is reported and no mistake. Times are `fnn.compare`'s to take.

    >>> import jax.numpy as jnp
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (jnp.ones(3),), dtypes=("float32",)))
    >>> [(result.check, result.verdict) for result in cost(one)]
    [('cost', 'pass')]
    """
    dtype = (situation.case.dtypes or ("float32",))[0]
    subject = situation.subject(dtype)
    if not any(x.size for x in subject.x):
        yield situation.result("cost", "", "skip", "no elements", dtype=dtype)
        return
    dys = cotangents_of(subject, situation.seed)[0][1]
    manual = _expense(subject.manual, subject.x, dys)
    automatic = _expense(subject.automatic, subject.x, dys)
    note = "; ".join(
        f"{name} {m:g}, autodiff {a:g}"
        for name, m, a in zip(("FLOPs", "bytes", "temporary bytes"), manual, automatic, strict=True)
    )
    counted = all(map(math.isfinite, (*manual[:2], *automatic[:2])))
    verdict = "pass" if counted else "inconclusive"
    yield situation.result("cost", "", verdict, note, dtype=dtype)


def _expense(f: Function, x: tuple[Any, ...], dys: list[Any]) -> tuple[float, float, float]:
    """Value and gradient together: FLOPs of the jaxpr, the compiler's bytes, temporary bytes."""

    def pull(x: tuple[Any, ...], dys: list[Any]) -> tuple[list[Any], tuple[Any, ...]]:
        y, transposed = jax.vjp(f, *x)
        return y, transposed(dys)

    count = count_operations(jax.make_jaxpr(pull)(x, dys))
    compiled = compiled_expense(jax.jit(pull).lower(x, dys).compile())
    flops = math.nan if any(n.endswith("not counted") for n in count.notes) else count.flops
    return flops, compiled.bytes_accessed, compiled.temporary_bytes
