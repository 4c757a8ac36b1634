"""Check 6, transforms: the gradient under each transformation is the plain one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation, in_float64
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.case.representatives import shown_elsewhere, stands_for_its_rule
from funcnn.gradient.checks.registered import registered
from funcnn.gradient.checks.transformed import (
    Draws,
    Function,
    Pull,
    Variant,
    attempt,
    axis_names,
    on_one_device,
    on_two_devices,
)
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import perturbed
from funcnn.gradient.program.loops import Ending
from funcnn.gradient.program.without_rules import with_twins
from funcnn.gradient.truth.appeal import SOLVED, Appeal
from funcnn.gradient.verdict.judge import allowed_in_algebra, judge_algebra, relative_error
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike

_SCALES = (1.0, 0.75, 1.25)  # of the draws: exact, and zeros, signs, infinities and ties stay
_REFUSAL = "manual axis types do not match"


@registered("full", order=2)
def transforms(situation: Situation) -> Iterator[Result]:
    """The gradient in other ways, in float64, leaf by leaf: batched programs against a loop.

    Ways: eager, grad of jit, two checkpoint policies, cond, each argument alone, vmap of grad and
    grad of vmap over each argument alone, all and the cotangents, vmap of vmap, scan, and
    shard_map on two devices. A way in which the rule raises is a failure, unless the function
    without rules raises there, too. It is shown on two unlike cases of a rule.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> one = Situation.of_rule(rules.tanh, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> {result.verdict for result in transforms(one)} <= {"pass", "skip"}
    True
    """
    why = "no floating-point argument" if not situation.leaves else shown_elsewhere(situation)
    if why:
        yield situation.result("transforms", "", "skip", why)
    else:
        yield from _transforms(situation)


@in_float64
def _transforms(situation: Situation) -> Iterator[Result]:
    subject, leaves = situation.subject("float64"), situation.leaves
    dys = [dys for _, dys in cotangents_of(subject, situation.seed)][: len(_SCALES)]
    if not dys[0]:
        yield situation.result("transforms", "", "skip", "no floating-point output")
        return
    drawn = [tuple(leaf * leaf.dtype.type(s) for leaf in subject.x) for s in _SCALES]
    loop = _Loop(subject, drawn, dys)
    draws = loop.draws
    yield from _other_values(situation, loop)
    if stands_for_its_rule(situation):
        yield from _eager(situation, draws, loop)
    yield from _compare(situation, list(on_one_device(leaves, len(drawn))), draws, loop)
    if jax.device_count() < 2:
        note = "shard_map needs two devices; this process has one"
        yield situation.result("transforms", "", "skip", note)
        return
    rule = situation.rule
    for axis in axis_names(*((rule.forward, rule.backward) if rule else (situation.manual,))):
        yield from _compare(situation, list(on_two_devices(leaves, axis)), draws, loop)


def _stacked(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _stopped(loop: _Loop, actual: ArrayLike, expected: ArrayLike) -> str:
    if not loop.subject.has_loop or relative_error(actual, expected) > SOLVED:
        return ""
    return "a loop stops at a tolerance"


def _no_truth(loop: _Loop, i: int, actual: ArrayLike, expected: ArrayLike) -> str:
    """Why autodiff of the reference says nothing at the other values, or ""."""
    manual, truth = np.asarray(actual), np.asarray(expected)
    allowed, (x, w) = allowed_in_algebra(truth), (loop.drawn[1], loop.dys[1])
    excused = Appeal(loop.subject, x, w, i, manual, truth, allowed).verdict()
    return excused[1] if excused else ""


def _of_jax(loop: _Loop, variant: Variant, i: int) -> str:
    """Whether right rules in the place of these fare no better: JAX itself is to blame.

    A custom_vjp whose output vmap leaves unbatched is counted batch-size times by JAX 0.10.
    """
    twins = _twins(loop)
    if twins is None:
        return ""
    try:
        actual = compiled(lambda draws: variant.gradient(twins, draws))(loop.draws)[i]
    except Exception as error:
        return f"JAX {jax.__version__} refuses any custom rule here ({first_line(error)})"
    expected = variant.expected(loop.automatic)[i]
    if judge_algebra(actual, expected, [])[0] != "fail":
        return ""
    return (
        f"the fault is JAX {jax.__version__}'s, not the rule's: a custom_vjp that returns "
        "autodiff's own gradient comes out the same here"
    )


def _twins(loop: _Loop) -> Function | None:
    """The function with right rules in the places of its own; None where they are not right."""
    twins, (x, dys) = with_twins(loop.subject.manual), loop.draws.first()
    try:
        actual = compiled(lambda x, dys: jax.vjp(lambda *x: twins(*x), *x)[1](dys))(x, dys)
    except Exception:  # what has no derivative without its rule has no twin either
        return None
    truth = loop.automatic((0,) * len(x), 0)
    right = all(judge_algebra(m, t, [])[0] != "fail" for m, t in zip(actual, truth, strict=True))
    return twins if right else None


class _Loop:
    """Plain pullbacks at the draws, each computed once: what a batched program must equal."""

    def __init__(self, subject: Subject, drawn: Sequence[Any], dys: Sequence[Any]):
        self.subject, self.drawn, self.dys = subject, drawn, dys
        self.draws = Draws(_stacked(drawn), _stacked(dys), np.bool_(True))

    @functools.cached_property
    def manual(self) -> Pull:
        return self._pull(self.subject.pull_manual, self.drawn)

    @functools.cached_property
    def automatic(self) -> Pull:
        return self._pull(self.subject.pull_automatic, self.drawn)

    def moved(self, pull: Pull) -> list[Pull]:
        """The same at draws that were changed in the last place: the noise floor."""
        if self.subject.kinks:
            return []
        automatic = pull is self.automatic
        compiled = self.subject.pull_automatic if automatic else self.subject.pull_manual
        u = float(jnp.finfo(jnp.float64).eps) / 2
        changed = [[tuple(perturbed(x, u, seed)) for x in self.drawn] for seed in range(2)]
        return [self._pull(compiled, drawn) for drawn in changed]

    def sizes(self, pull: Pull) -> list[float]:
        """The norm of the largest plain gradient of each leaf."""
        rows = [pull((0,) * len(self.drawn[0]), d) for d in range(len(self.dys))]
        return [max(float(np.linalg.norm(g)) for g in column) for column in zip(*rows, strict=True)]

    def _pull(self, compiled: Ending, drawn: Sequence[Any]) -> Pull:
        @functools.cache
        def pull(picks: tuple[int, ...], d: int) -> list[Any]:
            x = tuple(drawn[b][i] for i, b in enumerate(picks))
            return [np.asarray(g) for g in compiled(x, self.dys[d])[1]]

        return pull


def _other_values(situation: Situation, loop: _Loop) -> Iterator[Result]:
    """Where a rule has kept the numbers of one call, the loop itself is wrong at others."""
    if situation.case.intent != "derivative":
        return
    picks = (1,) * len(situation.leaves)
    variant = Variant("other values", lambda f, draws: [], lambda pull: pull(picks, 1))
    yield from _judged(situation, variant, loop.manual(picks, 1), loop, loop.automatic)


def _eager(situation: Situation, draws: Draws, loop: _Loop) -> Iterator[Result]:
    picks = (0,) * len(situation.leaves)
    variant = Variant("eager", _pull_eagerly, lambda pull: pull(picks, 0))
    try:
        gradient = variant.gradient(loop.subject.manual, draws)
    except Exception as error:
        yield _raised(situation, variant, error, loop, draws)
        return
    yield from _judged(situation, variant, gradient, loop, loop.manual)


def _pull_eagerly(f: Function, draws: Draws) -> list[Any]:
    x, dys = draws.first()
    return list(jax.vjp(f, *x)[1](dys))


def _compare(
    situation: Situation, variants: list[Variant], draws: Draws, loop: _Loop
) -> Iterator[Result]:
    if situation.case.intent != "derivative":
        variants = [v for v in variants if not v.sums]
    attempted = attempt(variants, loop.subject.manual, draws)
    for variant in variants:
        gradient = attempted[variant.name]
        if isinstance(gradient, Exception):
            yield _raised(situation, variant, gradient, loop, draws)
        else:
            yield from _judged(situation, variant, gradient, loop, loop.manual)


def _raised(
    situation: Situation, variant: Variant, error: Exception, loop: _Loop, draws: Draws
) -> Result:
    """A failure, unless JAX says what the rule must do, or the function itself raises as well."""
    verdict, note = "fail", first_line(error)
    if _REFUSAL in str(error):
        verdict, note = "skip", "JAX refuses a cotangent that is not summed over the mesh axis"
    else:
        try:
            jax.eval_shape(lambda d: variant.gradient(loop.subject.automatic, d), draws)
        except Exception as automatic:
            verdict, note = "skip", f"raises without the rule, too: {first_line(automatic)}"
        else:
            twins = _twins(loop)
            try:
                if twins is not None:
                    jax.eval_shape(lambda d: variant.gradient(twins, d), draws)
            except Exception:
                verdict = "inconclusive"
                note = f"JAX {jax.__version__} refuses any custom rule here: {note}"
    return situation.result("transforms", "", verdict, f"{variant.name}: {note}")


def _judged(
    situation: Situation, variant: Variant, gradient: Sequence[Any], loop: _Loop, pull: Pull
) -> Iterator[Result]:
    expected, sizes = variant.expected(pull), loop.sizes(pull)
    for i, leaf in enumerate(situation.leaves):
        verdict, note = judge_algebra(gradient[i], expected[i], [], sizes[i])
        if verdict == "fail":  # only now is the noise floor worth its price
            moved = [variant.expected(p)[i] for p in loop.moved(pull)]
            verdict, note = judge_algebra(gradient[i], expected[i], moved, sizes[i])
        if verdict == "fail":
            stopped = _stopped(loop, gradient[i], expected[i])
            plain = pull is loop.automatic  # no transformation: it is the truth that differs
            if plain:
                stopped = stopped or _no_truth(loop, i, gradient[i], expected[i])
            if excuse := stopped or ("" if plain else _of_jax(loop, variant, i)):
                verdict, note = "inconclusive" if stopped else "note", f"{excuse}: {note}"
        yield situation.result("transforms", leaf, verdict, f"{variant.name}: {note}")
