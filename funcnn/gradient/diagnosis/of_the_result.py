"""The usual mistakes that show in the result itself: factors, order, single elements, whole terms.

Each takes the evidence and yields what it would have to look like, with a text of one line.
"""

from __future__ import annotations

import itertools
import math

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.diagnosis.evidence import Draw, Evidence, Hypotheses
from funcnn.gradient.diagnosis.factors import within
from funcnn.gradient.verdict.figures import factor_figure

_FEW = 0.1  # of the elements; more of them are no slip in single entries
_CLOSE = 1e-6


def zeros(e: Evidence) -> Hypotheses:
    """No gradient at all."""
    yield "zeros: no gradient reaches this leaf", lambda draw: np.zeros(e.shape)


def shape_of_values(e: Evidence) -> Hypotheses:
    """The right values, cut off or without their sign, or with something added."""
    yield "the absolute value of the truth", lambda draw: np.abs(draw.truth[e.leaf])
    c = max((float(np.max(np.abs(d.manual[e.leaf]), initial=0)) for d in e.draws), default=0.0)
    yield f"clipped at {c:.6g}", lambda draw: np.clip(draw.truth[e.leaf], -c, c)
    norm = max(float(np.linalg.norm(d.manual[e.leaf])) for d in e.draws)
    yield f"clipped at the norm {norm:.6g}", lambda draw: _shortened(draw.truth[e.leaf], norm)
    added = _added(e)
    if added.size and np.any(added):
        same = np.ptp(added) <= _CLOSE * np.max(np.abs(added))
        what = f"{float(added.flat[0]):.6g} to every element" if same else "an array"
        yield (
            f"adds {what}, whatever the cotangent",
            lambda draw: draw.truth[e.leaf] + added,
        )


def _added(e: Evidence) -> np.ndarray:
    """What is left for a cotangent of zero; a single draw shows it where it is one number."""
    for draw in e.draws:
        if draw.name == "zero":
            return draw.manual[e.leaf]
    manual, truth = e.pair(e.draws[0])
    one = float(np.mean(manual - truth)) if manual.size else 0.0
    return np.full(e.shape, one)


def _shortened(truth: np.ndarray, norm: float) -> np.ndarray:
    size = float(np.linalg.norm(truth))
    return truth * min(1.0, norm / size) if size else truth


def order(e: Evidence) -> Hypotheses:
    """The right numbers in the wrong places."""
    n = len(e.shape)
    for a, b in itertools.combinations(range(n), 2):
        if e.shape[a] == e.shape[b] > 1:
            text = "transposed" if n == 2 else f"transposed: axes {a} and {b} exchanged"
            yield text, lambda draw, a=a, b=b: np.swapaxes(draw.truth[e.leaf], a, b)
    for other, name in enumerate(e.names):
        if other != e.leaf and e.draws[0].truth[other].shape == e.shape:
            yield (
                f"the cotangents of {e.name} and {name} are swapped (equals the truth of {name})",
                lambda draw, other=other: draw.truth[other],
            )
    for axis, step in itertools.product(range(n), (1, -1)):
        if e.shape[axis] > 2:
            yield (
                f"off by one along axis {axis}",
                lambda draw, axis=axis, step=step: np.roll(draw.truth[e.leaf], step, axis),
            )
    for axis in range(n):
        yield (
            f"reversed along axis {axis}",
            lambda draw, axis=axis: np.flip(draw.truth[e.leaf], axis),
        )
    yield (
        "the right numbers in another order (a reshape, or axes exchanged)",
        lambda draw: _reordered(*e.pair(draw)),
    )


