"""Manual against automatic, for a whole program: accuracy leaf by leaf and site by site, and cost.

The hand-derived gradient has two rivals: the automatic one, and the automatic one with
jax.checkpoint where a user would place it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line, plainly
from funcnn.core.given import check_call, check_count, check_flag, chosen_arguments, described
from funcnn.core.removal import Removal
from funcnn.gradient.case.arguments import of_real_arrays, real_arrays
from funcnn.gradient.comparison.arms import (
    Arm,
    Built,
    Gradient,
    build,
    build_checkpointed,
    measure,
    require_scalar,
)
from funcnn.gradient.comparison.judged import (
    Judge,
    declared_row,
    program_of,
    raised_row,
    value_row,
)
from funcnn.gradient.comparison.report import Comparison
from funcnn.gradient.cost.timing import Timing, time_in_turn
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import is_float, raise_function, raised
from funcnn.gradient.program.influence import operands_differentiated, rules_not_compared
from funcnn.gradient.program.rewriting import Rewriting, sites
from funcnn.gradient.program.sites import Site
from funcnn.gradient.program.without_rules import Program, take_out, trace
from funcnn.gradient.sites.localize import SiteRow, known_sites, localize
from funcnn.gradient.truth.floor import draws
from funcnn.types import Function, Intent, PyTree

__all__ = ["Comparison", "compare"]

Arguments = ParamSpec("Arguments")

INTENTS = ("derivative", "surrogate")
_DRAWS = 2  # of changed inputs, for the noise floor


def _compiled_anyway(
    tool: Callable[Arguments, Comparison],
) -> Callable[Arguments, Comparison]:
    """What is compared and counted is compiled, also where somebody has disabled jit."""

    @functools.wraps(tool)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> Comparison:
        with jax.disable_jit(False):
            return tool(*args, **options)

    return run


@_compiled_anyway
def compare(
    f: Function,
    *args: PyTree,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    pairs: int = 10,
    cost: bool = True,
    intent: Intent = "derivative",
    reference: Function | None = None,
) -> Comparison:
    """The hand-derived gradient of a program against the automatic one and the float64 truth.

    Args:
        f: any JAX function with a scalar result, not differentiated: in what `jax.grad` returns a
            foreign rule has left no trace.
        args: its arguments.
        argnums: which of them to differentiate, as for `jax.grad`; their floating-point leaves are
            compared one by one, numbers of Python and the parts of complex arrays too.
        has_aux: whether `f` returns `(scalar, anything)`.
        pairs: how often the gradients are timed, in turn; 0 for not at all.
        cost: whether to count what each arm costs, the checkpointed one included.
        intent: "derivative", or "surrogate" where the rules differ from it on purpose: without a
            reference their value alone is compared.
        reference: a function of the same arguments whose automatic gradient is the truth.

    Raises:
        TypeError: the result is not a scalar, or there is nothing to differentiate.
        ValueError: an unknown intent, or argnums of no argument.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> def loss(params, x):
    ...     return fnn.rules.linear(x, params["w"]).sum()
    >>> report = compare(loss, {"w": jnp.ones((3, 2))}, jnp.ones((4, 3)), pairs=0)
    >>> report.ok, [row.leaf for row in report.leaves], [arm.name for arm in report.arms]
    (True, ['w'], ['automatic', 'checkpointed', 'manual'])
    """
    _check_given(f, args, intent, reference, pairs, {"has_aux": has_aux, "cost": cost})
    real, args = of_real_arrays(f), real_arrays(args)
    chosen = _chosen_leaves(f, args, argnums)
    with_rules = _traced(real, args, has_aux)
    true = real if reference is None else of_real_arrays(reference)
    manual, kept = Gradient.of(with_rules, tuple(chosen)), ()
    rules = tuple(sites(with_rules.jaxpr))
    try:
        stripped, kept = take_out(true, args, {}, Removal(), forward=True)
        automatic = Gradient.of(stripped, tuple(chosen))
        truth, moved = _truth(automatic)
    except Exception as error:  # NoTruth, or what JAX says of a reference or of float64
        return Comparison((), rules, tuple(kept), no_truth=first_line(error))
    built = {"automatic": build(automatic, quick=not (cost or pairs))}
    da = built["automatic"].call(with_rules.leaves)
    try:
        built["manual"], dm = _built_manual(manual, quick=not (cost or pairs))
    except Exception as error:  # whatever a rule raises is what is wrong with it
        failed = map(functools.partial(raised_row, error=error), chosen.values(), da)
        return Comparison(tuple(failed), rules, tuple(kept))
    on = functools.partial(take_out, true, args, {}, Removal(), forward=True, further=True)
    backward = functools.partial(program_of, manual, jax.config.read("jax_enable_x64"))
    judge = Judge(tuple(chosen.values()), automatic, da, truth, moved, lambda: on()[0], backward)
    if intent == "surrogate" and reference is None:
        arms, timing = _costs(built, cost, pairs)
        rows = (value_row(manual, automatic), *map(declared_row, judge.names, dm))
        return Comparison(rows, rules, tuple(kept), timing=timing, arms=arms)
    rows, site_rows = judge.rows(dm), () if reference else _site_rows(manual)
    wrong = any(row.verdict == "WRONG" for row in rows) and not reference
    culprits = _culprits(real, args, manual, rules, site_rows, judge) if wrong else ()
    arms, timing = _costs(built, cost, pairs)
    others = tuple(rules_not_compared(with_rules, chosen, known_sites(site_rows)))
    return Comparison(rows, rules, tuple(kept), culprits, timing, "", site_rows, arms, others)


def _check_given(
    f: Function,
    args: tuple[Any, ...],
    intent: str,
    reference: Function | None,
    pairs: int,
    flags: dict[str, bool],
) -> None:
    if intent not in INTENTS:
        raise ValueError(f"compare: intent is one of {', '.join(INTENTS)}, found {intent!r}")
    check_call("compare", f, args, reference=reference)
    check_count("compare", "pairs", pairs)
    for name, flag in flags.items():
        check_flag("compare", name, flag)


def _traced(f: Function, args: tuple[Any, ...], has_aux: bool) -> Program:
    with plainly("compare"):
        program = trace(f, args, {})
    require_scalar(program, has_aux)
    return program


def _chosen_leaves(
    f: Function, args: tuple[Any, ...], argnums: int | Sequence[int]
) -> dict[int, str]:
    """Index among the array leaves -> readable path, for each leaf to differentiate."""
    wanted = chosen_arguments("compare", argnums, len(args))
    names = _argument_names(f, len(args))
    chosen: dict[int, str] = {}
    index = 0
    for i, arg in enumerate(args):
        for path, leaf in jax.tree.leaves_with_path(arg):
            if isinstance(leaf, (jax.Array, np.ndarray)):
                inner = jax.tree_util.keystr(path, simple=True, separator="/")
                if i in wanted and is_float(leaf):
                    argument = [names[i]] if not inner or len(wanted) > 1 else []
                    chosen[index] = "/".join([*argument, *filter(None, [inner])])
                index += 1
    if not chosen:
        which = f"argument{'' if len(wanted) == 1 else 's'} {', '.join(map(str, wanted))}"
        kinds = ", ".join(described(args[i]) for i in wanted[:3])
        message = f"expected a floating-point array in {which} to differentiate, found {kinds}"
        raise TypeError(f"compare: {message}")
    return chosen


def _argument_names(f: Function, n: int) -> list[str]:
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    return (names + [f"argument {i}" for i in range(len(names), n)])[:n]


def _truth(automatic: Gradient) -> tuple[list[Any], list[list[Any]]]:
    """The float64 gradient, and for each leaf the same at slightly changed inputs."""
    program = automatic.program
    with jax.enable_x64(True):
        run = raise_function(program)
        high = dataclasses.replace(automatic, run=lambda *leaves: run(list(leaves)))
        gradient = compiled(high)
        leaves = [raised(x) for x in program.leaves]
        unit = max(float(jnp.finfo(x.dtype).eps) / 2 for x in program.leaves if is_float(x))

        def at(x: list[Any]) -> list[np.ndarray]:
            return [np.asarray(t) for t in gradient([raised(leaf) for leaf in x])]

        truth = at(leaves)
        moved = draws(at, leaves, truth, unit, _DRAWS)
    return truth, [list(leaf) for leaf in zip(*moved, strict=True)]


def _built_manual(manual: Gradient, quick: bool) -> tuple[Built, list[Any]]:
    """The gradient with the rules, compiled, and what it gives."""
    try:
        built = build(manual, quick=quick)
        return built, built.call(manual.program.leaves)
    except Exception:
        # A backward pass that closes over what its function computes, an array of `jnp.arange`
        # say, knows it while that function is traced, and not in the program made of it.
        where_it_stands = manual.where_it_stands()
        built = build(where_it_stands, quick=quick)
        return built, built.call(manual.program.leaves)


def _site_rows(manual: Gradient) -> tuple[SiteRow, ...]:
    try:
        moved = operands_differentiated(manual.program, manual.leaves)
        return localize(manual.program.jaxpr, manual.program.leaves, moved)
    except Exception:  # of what a rule wraps; the reference of the whole program has one
        return ()


def _culprits(
    f: Function,
    args: tuple[Any, ...],
    manual: Gradient,
    every: Sequence[Site],
    site_rows: Sequence[SiteRow],
    judge: Judge,
) -> tuple[Site, ...]:
    """The sites that make the gradient wrong when they alone keep their rule.

    Those whose own error is too large are tried first. Where none is guilty, or no error could be
    measured, every rule is tried, and then each of its sites.
    """

    def wrong_with(site: Site) -> bool:
        taken_out = Rewriting(lambda other: other.position != site.position)
        jaxpr = taken_out.closed(manual.program.jaxpr)
        program = dataclasses.replace(manual.program, jaxpr=jaxpr)
        with contextlib.suppress(Exception):  # a site that cannot be moved into a program
            return judge.rejects(Gradient.of(program, manual.leaves))
        return False

    suspects = [row.site for row in site_rows if row.verdict == "WRONG"]
    guilty = tuple(site for site in suspects if wrong_with(site))
    if guilty:
        return guilty
    for name in dict.fromkeys(site.name for site in every):
        alone = take_out(f, args, {}, Removal(exclude=frozenset({name})))[0]
        if _rejected(judge, Gradient.of(alone, manual.leaves)):
            named = tuple(site for site in every if site.name == name)
            # A forward pass that computes another value is wrong at each site alike.
            guilty += tuple(filter(wrong_with, named)) or named
    return guilty


def _rejected(judge: Judge, gradient: Gradient) -> bool:
    try:
        return judge.rejects(gradient)
    except Exception:  # as in `_built_manual`
        return judge.rejects(gradient.where_it_stands())


def _costs(
    built: dict[str, Built], cost: bool, pairs: int
) -> tuple[tuple[Arm, ...], Timing | None]:
    """The rows of the arms, and the paired times of the two that every comparison has."""
    notes = dict.fromkeys(built, "")
    if cost:
        checkpointed, where = build_checkpointed(built["automatic"].gradient)
        notes["checkpointed"] = where
        built = built if checkpointed is None else {**built, "checkpointed": checkpointed}
    seconds: dict[str, list[float]] = {}
    if pairs:
        leaves = built["automatic"].gradient.program.leaves
        seconds = time_in_turn({n: b.call for n, b in built.items()}, leaves, rounds=pairs)
    arms = []
    for name in ("automatic", "checkpointed", "manual") if cost else ():
        note = filter(None, [notes[name]])
        arm = measure(name, built[name], *note) if name in built else Arm(name, note=notes[name])
        arms.append(arm.timed(seconds[name]) if name in seconds else arm)
    timing = Timing.of(seconds["manual"], seconds["automatic"]) if seconds else None
    return tuple(arms), timing
