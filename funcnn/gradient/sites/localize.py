"""Which rule spoils a gradient: at each site, its own error and the error that it inherits.

Inherited is the error of the cotangent that arrives there in the manual gradient. Contributed is
what the site's rule makes of the true cotangent at the true operands, so that one wrong rule does
not put the blame on those before it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import evaluate_raised, raised
from funcnn.gradient.program.perturbations import Tap, Zeros, reach, tapped
from funcnn.gradient.program.rewriting import Rewriting, sites
from funcnn.gradient.program.sites import Site
from funcnn.gradient.sites.shaken import rms, shake, smooth_elements
from funcnn.gradient.sites.site_error import Arms, evaluate_sites, questioned
from funcnn.gradient.sites.site_verdict import judge_site, moved_floats, only
from funcnn.gradient.verdict.judge import Row, relative_error
from funcnn.types import Array, ArrayLike, ClosedJaxpr, Equation

# Bytes of what flows through the sites in loops that are looked at, in all steps and in float64; at
# the peak there are about a dozen copies of it.
_MOST = 2**26
# The operands of each site, by its number.
Operands = dict[int, list[Any]]
# The arrays of one site after another.
AtSites = list[list[Any]]


@dataclasses.dataclass(frozen=True)
class SiteRow:
    """The error of one site; in units of the last place (ulps), NaN where it was not measured.

    Attributes:
        site: where a rule is called.
        contributed: of what its rule makes of the true cotangent at the true operands; the worst
            of its operands, and of its value.
        inherited: of the cotangent that arrives there in the manual gradient.
        floor: the noise floor of what it contributes.
        verdict: as for a leaf: "MANUAL", "AUTO", "TIE", "WRONG" or "INCONCLUSIVE".
        note: what is wrong, or why nothing can be said.
    """

    site: Site
    contributed: float
    inherited: float
    floor: float
    verdict: str
    note: str = ""


def localize(
    program: ClosedJaxpr,
    leaves: Sequence[ArrayLike],
    moved: Callable[[Equation], set[int] | None] = lambda eqn: None,
) -> tuple[SiteRow, ...]:
    """A row for each outermost site of a program, in its order.

    Truth is the derivative of what the rule wraps; for a rule of funcnn this is the value of its
    forward pass, which may take another side than the rule at a kink or tie: the elements that
    stand on one are left out and counted. A rule inside another is part of that other. Of the sites
    in loops, all steps of which are held at once, the largest are not looked into where they would
    take more than about a gigabyte.

    Args:
        program: a closed jaxpr with its rules, whose first output is a floating-point scalar.
        leaves: its inputs.
        moved: which operands of a site are differentiated, see `operands_differentiated`.

    Raises:
        NoTruth: the program without its rules cannot be raised to float64.

    >>> wrong = jax.custom_vjp(jnp.sin)
    >>> wrong.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (2 * dy * jnp.cos(x),))
    >>> x = jnp.ones(3)
    >>> row, = localize(jax.make_jaxpr(lambda x: wrong(x).sum())(x), [x])
    >>> row.verdict, row.inherited, row.note
    ('WRONG', 0.0, 'operand 0: manual = 2 x truth; worst at [0]: manual 1.0806, automatic ...)
    """
    every = sites(program)
    nested = {(*s.position, "call") for s in every}
    outermost = [s for s in every if not any(s.position[: len(p)] == p for p in nested)]
    taps, large = _within(_MOST, reach(program, outermost))
    rows: dict[Any, SiteRow] = {tap.site.position: _too_large(tap) for tap in large}
    if taps:
        arrived, true, shaken, operands = _flow(program, list(leaves), taps)
        local = evaluate_sites(taps, operands, true)
        asked = [moved(tap.eqn) for tap in taps]
        each = zip(taps, arrived, true, shaken, local, operands, asked, strict=True)
        rows |= {of_site[0].site.position: _row(*of_site) for of_site in each}
    return tuple(rows.get(s.position) or _not_seen(s) for s in outermost)


def known_sites(rows: Sequence[SiteRow]) -> list[Site]:
    """The sites whose rule was judged by itself.

    >>> known_sites([SiteRow(Site((0,), "f", "", "", ""), 0.0, 0.0, 0.0, "INCONCLUSIVE")])
    []
    """
    return [row.site for row in rows if row.verdict != "INCONCLUSIVE"]


def _not_seen(site: Site) -> SiteRow:
    why = "inside a loop or branch that is not looked into"
    return SiteRow(site, math.nan, math.nan, math.nan, "INCONCLUSIVE", why)


def _within(most: int, taps: Sequence[Tap]) -> tuple[list[Tap], list[Tap]]:
    """The taps that are looked at, and those in loops for which there are too many bytes."""
    in_loops = sorted((tap for tap in taps if tap.lengths), key=_bytes)
    held = itertools.accumulate(map(_bytes, in_loops))
    large = {tap.site.position for tap, upto in zip(in_loops, held, strict=True) if upto > most}
    parts = ([], [])
    for tap in taps:
        parts[tap.site.position in large].append(tap)
    return parts


def _bytes(tap: Tap) -> int:
    """Of the operands and results of a site in float64, in all steps of the loops around it."""
    return 8 * math.prod(tap.lengths) * sum(aval.size for aval in (*tap.operands, *tap.outputs))


def _too_large(tap: Tap) -> SiteRow:
    size, steps = _bytes(tap) / 1e9, math.prod(tap.lengths)
    why = f"not looked into: {size:.2g} GB of operands and results in {steps} steps"
    return SiteRow(tap.site, math.nan, math.nan, math.nan, "INCONCLUSIVE", why)


def _flow(
    program: ClosedJaxpr, leaves: list[ArrayLike], taps: Sequence[Tap]
) -> tuple[AtSites, AtSites, AtSites, AtSites]:
    """At each site: the cotangents that arrive, the true ones, these shaken, the true operands."""
    zeros = {i: tap.zeros for i, tap in enumerate(taps)}
    with_taps, shapes = jax.make_jaxpr(tapped(program, taps), return_shape=True)(leaves, zeros)
    stripped = Rewriting(lambda site: True).closed(with_taps)
    tree = jax.tree.structure(shapes)

    def gradient(
        evaluate: Callable[[list[Any]], list[Any]], leaves: list[Any], zeros: Zeros
    ) -> tuple[Zeros, Operands]:
        def scalar(zeros: Zeros) -> tuple[Array, Operands]:
            flat = evaluate([*leaves, *jax.tree.leaves(zeros)])
            outs, seen = jax.tree.unflatten(tree, flat)
            return outs[0], seen

        return jax.grad(scalar, has_aux=True)(zeros)

    manual = jex.jaxpr_as_fun(with_taps)
    arrived, _ = compiled(lambda *a: gradient(lambda flat: manual(*flat), *a))(leaves, zeros)
    with jax.enable_x64(True):
        exact = compiled(lambda *a: gradient(lambda flat: evaluate_raised(stripped, flat), *a))
        high = jax.tree.map(raised, (leaves, zeros))
        true, operands = exact(*high)
        shakes = {i: shake(high[1][i], i, rms(operands[i])) for i in range(len(taps))}
        shaken, _ = exact(high[0], shakes)
    in_order = [[each[i] for i in range(len(taps))] for each in (arrived, true, shaken, operands)]
    return in_order[0], in_order[1], in_order[2], in_order[3]


def _row(
    tap: Tap,
    arrived: Sequence[Array],
    true: Sequence[Array],
    shaken: Sequence[Array],
    local: Arms,
    operands: Sequence[Any],
    moved: set[int] | None,
) -> SiteRow:
    """The worst of a site's operands and values."""
    inherited = [_ulps(*each) for each in zip(arrived, true, shaken, strict=True)]
    error = max((e for e in inherited if not math.isnan(e)), default=math.nan)
    chosen = moved_floats(tap.eqn, moved)
    if chosen == []:
        why = "no leaf that is differentiated goes through it"
        return SiteRow(tap.site, math.nan, error, math.nan, "INCONCLUSIVE", why)
    worst, note = judge_site(local, None, chosen)
    if worst is not None and worst.verdict == "WRONG":
        worst, note = _questioned(tap, local, operands, true, chosen)
    if worst is None:
        return SiteRow(tap.site, math.nan, error, math.nan, "INCONCLUSIVE", note)
    return SiteRow(tap.site, worst.manual, error, worst.floor, worst.verdict, note)


def _questioned(
    tap: Tap,
    local: Arms,
    operands: Sequence[Any],
    true: Sequence[Any],
    chosen: Sequence[int] | None,
) -> tuple[Row | None, str]:
    """The verdict after an appeal; of a site inside loops, in the step that is the worst."""
    if tap.lengths:

        def of_steps(x: Any) -> Any:
            return x.reshape(-1, *x.shape[len(tap.lengths) :])

        operands, true = [of_steps(x) for x in operands], [of_steps(x) for x in true]
        sides = zip(local.manual, local.truth, strict=True)
        errors = sum(_of_each_step(m, t) for pair in sides for m, t in zip(*pair, strict=True))
        step = int(np.argmax(errors))
        local, operands, true = jax.tree.map(lambda x: x[step], (local, operands, true))
        tap = dataclasses.replace(tap, lengths=())
    return judge_site(local, questioned(tap, operands, true), chosen)


def _of_each_step(manual: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """The squared distance in each step."""
    distance = np.nan_to_num(np.asarray(manual, np.float64) - np.asarray(truth), nan=np.inf)
    return np.sum(np.square(distance.reshape(len(distance), -1)), axis=1)


def _ulps(arrived: Array, true: Array | np.ndarray, shaken: Array) -> float:
    """The error of a cotangent; NaN where the true one is zero everywhere or stands on kinks."""
    smooth = smooth_elements(true, shaken)
    true = only(smooth, true)
    if not np.any(true):
        return math.nan
    error = relative_error(only(smooth, arrived), true)
    return error / float(jnp.finfo(arrived.dtype).eps)