def _reordered(manual: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The numbers of the truth in the order of manual."""
    guess = np.empty(truth.size)
    guess[np.argsort(manual, axis=None)] = np.sort(truth, axis=None)
    return guess.reshape(truth.shape)


def places(e: Evidence) -> Hypotheses:
    """Wrong in some places only: at a kink, on one side of it, where an index is repeated."""
    off = e.wrong_elements()
    if not off.any() or off.all():
        return
    for text, mask in [*_marked(e), *_few(off)]:
        if np.array_equal(mask, off):
            c = e.factor(mask)
            size = (
                f" (there x {factor_figure(c, within(e))})"
                if math.isfinite(c) and _is_factor(e, mask, c)
                else ""
            )
            yield text + size, lambda draw: np.where(off, *e.pair(draw))
    for text, mask in _allowed(e):
        if not np.any(off & ~mask):
            yield text, lambda draw: np.where(off, *e.pair(draw))


def _is_factor(e: Evidence, mask: np.ndarray, c: float) -> bool:
    return all(
        np.allclose(m[mask], c * t[mask], rtol=1e-6, atol=1e-12 * float(np.max(np.abs(t))))
        for m, t in map(e.pair, e.ordinary)
    )


def _marked(e: Evidence) -> list[tuple[str, np.ndarray]]:
    x = e.x[e.leaf]
    never = ~np.any([d.truth[e.leaf] != 0 for d in e.ordinary], axis=0)
    return [
        (f"wrong where {e.name} = 0 only: another subgradient at the kink", x == 0),
        (f"wrong where {e.name} < 0 only", x < 0),
        (f"wrong where {e.name} > 0 only", x > 0),
        (f"wrong where {e.name} <= 0 only", x <= 0),
        ("not zero where the truth is 0 (a mask is not applied)", never),
    ]


def _few(off: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """One element or a few of many, or one index of an axis."""
    places = []
    for axis, length in enumerate(off.shape):
        indices = np.flatnonzero(np.moveaxis(off, axis, 0).reshape(length, -1).any(axis=1))
        if len(indices) == 1 and length > 2 and off.sum() > 1:
            places.append((f"only index {indices[0]} of axis {axis} is wrong", off))
    if off.sum() <= max(1, _FEW * off.size):
        first = [int(i) for i in np.argwhere(off)[0]]
        verb = "differs, at" if off.sum() == 1 else "differ, the first at"
        places.append((f"{off.sum()} of {off.size} elements {verb} {first}", off))
    return places


def _allowed(e: Evidence) -> list[tuple[str, np.ndarray]]:
    """Places in which a mistake shows in some elements, by the draw."""
    x = e.x[e.leaf]
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ties = (
        (counts[inverse] > 1).reshape(x.shape) if values.size < x.size else np.zeros_like(x, bool)
    )
    places = [(f"wrong at ties of {e.name} only: another split than the reference's", ties)]
    for ids in e.integers:
        repeated, times = np.unique(ids, return_counts=True)
        rows = np.zeros(x.shape, bool)
        rows[[i for i in repeated[times > 1] if x.ndim and 0 <= i < x.shape[0]]] = True
        places.append(
            ("wrong only where an index is repeated: overwritten instead of accumulated", rows)
        )
    return places


def precision(e: Evidence) -> Hypotheses:
    """Rounded to a lower precision."""
    for dtype in ("float32", "float16", "bfloat16"):
        unit = float(jnp.finfo(dtype).eps)
        if unit > e.unit:
            yield (
                f"rounded to {dtype}",
                lambda draw, dtype=dtype, unit=unit: _if_rounded(*e.pair(draw), dtype, unit),
            )


def _if_rounded(
    manual: np.ndarray, truth: np.ndarray, dtype: str, unit: float
) -> np.ndarray | None:
    with np.errstate(over="ignore"):
        representable = np.array_equal(np.asarray(manual, jnp.dtype(dtype)).astype(float), manual)
    fits = np.abs(truth) < float(jnp.finfo(dtype).max)  # beyond, any number is infinite
    near = np.linalg.norm((manual - truth)[fits]) <= 2 * unit * np.linalg.norm(truth[fits])
    return manual if representable and near else None


def terms(e: Evidence) -> Hypotheses:
    """A term of the sum is missing: the error is a multiple of dy, or of one vector in each row."""
    for i, y in enumerate(e.y):
        if y.shape == e.shape:
            c = _fit([(d.manual[e.leaf] - d.truth[e.leaf], d.dys[i]) for d in e.ordinary])
            missing = (
                "the identity path is missing" if abs(c + 1) < _CLOSE else "a term dy too many"
            )
            yield (
                f"differs from the truth by {c:.6g} x dy: {missing}",
                lambda draw, i=i, c=c: draw.truth[e.leaf] + c * draw.dys[i],
            )
    if not any(np.linalg.norm(m) for m, _ in map(e.pair, e.ordinary)):
        return
    for axis, length in enumerate(e.shape):
        for text, basis in _directions(e, axis):
            if length > len(basis) + 1:
                yield (
                    f"along axis {axis} the error is {text}",
                    lambda draw, axis=axis, basis=basis: _projected(e, draw, axis, basis),
                )


def _fit(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    below = sum(float(np.vdot(b, b)) for _, b in pairs)
    return sum(float(np.vdot(a, b)) for a, b in pairs) / below if below else 0.0


def _directions(e: Evidence, axis: int) -> list[tuple[str, list[np.ndarray]]]:
    x, one = e.x[e.leaf], np.ones(e.shape)
    centred = x - np.mean(x, axis, keepdims=True)
    outputs = [y for y in e.y if y.shape == e.shape]
    directions = [("constant: a term with a mean over it is missing or wrong", [one])]
    directions += [
        ("a multiple of the output: the term y sum(dy y) is missing or wrong", [y]) for y in outputs
    ]
    directions += [
        (f"a multiple of {e.name}: the term through its norm is missing or wrong", [x]),
        (
            f"a multiple of {e.name} minus its mean: the variance term is missing or wrong",
            [centred],
        ),
        ("a constant and a multiple of the argument: mean and variance taken as fixed", [one, x]),
    ]
    return directions


def cotangent_terms(e: Evidence) -> Hypotheses:
    """A term that is dy times one number in each row."""
    for i, y in enumerate(e.y):
        for axis, length in enumerate(e.shape if y.shape == e.shape else ()):
            if length > 2:
                yield (
                    f"along axis {axis} the error is a multiple of dy: that term is wrong",
                    lambda draw, axis=axis, i=i: _projected(e, draw, axis, [draw.dys[i]]),
                )


def _projected(e: Evidence, draw: Draw, axis: int, basis: list[np.ndarray]) -> np.ndarray:
    """The truth, plus in each row along the axis the combination that fits the error best."""
    manual, truth = e.pair(draw)
    error = np.moveaxis(manual - truth, axis, -1)[..., None]  # (..., n, 1)
    columns = np.stack([np.moveaxis(b, axis, -1) for b in basis], -1)  # (..., n, k)
    fitted = columns @ (np.linalg.pinv(columns) @ error)  # (..., n, 1)
    return truth + np.moveaxis(fitted[..., 0], -1, axis)
