"""What is wrong with a rule: the usual mistake that explains the error of one leaf, by name."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import Subject, cotangents_of
from funcnn.gradient.diagnosis import factors, of_the_backward, of_the_paths, of_the_result
from funcnn.gradient.diagnosis.evidence import Arrays, Draw, Evidence
from funcnn.gradient.diagnosis.of_one_operation import LocalMistakes
from funcnn.gradient.diagnosis.operations import constants_of
from funcnn.gradient.verdict.results import Result
from funcnn.types import ArrayLike, PyTree

Cotangents = list[tuple[str, list[Any]]]  # of the outputs, by what they are called

_MOST_SINGLES = 64  # elements of the outputs, each with a cotangent of its own
_LARGE = 2.0**40  # far beyond any bound at which a cotangent is clipped
_LOW = frozenset({"float32", "bfloat16", "float16"})
# The others look at other arguments, where the mistake may be another one.
_AT_THESE_ARGUMENTS = frozenset(
    {"truth", "zero", "homogeneity", "rounding", "finite differences", "kink"}
)

# From the most particular to the most general: the first that explains the error is named.
_MISTAKES = (
    of_the_result.zeros,
    factors.factor,
    of_the_backward.derivative,
    of_the_backward.output,
    of_the_result.shape_of_values,
    of_the_backward.cotangent,
    of_the_result.order,
    of_the_result.places,
    of_the_backward.argument,
    of_the_backward.direction,
    of_the_backward.eps,
    of_the_paths.outputs,
    of_the_paths.operations,
    of_the_paths.independent,
    of_the_backward.value,
    of_the_result.terms,
    of_the_result.cotangent_terms,
    of_the_result.precision,
    of_the_paths.elements,
)
# These take long to be tried, and leave the gradient linear in the cotangent.
_LINEAR = frozenset({of_the_paths.outputs, of_the_paths.operations})


def diagnose(evidence: Evidence) -> str:
    """The usual mistake that explains more than 99.9 % of the error in every draw, or "".

    A pure function of NumPy arrays. A right gradient gets no diagnosis.

    >>> x = np.array([[1.0, -2.0], [0.5, 3.0]])
    >>> wrong = Draw("random 0", [x], [x.T], [x])
    >>> diagnose(Evidence(0, ("w",), (x,), [x], (wrong,)))
    'transposed'
    >>> diagnose(Evidence(0, ("w",), (x,), [x], (Draw("random 0", [x], [x], [x]),)))
    ''
    """
    if not all(np.all(np.isfinite(d.truth[evidence.leaf])) for d in evidence.draws):
        return ""
    off = _not_finite(evidence)
    if off or not any(map(evidence.is_wrong, evidence.ordinary)):
        return off or _bounded(evidence)
    bounded = _bounded(evidence)
    tried = (m for m in _MISTAKES if not bounded or m not in _LINEAR)
    with np.errstate(all="ignore"):  # a hypothesis that overflows explains nothing
        for text, prediction in itertools.chain.from_iterable(m(evidence) for m in tried):
            if evidence.explained_by(prediction):
                return text
    return bounded if "normalises" in bounded else _of_some_draws(evidence) or bounded


def _not_finite(e: Evidence) -> str:
    bad = np.zeros(e.shape, bool)
    for draw in e.ordinary:
        bad |= ~np.isfinite(draw.manual[e.leaf])
    if not bad.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f", the first at {list(first)}, where {e.name} is {e.x[e.leaf][first]:.6g}"
    return f"not finite at {bad.sum()} of {bad.size} elements{where if first else ''}"


def _of_some_draws(e: Evidence) -> str:
    """Of the cotangents that were drawn, ones are not like the others: they hide what sums to 0."""
    right = [d for d in e.ordinary if not e.is_wrong(d)]
    if [d.name for d in right] != ["ones"]:
        return ""
    sizes = [np.linalg.norm(d.truth[e.leaf]) for d in (*right, *e.ordinary)]
    # Where the gradient cancels for ones, it is right by any factor.
    return "right for a cotangent of ones, wrong for others" if sizes[0] > 1e-6 * max(sizes) else ""


def _bounded(e: Evidence) -> str:
    """The first draw and the same one enlarged: is the cotangent's size lost on the way?"""
    large = next((d for d in e.draws if d.name == "large"), None)
    if large is None or not e.ordinary:
        return ""
    small, big = e.ordinary[0].manual[e.leaf], large.manual[e.leaf]
    if np.array_equal(big, _LARGE * small):
        return ""
    if np.allclose(big, small):
        return "normalises the cotangent: its size has no effect"
    zero = next((d for d in e.draws if d.name == "zero"), None)
    if zero is not None and np.any(zero.manual[e.leaf]):
        return "not zero for a cotangent of zero: a term is not multiplied by it"
    return "not proportional to the cotangent"


def diagnose_failure(situation: Situation, result: Result) -> str:
    """The diagnosis of a failed result of a check, or "" where no usual mistake explains it.

    Takes results of the checks that look at the situation's own arguments, in float64 or in a low
    precision; what they compared is computed again.

    >>> from funcnn import rules
    >>> from funcnn.core.registry import Case
    >>> def negated(res, dy):
    ...     return (-rules.tanh.backward(res, dy)[0],)
    >>> wrong = rules.tanh.replace(backward=negated)
    >>> situation = Situation.of_rule(wrong, Case("one", (np.linspace(-1.0, 1.0, 3),)))
    >>> diagnose_failure(situation, situation.result("truth", "x", "fail"))
    'the sign is wrong (x -1)'
    """
    try:
        if result.check == "primal":
            return _diagnose_output(situation, result.leaf)
        if result.check == "dot":
            diagnoses = (_diagnose_leaf(situation, i, "") for i in range(len(situation.leaves)))
            named = zip(situation.leaves, diagnoses, strict=True)
            return next((f"{leaf}: {text}" for leaf, text in named if text), "")
        if result.check in _AT_THESE_ARGUMENTS and result.leaf in situation.leaves:
            return _diagnose_leaf(situation, situation.leaves.index(result.leaf), result.dtype)
    except Exception:  # whatever a rule raises at other cotangents, it has a message already
        return ""
    return ""


