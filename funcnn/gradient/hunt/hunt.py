"""Arguments at which a hand-written gradient is wrong, looked for and made small."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from funcnn.core.errors import plainly
from funcnn.core.given import check_call, check_positive, check_seed, described, function_name
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.arguments import of_real_arrays, real_arrays
from funcnn.gradient.case.bound_case import trace_real
from funcnn.gradient.case.memory import MEGABYTES
from funcnn.gradient.hunt.place import Hunted
from funcnn.gradient.hunt.program import arguments_of, program_of
from funcnn.gradient.hunt.report import Found, HuntReport
from funcnn.gradient.hunt.search import Counts, Search, Wrong
from funcnn.gradient.hunt.shrinking import Shrinking
from funcnn.gradient.program.rewriting import sites
from funcnn.types import Function, PyTree

__all__ = ["Found", "HuntReport", "hunt"]

_SHRINKING = 20.0  # seconds at most, beyond the budget if need be
_CASES = 3  # unlike ones of a rule, which share the budget


def hunt(
    target: Rule | Function,
    *args: PyTree,
    budget: float = 20.0,
    static: Mapping[str, Any] | None = None,
    reference: Function | None = None,
    seed: int = 0,
    megabytes: float = MEGABYTES,
) -> HuntReport:
    """Search for arguments at which a hand-written gradient is wrong; hand back a small example.

    Wrong is what `check` would call so at these arguments: the rule's own code in float64 against
    automatic differentiation of the function without rules, and the rule in the dtypes given; at
    kinks, at ties and where digits are lost the appeals of `check` decide. Nothing is said where
    the value is not defined (NaN), where the true derivative is not finite, or where the function
    itself overflows in the dtype given.

    A loop on the rule's way back that does not end, where the function without the rule does, is
    found, too. Nothing else is stopped: a callback that does not return is waited for here, and
    `funcnn hunt` stops it.

    Tried are the numbers of each argument over the whole range of its dtype, signs, ties, repeated
    and sorted numbers, zeros, subnormals, infinities; other sizes, 1 and odd ones among them;
    integers as indices, at both ends and repeated; masks of all and of none; cotangents that are
    one hot, sparse, large or tiny; the constants of both gradients' programs, and numbers just
    beside them. What comes nearest to the error allowed is changed further.

    Args:
        target: a Rule, on its own cases or on `args`; or a function that calls hand-written rules.
        args: the arguments to begin with: their tree, dtypes and static sizes are kept.
        budget: seconds; a compilation under way is finished, and what was found is then made
            smaller for up to 20 s.
        static: keyword arguments, which do not change.
        reference: a function of the same arguments whose automatic gradient is the truth.
        seed: the same one repeats the search, as far as the budget reaches.
        megabytes: sizes at which a trial is thought to take more are left out.

    Raises:
        ValueError: a budget or megabytes that are no number above 0, a seed that is none.
        TypeError: a function without arguments.

    >>> import jax.numpy as jnp
    >>> cube = jax.custom_vjp(lambda x: x**3)
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (jnp.where(x > 40, 2, 3) * x**2 * dy,))
    >>> found = hunt(cube, jnp.linspace(-2.0, 2.0, 3)).found
    >>> found.elements, float(found.arguments[0][0]) > 40
    (1, True)
    """
    _check_given(target, args, budget, static, reference, seed, megabytes)
    name, fixed = _name(target), dict(static or {})
    start, counts = time.monotonic(), Counts()
    hunted = list(_hunted(target, args, fixed, reference, seed))
    rules = sum(_rules(one) for one, _ in hunted)
    if why := _why_not(hunted, rules):
        return HuntReport(name, seed=seed, why=why)
    found = None
    for k, (one, case) in enumerate(hunted):
        search = Search(one, seed, counts, megabytes)
        wrong = search.run(start + budget * (k + 1) / len(hunted))
        if wrong is not None:
            small = Shrinking(wrong, time.monotonic() + min(_SHRINKING, max(budget, 1.0))).run()
            found = _found(target, dict(case.static), small)
            break
    return HuntReport(
        name,
        found,
        counts.trials,
        counts.compared,
        dict(counts.why_not),
        dict(counts.excused),
        counts.places,
        counts.refused,
        counts.large,
        time.monotonic() - start,
        seed,
        rules,
    )


def _check_given(
    target: object,
    args: tuple[Any, ...],
    budget: Any,
    static: Mapping[str, Any] | None,
    reference: object,
    seed: object,
    megabytes: object,
) -> None:
    check_seed("hunt", seed)
    check_positive("hunt", "budget", budget, "a number of seconds")
    check_positive("hunt", "megabytes", megabytes)
    if not isinstance(target, Rule) and (not callable(target) or not args):
        alone = f"{described(target)} alone" if callable(target) else described(target)
        raise TypeError(f"hunt: give a Rule, or a function and its arguments; found {alone}")
    if callable(target) and (args or not isinstance(target, Rule)):
        check_call("hunt", target, args, static, reference)


def _name(target: Rule | Function) -> str:
    return target.name if isinstance(target, Rule) else function_name(target)


def _hunted(
    target: Rule | Function,
    args: tuple[Any, ...],
    static: dict[str, Any],
    reference: Function | None,
    seed: int,
) -> Iterator[tuple[Hunted, Case]]:
    """What is hunted, with the case that it begins with."""
    if not isinstance(target, Rule):
        case = Case("arguments", args, static)
        yield Hunted.of_function(_name(target), target, case, reference), case
        return
    given = [Case("arguments", args, static, reference=reference)] if args else []
    cases = given or [
        case
        for case in target.cases(jax.random.key(seed))
        if case.intent == "derivative" and case.reference is None
    ]
    kinds: Counter[str] = Counter()
    for case in sorted(cases, key=lambda c: c.kinks):
        leaves, tree = jax.tree.flatten(case.args)
        kind = f"{tree} {sorted(case.static.items())} {[np.ndim(leaf) for leaf in leaves]}"
        kinds[kind] += 1
        if kinds[kind] == 1 and len(kinds) <= _CASES and all(map(np.size, leaves)):
            yield Hunted.of_rule(target, case), case


def _why_not(hunted: Sequence[tuple[Hunted, Case]], rules: int) -> str:
    """Why there is nothing to hunt, or ""."""
    if not hunted:
        return "no case without a truth of its own"
    if not rules:
        return "it calls no hand-written rule"
    if not any("float" in one.kinds for one, _ in hunted):
        return "no argument is of floating point"
    return ""


def _rules(hunted: Hunted) -> int:
    """How many hand-written rules are called."""
    if hunted.reference is not None:
        return 1
    args = real_arrays(hunted.args)
    with plainly("hunt"):
        return len(sites(trace_real(of_real_arrays(hunted.f), args, hunted.args).jaxpr))


def _found(target: Rule | Function, static: dict[str, Any], wrong: Wrong) -> Found:
    args = arguments_of(wrong)
    leaves = wrong.place.situation.leaves
    return Found(
        args,
        tuple(wrong.trial.w),
        leaves[wrong.score.leaf] if leaves else "",
        wrong.score.dtype,
        wrong.score.error,
        wrong.score.allowed,
        wrong.note,
        program_of(target, static, wrong),
        sum(int(np.size(leaf)) for leaf in jax.tree.leaves(args)),
    )
