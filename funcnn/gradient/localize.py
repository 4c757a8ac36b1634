"""Which rule spoils a gradient: at each site, its own error and the error that it inherits.

Inherited is the error of the cotangent that arrives there in the manual gradient. Contributed is
what the site's rule makes of the true cotangent at the true operands, so that one wrong rule does
not put the blame on those before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.jaxprs import Rewriting, Site, alone, sites
from funcnn.gradient.judge import Row, judge_rounding, relative_error
from funcnn.gradient.subject import compiled
from funcnn.gradient.taps import Tap, Zeros, reach, tapped
from funcnn.gradient.truth import evaluate_raised, is_float, perturbed, raised

_DRAWS = 2  # of changed operands, for the noise floor
# Ties and kinks are broken by a shake of this relative size. An element of a derivative that moves
# by more than _JUMP of itself, and by more than ten shakes of the whole, stands on one, and any
# rule may then take either side.
_SHAKE, _JUMP = 1e-9, 1e-3


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


def localize(program: Any, leaves: Sequence[Any]) -> tuple[SiteRow, ...]:
    """A row for each outermost site of a program, in its order.

    Truth is the derivative of what the rule wraps; for a rule of funcnn this is the value of its
    forward pass, which may take another side than the rule at a kink or tie: the elements that
    stand on one are left out and counted. A rule inside another is part of that other.

    Args:
        program: a closed jaxpr with its rules, whose first output is a floating-point scalar.
        leaves: its inputs.

    Raises:
        NoTruth: the program without its rules cannot be raised to float64.

    >>> wrong = jax.custom_vjp(jnp.sin)
    >>> wrong.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (2 * dy * jnp.cos(x),))
    >>> x = jnp.ones(3)
    >>> row, = localize(jax.make_jaxpr(lambda x: wrong(x).sum())(x), [x])
    >>> row.verdict, row.inherited, row.note
    ('WRONG', 0.0, 'operand 0: manual = 2 x truth; worst at [0]: manual 1.0806, automatic ...)
    """
    found = sites(program)
    nested = {(*s.position, "call") for s in found}
    outermost = [s for s in found if not any(s.position[: len(p)] == p for p in nested)]
    taps = reach(program, outermost)
    rows: dict[Any, SiteRow] = {}
    if taps:
        arrived, true, shaken, operands = _flow(program, list(leaves), taps)
        local = _each_site(taps, operands, true)
        each = zip(taps, arrived, true, shaken, local, strict=True)
        rows = {tap.site.position: _row(tap, *parts) for tap, *parts in each}
    return tuple(rows.get(s.position) or _not_seen(s) for s in outermost)


def _not_seen(site: Site) -> SiteRow:
    why = "inside a loop or branch that is not looked into"
    return SiteRow(site, math.nan, math.nan, math.nan, "INCONCLUSIVE", why)


def _flow(program: Any, leaves: list[Any], taps: Sequence[Tap]) -> tuple[Any, Any, Any, Any]:
    """At each site: the cotangents that arrive, the true ones, these shaken, the true operands."""
    zeros = {i: tap.zeros for i, tap in enumerate(taps)}
    with_taps, shapes = jax.make_jaxpr(tapped(program, taps), return_shape=True)(leaves, zeros)
    stripped = Rewriting(lambda site: True).closed(with_taps)
    tree = jax.tree.structure(shapes)

    def gradient(evaluate: Any, leaves: list[Any], zeros: Zeros) -> Any:
        def scalar(zeros: Zeros) -> Any:
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
        shakes = {i: _shaken(high[1][i], i, _rms(operands[i])) for i in range(len(taps))}
        shaken, _ = exact(high[0], shakes)
    in_order = [[each[i] for i in range(len(taps))] for each in (arrived, true, shaken, operands)]
    return in_order[0], in_order[1], in_order[2], in_order[3]


def _each_site(taps: Sequence[Tap], operands: Any, true: Any) -> list[Any]:
    """(manual, automatic, truth, shaken, moved) of each site, at the true operands and cotangents.

    Both are rounded to the site's own precision first; truth starts from the rounded numbers.
    """
    inputs = [_rounded(*given) for given in zip(taps, operands, true, strict=True)]
    manual = [alone(tap.eqn) for tap in taps]
    automatic = [Rewriting(lambda site: True).closed(one) for one in manual]

    def all_of(evaluators: list[Any]) -> Callable[[Any], Any]:
        return lambda inputs: [
            _over_loops(*each) for each in zip(taps, evaluators, inputs, strict=True)
        ]

    arms = [all_of([jex.jaxpr_as_fun(one) for one in arm]) for arm in (manual, automatic)]
    low = compiled(lambda inputs: [arm(inputs) for arm in arms])(inputs)
    with jax.enable_x64(True):
        exact = compiled(all_of([lambda *x, one=one: evaluate_raised(one, x) for one in automatic]))
        truth = exact(jax.tree.map(raised, inputs))
        draws = [exact(_moved(taps, inputs, seed)) for seed in range(_DRAWS)]
        high = jax.tree.map(raised, inputs)
        shaken = exact([(_shaken(x, 0), dys) for x, dys in high])
    return list(zip(*low, truth, shaken, zip(*draws, strict=True), strict=True))


def _rounded(tap: Tap, operands: list[Any], cotangents: list[Any]) -> tuple[Any, Any]:
    """Both in the dtypes of the site."""

    def low(x: Any, aval: Any) -> Any:
        return np.asarray(x).astype(aval.dtype) if is_float(aval) else x

    return (
        [low(x, aval) for x, aval in zip(operands, tap.operands, strict=True)],
        [low(dy, aval) for dy, aval in zip(cotangents, tap.outputs, strict=True)],
    )


def _moved(taps: Sequence[Tap], inputs: Any, seed: int) -> Any:
    """The operands, raised to float64, changed in the last place of their own dtype."""
    out = []
    for tap, (operands, dys) in zip(taps, inputs, strict=True):
        floats = [aval.dtype for aval in tap.operands if is_float(aval)]
        unit = max((float(jnp.finfo(d).eps) / 2 for d in floats), default=0.0)
        changed = perturbed([raised(x) for x in operands], unit, seed)
        out.append(([raised(x) for x in changed], [raised(dy) for dy in dys]))
    return out


def _over_loops(tap: Tap, evaluate: Any, given: tuple[list[Any], list[Any]]) -> Any:
    """(values, cotangents of the float operands), one step of the scans around it after another."""
    chosen = [i for i, aval in enumerate(tap.operands) if is_float(aval)]

    def one(given: tuple[list[Any], list[Any]]) -> Any:
        operands, dys = given

        def values(*floats: Any) -> list[Any]:
            filled = list(operands)
            for i, value in zip(chosen, floats, strict=True):
                filled[i] = value
            return [y for y in evaluate(*filled) if is_float(y)]

        y, pull = jax.vjp(values, *(operands[i] for i in chosen))
        return y, pull(list(dys))

    if not tap.lengths:
        return one(given)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(tap.lengths) :]), given)
    return jax.lax.map(one, flat)


def _rms(leaves: list[Any]) -> float:
    squares = [np.mean(np.square(x)) for x in leaves if is_float(x) and x.size]
    return math.sqrt(float(np.mean(squares))) if any(squares) else 1.0


def _shaken(leaves: list[Any], seed: int, size: float | None = None) -> list[Any]:
    """Float64 leaves with noise of their own size, or of a given one, which no tie survives."""
    random = np.random.default_rng(seed)
    scales = [_SHAKE * (_rms([x]) if size is None else size) for x in leaves]
    return [
        raised(np.asarray(x) + scale * random.normal(size=x.shape)) if is_float(x) else x
        for x, scale in zip(leaves, scales, strict=True)
    ]


def _smooth(truth: Any, shaken: Any) -> np.ndarray:
    """Where a derivative does not jump under a shake."""
    truth, shaken = np.asarray(truth), np.asarray(shaken)
    by = np.abs(shaken - truth)
    itself = _JUMP * np.maximum(np.abs(truth), np.abs(shaken))
    return ~((by > itself) & (by > 10 * _SHAKE * _rms([truth])))  # NaN is no jump


def _only(smooth: np.ndarray, x: Any) -> np.ndarray:
    """x with zeros where it stands on a kink: they add nothing to any error."""
    kept = np.array(x)
    kept[~smooth] = 0
    return kept


def _row(tap: Tap, arrived: Any, true: Any, shaken: Any, local: Any) -> SiteRow:
    """The worst of a site's operands and values."""
    inherited = [_ulps(*each) for each in zip(arrived, true, shaken, strict=True)]
    error = max((e for e in inherited if not math.isnan(e)), default=math.nan)
    judged, left_out = _judged(*local)
    rows = [row for row in judged if row.verdict != "INCONCLUSIVE"]
    wrong = [row for row in rows if row.verdict == "WRONG"]
    kinks = f"{left_out} elements stand on a kink or tie and are left out" if left_out else ""
    if not wrong and not any(row.leaf.startswith("operand") for row in rows):
        why = kinks or "the true cotangents are zero everywhere, or not finite"
        return SiteRow(tap.site, math.nan, error, math.nan, "INCONCLUSIVE", why)
    worst = max(wrong or rows, key=lambda row: row.manual)
    what = f"{worst.leaf}: {worst.note}" if worst.note else ""
    note = "; ".join(filter(None, [what, kinks]))
    return SiteRow(tap.site, worst.manual, error, worst.floor, worst.verdict, note)


def _judged(
    manual: Any, automatic: Any, truth: Any, shaken: Any, moved: Any
) -> tuple[list[Row], int]:
    """A row for each value of a site and each cotangent, and how many elements stand on kinks."""
    rows: list[Row] = []
    left_out = 0
    for part, name in enumerate(("value", "operand")):
        for i, t in enumerate(truth[part]):
            if np.size(t):
                is_value = name == "value"  # values do not jump where their derivatives do
                smooth = np.ones(t.shape, bool) if is_value else _smooth(t, shaken[part][i])
                left_out += int(np.sum(~smooth))
                arms = [_only(smooth, arm[part][i]) for arm in (manual, automatic, truth)]
                draws = [_only(smooth, draw[part][i]) for draw in moved]
                rows.append(judge_rounding(f"{name} {i}", arms[0], arms[1], arms[2], draws))
    return rows, left_out


def _ulps(arrived: Any, true: Any, shaken: Any) -> float:
    """The error of a cotangent; NaN where the true one is zero everywhere or stands on kinks."""
    smooth = _smooth(true, shaken)
    true = _only(smooth, true)
    if not np.any(true):
        return math.nan
    error = relative_error(_only(smooth, arrived), true)
    return error / float(jnp.finfo(arrived.dtype).eps)
