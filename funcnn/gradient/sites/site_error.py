"""The error of a rule at one site: its own, at given operands and cotangents.

Truth is the derivative, in float64, of what the rule wraps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import evaluate_raised, is_float, perturbed, raised
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.program.perturbations import Tap
from funcnn.gradient.program.rewriting import Rewriting
from funcnn.gradient.program.sites import alone
from funcnn.gradient.sites.shaken import shake
from funcnn.gradient.truth.floor import distances, without_jumps
from funcnn.gradient.truth.rounded import Rounded, appealed
from funcnn.gradient.verdict.judge import Row
from funcnn.types import Array, Aval, ClosedJaxpr, Function

_DRAWS = 2  # of changed operands, for the noise floor


# An operand or a cotangent.
Leaf = Array | np.ndarray | np.number
# (operands, cotangents of the float results) of a site.
Inputs = tuple[list[Any], list[Any]]
# (values, cotangents of the float operands) of a site.
Side = tuple[Sequence[Any], Sequence[Any]]
# (row, operand, its cotangent by the rule, its truth) -> row.
Question = Callable[[Row, int, np.ndarray, np.ndarray], Row]


class Only(NamedTuple):
    """Which operand is differentiated alone, and which float result has a cotangent alone.

    None stands for all of them.
    """

    operand: int | None = None
    result: int | None = None


ALL = Only()


class Arms(NamedTuple):
    """What a site makes of its operands and cotangents: (values, cotangents of float operands).

    Attributes:
        manual, automatic: with the rule and without it, in the site's own precision.
        truth: without it, in float64.
        shaken: that at operands which no tie survives.
        moved: that at operands which were changed in their last place, several times.
    """

    manual: Side
    automatic: Side
    truth: Side
    shaken: Side
    moved: Sequence[Side]


def follow(tap: Tap, reference: Function) -> ClosedJaxpr:
    """A closed jaxpr with the value of a site's rule, and the derivative of another function.

    Raises:
        ValueError: the function does not return what the rule returns.
    """
    own = without_any_rule(alone(tap.eqn))
    plain = jex.jaxpr_as_fun(own)

    def run(*x: Array) -> list[Array]:
        value, followed = plain(*x), jax.tree.leaves(reference(*x))
        if [y.shape for y in value] != [np.shape(y) for y in followed]:
            raise ValueError(f"reference of {tap.site}: it returns other shapes than the rule")
        return [
            jax.lax.stop_gradient(y - z) + z if is_float(y) else y
            for y, z in zip(value, followed, strict=True)
        ]

    return jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in own.in_avals))


def evaluate_sites(
    taps: Sequence[Tap],
    operands: Sequence[Sequence[Leaf]],
    cotangents: Sequence[Sequence[Leaf]],
    true: ClosedJaxpr | None = None,
    only: Only = ALL,
) -> list[Arms]:
    """Each site's arms at the given operands and cotangents of its float results.

    Both are rounded to the site's own precision first; truth starts from the rounded numbers. With
    `true`, a closed jaxpr, that is the automatic arm and the truth of all sites. With `only`, the
    others are symbolically zero, as where a program does not use them.

    Raises:
        NoTruth: what a rule wraps cannot be raised to float64.

    >>> from funcnn.gradient.program.sites import site_of
    >>> eqn, = jax.make_jaxpr(jax.nn.relu)(1.0).eqns
    >>> tap = Tap(site_of(eqn), eqn, ())
    >>> one, = evaluate_sites([tap], [[np.float32(2)]], [[np.float32(3)]])
    >>> float(one.manual[1][0]), float(one.truth[1][0])
    (3.0, 3.0)
    """
    inputs = [_rounded(*given) for given in zip(taps, operands, cotangents, strict=True)]
    manual = [alone(tap.eqn) for tap in taps]
    automatic = [without_any_rule(one) if true is None else true for one in manual]

    def all_of(evaluators: list[Function]) -> Callable[[Any], Any]:
        return lambda inputs: [
            _over_loops(*each, only) for each in zip(taps, evaluators, inputs, strict=True)
        ]

    with jax.enable_x64(True):  # first, as it may say that there is none
        exact = compiled(all_of([lambda *x, one=one: evaluate_raised(one, x) for one in automatic]))
        truth = exact(jax.tree.map(raised, inputs))
        draws = [
            without_jumps(truth, *(exact(each) for each in _moved(taps, inputs, seed)))
            for seed in range(_DRAWS)
        ]
        high = jax.tree.map(raised, inputs)
        shaken = exact([(shake(x, 0), dys) for x, dys in high])
    arms = [all_of([jex.jaxpr_as_fun(one) for one in arm]) for arm in (manual, automatic)]
    low = compiled(lambda inputs: [arm(inputs) for arm in arms])(inputs)
    in_turn = zip(*low, truth, shaken, zip(*draws, strict=True), strict=True)
    return [Arms(m, a, t, s, moved) for m, a, t, s, moved in in_turn]


def without_any_rule(program: ClosedJaxpr, *, further: bool = False) -> ClosedJaxpr:
    """A closed jaxpr without rules, and with a reverse mode wherever JAX has a derivative.

    >>> "custom_jvp" in str(without_any_rule(jax.make_jaxpr(jax.nn.relu)(1.0)))
    False
    """
    return Rewriting(lambda site: True, forward=True, further=further).closed(program)


def questioned(
    tap: Tap,
    given: Sequence[Leaf],
    cotangents: Sequence[Leaf],
    true: ClosedJaxpr | None = None,
) -> Question:
    """`(row, operand, its cotangent by the rule, its truth) -> row` after an appeal: see `Appeal`.

    Args:
        tap: a site outside of loops.
        given: its operands.
        cotangents: of its floating-point results.
    """
    floats = [i for i, aval in enumerate(tap.operands) if is_float(aval)]
    values, dys = _rounded(tap, list(given), list(cotangents))

    x64 = jax.config.read("jax_enable_x64")

    def backward() -> ClosedJaxpr:
        def pull(*args: Array) -> list[Array]:
            x, dys = args[: len(floats)], args[len(floats) :]
            given = filled(values, floats, x), list(dys)
            return list(_over_loops(tap, jex.jaxpr_as_fun(alone(tap.eqn)), given, ALL)[1])

        with jax.enable_x64(x64):
            return jax.make_jaxpr(pull)(*(values[i] for i in floats), *dys)

    @functools.cache
    def subject() -> Subject:
        high = [raised(v) for v in values]

        def of_floats(further: bool) -> Callable[..., list[Array]]:
            own = without_any_rule(alone(tap.eqn), further=further)
            program = own if true is None else true

            def run(*x: Leaf) -> list[Array]:
                y = evaluate_raised(program, filled(high, floats, x))
                return [v for v in y if is_float(v)]

            return run

        x = tuple(np.asarray(high[i]) for i in floats)
        names = tuple(f"operand {i}" for i in range(len(floats)))
        further, plain = of_floats(True), of_floats(False)
        return Subject(names, x, list, plain, False, further=further, backward=backward)

    def question(row: Row, i: int, manual: np.ndarray, truth: np.ndarray) -> Row:
        with jax.enable_x64(True):
            one = subject()
            w = [np.asarray(dy, np.float64) for dy in dys]
            return appealed(row, Rounded(one, one.x, w, i, np.asarray(manual), truth))

    return question


def _rounded(tap: Tap, operands: Sequence[Leaf], cotangents: Sequence[Leaf]) -> Inputs:
    """Both in the dtypes of the site."""

    def low(x: Leaf, aval: Aval) -> Leaf:
        return np.asarray(x).astype(aval.dtype) if is_float(aval) else x

    return (
        [low(x, aval) for x, aval in zip(operands, tap.operands, strict=True)],
        [low(dy, aval) for dy, aval in zip(cotangents, tap.outputs, strict=True)],
    )


def _moved(
    taps: Sequence[Tap], inputs: Sequence[Inputs], seed: int
) -> tuple[list[Inputs], list[Inputs]]:
    """The operands, raised to float64, changed by those distances of their own dtype."""
    moved: tuple[list[Inputs], list[Inputs]] = [], []
    for tap, (operands, dys) in zip(taps, inputs, strict=True):
        floats = [aval.dtype for aval in tap.operands if is_float(aval)]
        unit = max((float(jnp.finfo(d).eps) / 2 for d in floats), default=0.0)
        high, high_dys = [raised(x) for x in operands], [raised(dy) for dy in dys]
        for each, distance in zip(moved, distances(unit), strict=True):
            changed = perturbed(high, distance, seed)
            each.append(([raised(x) for x in changed], high_dys))
    return moved


def _over_loops(tap: Tap, evaluate: Function, given: Inputs, only: Only) -> Side:
    """(values, cotangents of the float operands), one step of the scans around it after another."""
    chosen = [i for i, aval in enumerate(tap.operands) if is_float(aval)]
    chosen = chosen if only.operand is None else [only.operand]
    results = slice(None) if only.result is None else slice(only.result, only.result + 1)

    def one(given: Inputs) -> Side:
        operands, dys = given

        def values(*floats: Array) -> list[Array]:
            outs = evaluate(*filled(operands, chosen, floats))
            return [y for y in outs if is_float(y)][results]

        y, pull = jax.vjp(values, *(operands[i] for i in chosen))
        return y, pull(list(dys)[results])

    if not tap.lengths:
        return one(given)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(tap.lengths) :]), given)
    return jax.lax.map(one, flat)
