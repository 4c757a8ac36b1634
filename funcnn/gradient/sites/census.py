"""Every custom rule that a program calls: what it keeps, and how far off it is where it is called.

A rule is judged at the operands that really flow through its sites, with cotangents that are drawn:
the program itself need not return a scalar, nor be differentiated at all.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.core.errors import kind_and_line, plainly
from funcnn.core.given import check_by_rule, check_call
from funcnn.gradient.case.arguments import of_real_arrays, real_arrays
from funcnn.gradient.cost.residuals import Ledger, ledger
from funcnn.gradient.program.float64 import NoTruth, is_float
from funcnn.gradient.program.influence import operands_differentiated
from funcnn.gradient.program.loops import EndlessLoop
from funcnn.gradient.program.operands import Visit, visited
from funcnn.gradient.program.perturbations import Tap
from funcnn.gradient.program.rewriting import Rewriting, sites
from funcnn.gradient.program.sites import alone, operands
from funcnn.gradient.program.without_rules import trace
from funcnn.gradient.sites.report import Census, CensusRow
from funcnn.gradient.sites.site_calls import judge_calls
from funcnn.gradient.sites.site_error import follow
from funcnn.gradient.verdict.judge import Row
from funcnn.types import Aval, Equation, Function, Intent, PyTree

__all__ = ["Census", "CensusRow", "census"]

# Of the equation of a site: which of its operands depend on an argument.
Moved = Callable[[Equation], set[int] | None]


def census(
    f: Function,
    *args: PyTree,
    intent: Intent | Mapping[str, Intent] = "derivative",
    reference: Mapping[str, Function] | None = None,
) -> Census:
    """Every hand-written rule that a program calls, with its cost and its error.

    Rules are `jax.custom_vjp` and `jax.custom_jvp`, whoever wrote them. What stands in a loop is
    looked at in its first call, its last, and those with the largest and the smallest numbers; a
    rule that asks for symbolic zeros also with each operand and each result by itself; what stands
    in a branch that is not taken, or inside a primitive that cannot be looked into, is listed
    without an error. Truth is the float64 derivative of what the rule wraps, questioned as in
    `check` where a rule contradicts it: at a kink or a tie any slope between the two sides is
    right.

    Args:
        f: any JAX function, not differentiated: in what `jax.grad` returns a rule has left no
            trace.
        args: its arguments.
        intent: "derivative", or "surrogate" where the rules differ from it on purpose; or a dict,
            name of a rule -> intent.
        reference: name of a rule -> a function of its operands whose automatic gradient is the
            truth, as a surrogate's.

    >>> import numpy as np
    >>> report = census(lambda x: jax.nn.relu(jax.nn.relu(x) - 1.0), np.ones((2, 3), np.float32))
    >>> [(row.name, row.sites, row.operands) for row in report.rules]
    [('relu', 2, 'float32[2,3]')]
    """
    check_call("census", f, args)
    check_by_rule("census", intent, reference)
    with plainly("census"):
        program = trace(of_real_arrays(f), real_arrays(args), {})
    intents = _Intents.of(intent, reference, {site.name for site in sites(program.jaxpr)})
    groups: dict[Any, list[Visit]] = defaultdict(list)
    for visit in visited(program):
        groups[(visit.site.name, visit.site.source, visit.site.kind, _operands(visit))] += [visit]
    moved = operands_differentiated(program, range(len(program.leaves)))
    return Census(tuple(_row(visits, intents, moved) for visits in groups.values()))


@dataclasses.dataclass(frozen=True)
class _Intents:
    """Which rules are surrogates, by name, and which functions they follow."""

    surrogates: frozenset[str]
    references: Mapping[str, Function]

    @classmethod
    def of(
        cls,
        intent: Intent | Mapping[str, Intent],
        reference: Mapping[str, Function] | None,
        known: set[str],
    ) -> _Intents:
        named = dict.fromkeys(known, intent) if isinstance(intent, str) else dict(intent)
        for name in (*named, *(reference or {})):
            if name not in known:
                names = ", ".join(sorted(known)) or "none"
                raise ValueError(f"census: no rule {name!r} in the program; it calls {names}")
        for value in named.values():
            if value not in ("derivative", "surrogate"):
                raise ValueError(f"census: intent is derivative or surrogate, found {value!r}")
        chosen = frozenset(name for name, value in named.items() if value == "surrogate")
        return cls(chosen, reference or {})


def _operands(visit: Visit) -> str:
    avals = [visit.eqn.invars[i].aval for i in operands(visit.eqn)]
    return ", ".join(a.str_short() for a in avals)


def _row(visits: Sequence[Visit], intents: _Intents, moved: Moved) -> CensusRow:
    """The row of the sites of one rule with operands of one kind: the worst of them."""
    judged = [(visit, *_judged(visit, intents, moved)) for visit in visits]
    worst, error, why = max(judged, key=lambda each: _badness(each[1]))
    manual, automatic = _kept(worst, True), _kept(worst, False)
    site = worst.site
    return CensusRow(
        name=site.name,
        kind=site.kind,
        source=site.source,
        operands=_operands(worst),
        sites=len(visits),
        compared=sum(row is not None for _, row, _ in judged),
        calls=sum(visit.calls for visit in visits),
        path=site.path,
        aliased=manual.argument + manual.output if manual else math.nan,
        extra=manual.extra if manual else math.nan,
        dead=manual.dead if manual else math.nan,
        automatic_extra=automatic.extra if automatic else math.nan,
        manual=error.manual if error else math.nan,
        automatic=error.automatic if error else math.nan,
        floor=error.floor if error else math.nan,
        verdict=error.verdict if error else "INCONCLUSIVE",
        note="; ".join(filter(None, [worst.note, why])),
    )


def _badness(row: Row | None) -> tuple[bool, bool, float]:
    """Wrong before right, right before unknown, a large error before a small one."""
    if row is None:
        return False, False, 0.0
    return row.verdict == "WRONG", True, row.manual


def _judged(visit: Visit, intents: _Intents, moved: Moved) -> tuple[Row | None, str]:
    """The row of a site's worst operand, None where there is none; and a note."""
    name = visit.site.name
    reference = intents.references.get(name)
    if not visit.operands:
        return None, "" if visit.note else "its operands cannot be had"
    tap = Tap(visit.site, visit.eqn, ())
    if not any(map(is_float, tap.operands)) or not tap.outputs:
        return None, "nothing here is differentiable"
    try:
        true = None if reference is None else follow(tap, reference)
        surrogate = name in intents.surrogates and true is None
        more: dict[str, Any] = {"surrogate": surrogate, "moved": moved(visit.eqn)}
        judged = judge_calls(tap, visit.operands, true, **more)
    except EndlessLoop as error:
        return None, f"stopped: {error}"
    except NoTruth as error:
        return None, f"no truth: {error}"
    except Exception as error:  # what a rule raises is found out about that rule alone
        return None, f"it raised {kind_and_line(error)}"
    worst = max(judged, key=lambda each: _badness(each[0]))
    complex_ones = [a for a in (*tap.operands, *_results(visit)) if _is_complex(a)]
    if complex_ones and (worst[0] is None or worst[0].verdict != "WRONG"):
        return None, "its complex operands and results are not looked at: give check the rule"
    return worst


def _results(visit: Visit) -> list[Aval]:
    return [v.aval for v in visit.eqn.outvars]


def _is_complex(aval: Aval) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.complexfloating)


def _kept(visit: Visit, with_rule: bool) -> Ledger | None:
    """What one call keeps for its backward pass; None where it has no reverse mode by itself."""
    program = alone(visit.eqn)
    program = program if with_rule else Rewriting(lambda site: True).closed(program)
    chosen = [i for i, aval in enumerate(program.in_avals) if is_float(aval)]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in program.in_avals]
    if not chosen:
        return None
    try:
        return ledger(jex.jaxpr_as_fun(program), shapes, chosen)
    except Exception:  # an axis name that is bound outside, a loop without reverse mode
        return None
