"""A function that calls no hand-written rule: JAX's own derivative against float64 truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cotangents, is_array_of_floats
from funcnn.gradient.checks.finite_differences import NAME as DIFFERENCES
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.float64 import is_float, perturbed, raise_function, raised
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.program.without_rules import trace
from funcnn.gradient.truth.oracle import Oracle
from funcnn.gradient.truth.rounded import Rounded
from funcnn.gradient.verdict.judge import ZERO
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike, Function, Verdict

_SINGLE = 16  # cotangents of one output element alone
_DRAWS = 2
_FACTOR = 8.0
_CANCELLED = 1e-15  # of the largest truth

Judged = tuple[Verdict | Literal["zero"], str]  # verdict and note


def native(situation: Situation, names: Sequence[str] | None = None) -> Iterator[Result]:
    """The automatic derivative of a function in its own dtypes, leaf by leaf, and its truth.

    The truth is the traced program raised to float64, at the numbers that the arguments hold; it
    is itself held against finite differences in float64. Two bounds, with the noise floor K (what
    the truth does when the arguments change in their last place) and u, half an ulp of 1:

    - for cotangents of all outputs, ||g - t|| <= 8 (K + u) ||t||: no reverse pass is better than
      its inputs by more than the factor that its own few roundings cost; what rounding errors upon
      every number on the way do to the truth is added where that is more;
    - for cotangents of one output alone, ||g - t|| <= (8 K + sqrt(u)) ||t||: an element that the
      others outweigh may lose digits, but not more than half of them.

    Args:
        situation: of a function, see `Situation.of_function`.
        names: the leaves to judge, by default all.

    >>> from funcnn.core.registry import Case
    >>> def judged(x):
    ...     one = Situation.of_function(jax.nn.log_softmax, Case("one", (jnp.array(x),)), "f")
    ...     return [(result.check, result.verdict) for result in native(one)]
    >>> judged([0.5, 0.0])
    [('truth', 'pass'), ('finite differences', 'pass')]
    >>> judged([30.0, 0.0])
    [('truth', 'fail'), ('finite differences', 'pass')]
    """
    judged = [n for n in situation.leaves if names is None or n in names]
    refused = dict(_without_derivative(situation))
    for leaf in filter(refused.__contains__, judged):
        note = f"not differentiable with respect to {leaf}: {refused[leaf]}"
        yield situation.result("truth", leaf, "inconclusive", note)
    kept = [leaf for leaf in situation.leaves if leaf not in refused]
    if not kept:
        return
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            verdicts = _verdicts(situation, kept)
    except Exception as error:  # NoTruth, or what the compiler says of a program in float64
        for leaf in filter(kept.__contains__, judged):
            note = f"no float64 truth: {first_line(error)}"
            yield situation.result("truth", leaf, "inconclusive", note)
        return
    for check, of_leaves in verdicts.items():
        for leaf, (verdict, note) in zip(kept, of_leaves, strict=True):
            if leaf in judged:
                zero = verdict == "zero"
                yield situation.result(check, leaf, "pass" if zero else verdict, note, zero=zero)


def _without_derivative(situation: Situation) -> Iterator[tuple[str, str]]:
    """The leaves by which JAX cannot differentiate the function, and what it says."""
    subject = situation.subject()

    def refusal(chosen: list[int]) -> str:
        def of_chosen(*inner: ArrayLike) -> list[Any]:
            return subject.manual(*filled(subject.x, chosen, inner))

        def pull(*inner: ArrayLike) -> tuple[Any, ...]:
            y, transposed = jax.vjp(of_chosen, *inner)
            return transposed(y)

        try:
            jax.eval_shape(pull, *(subject.x[i] for i in chosen))
        except Exception as error:
            return first_line(error)
        return ""

    if refusal(list(range(len(subject.x)))):
        alone = ((leaf, refusal([i])) for i, leaf in enumerate(situation.leaves))
        yield from ((leaf, why) for leaf, why in alone if why)


def _verdicts(situation: Situation, kept: list[str]) -> dict[str, Sequence[Judged]]:
    program = trace(situation.automatic, situation.args, {})
    floats = [i for i, leaf in enumerate(program.leaves) if is_array_of_floats(leaf)]
    places = [k for k, leaf in enumerate(situation.leaves) if leaf in kept]
    chosen = [floats[k] for k in places]
    # As JAX takes them: without x64, float64 is float32.
    whole = [np.asarray(jnp.asarray(program.leaves[i])) for i in floats]
    x = [whole[k] for k in places]
    shapes = [a for a in program.jaxpr.out_avals if is_float(a)]
    dys = _cotangents(shapes, situation.seed)
    if not dys:
        nothing: Judged = "inconclusive", "no outputs"
        return {"truth": [nothing] * len(x)}
    manual = situation.subject("float32").manual
    g = _pullbacks(_filled(lambda v: manual(*v), whole, places))(x, _stacked(dys))
    with jax.enable_x64(True):
        run, raised_leaves = raise_function(program), [raised(leaf) for leaf in program.leaves]
        f = _filled(run, raised_leaves, chosen)
        pull, high = _pullbacks(f), [leaf.astype(np.float64) for leaf in x]
        stacked = [dy.astype(np.float64) for dy in _stacked(dys)]
        t = _arrays(pull(high, stacked))
        unit = max(float(jnp.finfo(leaf.dtype).eps) / 2 for leaf in x)
        draws = [_arrays(pull(perturbed(high, unit, s), stacked)) for s in range(_DRAWS)]
        one = compiled(lambda x, dys: jax.vjp(lambda *x: f(*x), *x)[1](dys))
        differences: list[tuple[Verdict, str]] = Oracle.of(
            f, high, {"automatic": one}, situation.seed
        ).verdicts()
        alone = np.array([name.startswith("one-hot") for name, _ in dys])
        exact = _Exact(Subject(tuple(kept), tuple(high), f, f, kinks=False), stacked)
        leaves = [_Leaf(np.asarray(g[i]), t[i], [d[i] for d in draws]) for i in range(len(x))]
        judged = [_judge(leaf, alone, i, exact) for i, leaf in enumerate(leaves)]
    zeros = [verdict == "zero" for verdict, _ in judged]
    differences = [
        ("pass", ZERO) if zero and verdict == "inconclusive" else (verdict, note)
        for zero, (verdict, note) in zip(zeros, differences, strict=True)
    ]
    return {"truth": judged, DIFFERENCES: differences}


@dataclasses.dataclass(frozen=True)
class _Exact:
    """The function in float64 at the point, and the cotangents, stacked."""

    subject: Subject
    stacked: list[np.ndarray]

    def is_zero(self, leaf: _Leaf, i: int, cotangent: int) -> bool:
        """Whether the gradient of a leaf is zero but for the rounding of what cancels."""
        return self._rounded(leaf, i, cotangent).is_zero()

    def explained(self, leaf: _Leaf, i: int, cotangent: int) -> float:
        """The norm of what rounding on the way to the gradient of a leaf explains."""
        return float(np.linalg.norm(self._rounded(leaf, i, cotangent).explained))

    def _rounded(self, leaf: _Leaf, i: int, cotangent: int) -> Rounded:
        w = [dy[cotangent] for dy in self.stacked]
        manual, truth = leaf.g[cotangent], leaf.t[cotangent]
        return Rounded(self.subject, self.subject.x, w, i, manual, truth)


def _cotangents(shapes: list[Any], seed: int) -> list[tuple[str, list[np.ndarray]]]:
    """Those of every check, and single output elements: all, or some of many."""
    total = sum(int(np.prod(s.shape)) for s in shapes)
    if not total:
        return []
    drawn = [pair for pair in cotangents(shapes, seed) if pair[0] != "one-hot"]
    chosen = np.random.default_rng([seed, 2]).permutation(total)[:_SINGLE]
    ends = np.cumsum([int(np.prod(s.shape)) for s in shapes])[:-1]
    for element in sorted(chosen):
        flat = np.zeros(total)
        flat[element] = 1.0
        parts = np.split(flat, ends)
        dys = [p.reshape(s.shape).astype(s.dtype) for p, s in zip(parts, shapes, strict=True)]
        drawn.append((f"one-hot {element}", dys))
    return drawn


def _stacked(dys: list[tuple[str, list[np.ndarray]]]) -> list[np.ndarray]:
    return [np.stack(outputs) for outputs in zip(*(dy for _, dy in dys), strict=True)]


def _pullbacks(f: Function) -> Function:
    """`(x, stacked cotangents) -> stacked cotangents of x`, compiled once for all of them."""

    def pull(x: list[Any], dys: list[Any]) -> tuple[Any, ...]:
        return jax.lax.map(jax.vjp(lambda *x: f(*x), *x)[1], dys)

    return compiled(pull)


def _filled(run: Function, leaves: list[Any], chosen: list[int]) -> Callable[..., list[Any]]:
    return lambda *x: [y for y in run(filled(leaves, chosen, x)) if is_float(y)]


def _arrays(values: Iterable[Any]) -> list[np.ndarray]:
    return [np.asarray(v) for v in values]


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """The gradients of one leaf for N cotangents, (N, ...) each.

    Attributes:
        g: as JAX computes them in the leaf's own dtype.
        t: the truth.
        moved: the truth at arguments that were changed in their last place.
    """

    g: np.ndarray
    t: np.ndarray
    moved: list[np.ndarray]


def _judge(leaf: _Leaf, alone: np.ndarray, index: int, exact: _Exact) -> Judged:
    """The verdict over all cotangents; `alone` are those of one output element."""
    n = len(leaf.g)
    g, t = np.asarray(leaf.g, np.float64).reshape(n, -1), leaf.t.reshape(n, -1)
    if not t.size:
        return "zero", "no elements"
    if not np.all(np.isfinite(t)):
        return "inconclusive", "the truth is not finite"
    info = jnp.finfo(leaf.g.dtype)
    eps = float(info.eps)
    size = np.linalg.norm(t, axis=1)  # (N,)
    if not np.any(size) and not np.any(g):
        return "zero", ZERO
    # What cancels to the noise of float64, or is below the normal numbers, has no digits to lose.
    known = size > max(_CANCELLED * float(np.max(size)), float(info.smallest_normal) / eps)
    if not np.any(known):
        if exact.is_zero(leaf, index, 0):
            return "zero", "zero, within the rounding of the terms that cancel"
        if not np.any(size):
            return "fail", ZERO
        return "inconclusive", "the truth is below the normal numbers of the dtype"
    safe = np.where(known, size, 1.0)
    errors = np.where(known, np.linalg.norm(g - t, axis=1) / safe, 0.0)
    floors = (
        np.max([np.linalg.norm(d.reshape(n, -1) - t, axis=1) for d in leaf.moved], axis=0) / safe
    )
    allowed = _FACTOR * floors + np.where(alone, np.sqrt(eps / 2), _FACTOR * eps / 2)
    bad = known & ~(errors <= allowed)
    for c in map(int, np.flatnonzero(bad)):
        if exact.is_zero(leaf, index, c):
            bad[c] = known[c] = False
        elif not alone[c]:
            # Its own arithmetic, an exponential of a large number or so, may cost some digits.
            bad[c] = (
                not errors[c] <= allowed[c] + _FACTOR * exact.explained(leaf, index, c) / safe[c]
            )
    if not np.any(known):
        return "zero", "zero, within the rounding of the terms that cancel"
    if np.any(bad):
        return "fail", _told(leaf, errors, floors, bad)
    dense = float(np.max(errors[~alone], initial=0.0)) / eps
    single = float(np.max(errors[alone], initial=0.0)) / eps
    return "pass", f"autodiff {dense:.2g} ulps, of single outputs up to {single:.2g}"


def _told(leaf: _Leaf, errors: np.ndarray, floors: np.ndarray, bad: np.ndarray) -> str:
    n, eps = len(leaf.g), float(jnp.finfo(leaf.g.dtype).eps)
    g, t = np.asarray(leaf.g, np.float64).reshape(n, -1), leaf.t.reshape(n, -1)
    worst = int(np.argmax(np.where(bad, np.nan_to_num(errors, nan=np.inf), -1.0)))
    i = int(np.argmax(np.nan_to_num(np.abs(g[worst] - t[worst]), nan=np.inf)))
    place = [int(k) for k in np.unravel_index(i, leaf.g.shape[1:])]
    return (
        f"autodiff loses digits here: {errors[worst] / eps:.2g} ulps off where the arguments "
        f"explain {floors[worst] / eps:.2g}; worst at {place}: autodiff {g[worst, i]:.6g}, "
        f"truth {t[worst, i]:.6g}"
    )
