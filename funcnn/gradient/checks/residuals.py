"""Check 12, residuals: what the forward pass keeps, in a call and in a loop; all of it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.cost.residuals import Ledger, ledger
from funcnn.gradient.verdict.results import Result
from funcnn.types import Array, Function, PyTree

_LENGTHS = (2, 4)  # of the loops whose residuals are compared


@registered("full", order=6)
def residuals(situation: Situation) -> Iterator[Result]:
    """Bytes kept for the backward pass: none of them dead; n steps keep n times what one keeps.

    In the narrowest dtype of the case, so that what is wider than it shows. A dead array fails
    where it is neither an argument nor a result, which the caller holds anyway. Nothing is
    computed.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.relu, Case("one", (jnp.ones(3),), dtypes=("float32",)))
    >>> for result in residuals(one):
    ...     print(result)
    PASS relu residuals: case one float32: keeps 12 bytes: 0 of arguments, 12 of results, 0 extra,
    0 of these dead, 0 wide; autodiff 15 bytes, 15 of them extra
    PASS relu residuals in a loop: case one float32: each step of a scan keeps 12 bytes, a call 12
    """
    dtypes = situation.case.dtypes or ("float32",)
    dtype = min(dtypes, key=lambda name: jnp.dtype(name).itemsize)
    subject = situation.subject(dtype)
    if not any(x.size for x in subject.x):
        yield situation.result("residuals", "", "skip", "no elements", dtype=dtype)
        return
    kept = ledger(subject.manual, subject.x)
    automatic = ledger(subject.automatic, subject.x)
    note = f"keeps {kept}; autodiff {automatic.total} bytes, {automatic.extra} of them extra"
    # What a function without a Rule keeps is JAX's choice, too.
    verdict = "fail" if kept.dead and situation.rule else "pass"
    yield situation.result("residuals", "", verdict, note, dtype=dtype, setting="memory")
    step = _bytes_of_a_step(subject.manual, subject.x)
    note = f"each step of a scan keeps {step:g} bytes, a call {kept.total}"
    verdict = "fail" if step > kept.total else "pass"
    yield situation.result("residuals in a loop", "", verdict, note, dtype=dtype, setting="memory")


def _bytes_of_a_step(f: Function, x: tuple[Any, ...]) -> float:
    """By how much the residuals of a scan grow with each step."""
    short, long = (_in_a_loop(f, x, length).total for length in _LENGTHS)
    return (long - short) / (_LENGTHS[1] - _LENGTHS[0])


def _in_a_loop(f: Function, x: tuple[Any, ...], length: int) -> Ledger:
    stacked = [jax.ShapeDtypeStruct((length, *leaf.shape), leaf.dtype) for leaf in x]

    def loop(*xs: Array) -> PyTree:
        return jax.lax.scan(lambda carry, x: (carry, f(*x)), None, xs)[1]

    return ledger(loop, stacked)