def _diagnose_leaf(situation: Situation, leaf: int, dtype: str) -> str:
    low = situation.subject(dtype) if dtype in _LOW else None
    with jax.enable_x64(True):
        exact = situation.subject("float64")
    # In a low precision the truth is that at the very numbers which it holds.
    x = tuple(_arrays((low or exact).x))
    named, manual = _in_low(low, situation.seed) if low else _in_float64(exact, situation.seed)
    with jax.enable_x64(True):
        pull = _pull(exact)
        draws = tuple(
            Draw(name, _arrays(dys), m, pull(x, _arrays(dys)))
            for (name, dys), m in zip(named, manual, strict=True)
        )
        y = _arrays(exact.pull_automatic(x, draws[0].dys)[0])
        unit = float(jnp.finfo(dtype if low else "float64").eps)
        integers = tuple(_integers(situation.args))
        outputs = _names_of_outputs(exact, y)
        e = Evidence(leaf, exact.leaves, x, y, draws, pull, integers, unit, outputs)
        if low is None:
            names = tuple(map(e.output, range(len(y))))
            local = lambda: _local(_Same(exact), names)  # noqa: E731
            known = _constants(_Same(exact))
            e = dataclasses.replace(e, singles=_singles(exact, y), constants=known, local=local)
        return diagnose(e)


def _singles(exact: Subject, y: Arrays) -> tuple[Draw, ...]:
    """A draw for each element of the outputs, where they are few."""
    sizes = [a.size for a in y]
    if sum(sizes) > _MOST_SINGLES:
        return ()
    draws = []
    for row in np.eye(sum(sizes)):
        parts = np.split(row, np.cumsum(sizes)[:-1])
        dys = [part.reshape(a.shape) for part, a in zip(parts, y, strict=True)]
        manual, truth = (
            pull(exact.x, dys)[1] for pull in (exact.pull_manual, exact.pull_automatic)
        )
        draws.append(Draw("single", dys, _arrays(manual), _arrays(truth)))
    return tuple(draws)


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """A subject that is equal to itself alone, whatever its arrays hold."""

    subject: Subject

    def __hash__(self) -> int:
        return id(self.subject)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.subject is self.subject


@functools.lru_cache(maxsize=2)
def _constants(same: _Same) -> tuple[tuple[float, str], ...]:
    return tuple(constants_of(jax.make_jaxpr(same.subject.automatic)(*same.subject.x)))


@functools.lru_cache(maxsize=2)  # the leaves of one subject, one after another
def _local(same: _Same, outputs: tuple[str, ...]) -> LocalMistakes | None:
    exact = same.subject
    try:
        return LocalMistakes(exact.automatic, exact.x, exact.leaves, outputs)
    except Exception:  # an operation that cannot be taken out of its program
        return None


def _names_of_outputs(subject: Subject, y: Arrays) -> tuple[str, ...]:
    names = subject.outputs
    return names if len(names) == len(y) else tuple(f"output {i}" for i in range(len(y)))


def _in_low(low: Subject, seed: int) -> tuple[Cotangents, list[Arrays]]:
    """The cotangents of `check`, and what the rule makes of them in a low precision."""
    named = cotangents_of(low, seed)
    return named, [_arrays(low.pull_manual(low.x, dys)[1]) for _, dys in named]


def _in_float64(exact: Subject, seed: int) -> tuple[Cotangents, list[Arrays]]:
    """The same in float64, with two more cotangents."""
    with jax.enable_x64(True):
        named = cotangents_of(exact, seed)
        first = named[0][1]
        named.append(("zero", [0 * dy for dy in first]))
        named.append(("large", [_LARGE * dy for dy in first]))
        return named, [_arrays(exact.pull_manual(exact.x, dys)[1]) for _, dys in named]


def _pull(exact: Subject) -> Callable[[tuple[np.ndarray, ...], Arrays], Arrays]:
    return lambda x, dys: _arrays(exact.pull_automatic(tuple(x), list(dys))[1])


def _arrays(values: Iterable[ArrayLike]) -> Arrays:
    return [np.asarray(v).astype(np.float64) for v in values]


def _integers(args: PyTree) -> list[np.ndarray]:
    leaves = [a for a in jax.tree.leaves(args) if hasattr(a, "dtype")]
    return [np.asarray(a) for a in leaves if jnp.issubdtype(a.dtype, jnp.integer)]


def _diagnose_output(situation: Situation, output: str) -> str:
    """The value of the forward pass, beside that of the reference."""
    with jax.enable_x64(True):
        subject = situation.subject("float64")
        dys = cotangents_of(subject, situation.seed)[0][1]
        manual = _arrays(subject.pull_manual(subject.x, dys)[0])
        expected = _arrays(subject.pull_automatic(subject.x, dys)[0])
    # The outputs stand where the leaves stand: a value has no cotangent, and nothing to pull.
    draw = Draw("value", [], manual, expected)
    names = _names_of_outputs(subject, expected)
    return diagnose(Evidence(names.index(output), names, tuple(expected), [], (draw,)))
