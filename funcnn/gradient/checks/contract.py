"""Check 4, the contract: shape, dtype and tree of what the backward pass returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.core.contract import describe
from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.program.operands import listed
from funcnn.gradient.program.sites import alone
from funcnn.gradient.verdict.results import Result
from funcnn.types import Array, Function, Shaped


@registered("fast", order=1, stops=True)
def contract(situation: Situation) -> Iterator[Result]:
    """The cotangents of a rule in each dtype of the case, of a function in the given ones.

    Nothing is computed: JAX says what they would be.

    >>> import numpy as np
    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.relu, Case("one", (np.ones(3),)))
    >>> [result.verdict for result in contract(one)]
    ['pass', 'pass', 'pass']
    """
    dtypes: tuple[str | None, ...] = (None,)
    if situation.rule:
        dtypes = tuple(dict.fromkeys((*situation.case.dtypes, *situation.asked)))
    for dtype in dtypes:
        note = _broken(situation, dtype)
        where = dtype or ""
        yield situation.result("contract", "", "fail" if note else "pass", note, dtype=where)


def _broken(situation: Situation, dtype: str | None) -> str:
    with jax.enable_x64(dtype == "float64" or "float64" in situation.given_dtypes):
        try:
            subject = situation.subject(dtype)
            shapes = jax.eval_shape(subject.manual, *subject.x)
            _, cotangents = subject.pull_manual.eval_shape(subject.x, shapes)
        except Exception as error:  # whatever it raises is what is wrong with the rule
            return first_line(error)
        return _unlike(subject.leaves, subject.x, cotangents) or _at_sites(situation, subject)


def _at_sites(situation: Situation, subject: Subject) -> str:
    """The same of each foreign rule inside a function, at its own operands."""
    if situation.rule:
        return ""
    for visit in listed(jax.make_jaxpr(subject.manual)(*subject.x)):
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in alone(visit.eqn).in_avals]
        chosen = [i for i, a in enumerate(shapes) if jnp.issubdtype(a.dtype, jnp.inexact)]
        try:
            cotangents = _cotangents(jex.jaxpr_as_fun(alone(visit.eqn)), shapes, chosen)
        except Exception:  # an axis that is bound outside; the whole was differentiated
            continue
        names = [f"operand {i} of {visit.site}" for i in chosen]
        why = _unlike(names, [shapes[i] for i in chosen], cotangents)
        if why:
            return why
    return ""


def _cotangents(
    f: Function, shapes: list[jax.ShapeDtypeStruct], chosen: list[int]
) -> Sequence[jax.ShapeDtypeStruct]:
    def pull(*x: Array) -> tuple[Array, ...]:
        def of_chosen(*inner: Array) -> list[Array]:
            y = f(*filled(x, chosen, inner))
            return [v for v in y if jnp.issubdtype(v.dtype, jnp.inexact)]

        y, transposed = jax.vjp(of_chosen, *(x[i] for i in chosen))
        return transposed(y)

    return jax.eval_shape(pull, *shapes)


def _unlike(
    leaves: Sequence[str], arguments: Sequence[Shaped | np.ndarray], cotangents: Sequence[Shaped]
) -> str:
    """What JAX lets pass where a rule is not funcnn's: a cotangent of another shape or dtype."""
    for leaf, x, d in zip(leaves, arguments, cotangents, strict=True):
        if (x.shape, x.dtype) != (d.shape, d.dtype):
            expected, found = describe(x.shape, x.dtype), describe(d.shape, d.dtype)
            return f"cotangent of {leaf}: expected {expected}, found {found}"
    return ""
