"""Check 17, hunt: is the rule wrong where nobody has looked?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.representatives import shown_elsewhere
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.hunt import hunt as hunting
from funcnn.gradient.hunt.program import written
from funcnn.gradient.hunt.report import HuntReport
from funcnn.gradient.verdict.results import Result

_SECONDS = 10.0  # for each of the cases that stand for a rule, and for a function
_SHOWN = 200  # characters of the arguments


@registered("release", order=3, needs_truth=True)
def hunt(situation: Situation) -> Iterator[Result]:
    """A short `fnn.hunt`, of a rule from the cases that stand for it.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from funcnn.core.registry import Case
    >>> cube = jax.custom_vjp(lambda x: x**3)
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (jnp.where(x > 40, 2, 3) * x**2 * dy,))
    >>> one = Situation.of_function(cube, Case("one", (jnp.ones(2),)), "cube")
    >>> [(result.leaf, result.verdict) for result in hunt(one)]
    [('argument_0', 'fail')]
    """
    if not situation.leaves:
        yield situation.result("hunt", "", "skip", "no floating-point argument")
    elif elsewhere := shown_elsewhere(situation):
        yield situation.result("hunt", "", "skip", elsewhere)
    else:
        yield _result(situation, _report(situation))


def _report(situation: Situation) -> HuntReport:
    rule, case = situation.rule, situation.case
    limits: dict[str, Any] = {"budget": _SECONDS, "seed": situation.seed}
    if rule is not None:
        more: dict[str, Any] = {"static": case.static, "reference": case.reference}
        return hunting.hunt(rule, *case.args, **more, **limits)
    reference = None if case.reference is None else situation.automatic
    return hunting.hunt(situation.manual, *situation.args, reference=reference, **limits)


def _result(situation: Situation, report: HuntReport) -> Result:
    found = report.found
    if found is not None:
        where = textwrap.shorten(written(found.arguments), _SHOWN, placeholder=" ...")
        return situation.result("hunt", found.leaf, "fail", f"at {where}: {found.note}")
    if report.why:
        return situation.result("hunt", "", "skip", report.why)
    if not report.compared:
        why = max(report.not_compared, key=report.not_compared.__getitem__, default="no trial")
        return situation.result("hunt", "", "inconclusive", why)
    return situation.result("hunt", "", "pass", report.conclusion())
