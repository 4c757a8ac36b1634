"""The usual mistakes on one path of several: a term missing or doubled, a derivative left out.

Two ways tell the paths apart: by the outputs through which the cotangent enters, and by the
operations of the reference, each with its own derivative.
"""

from __future__ import annotations

import math

import numpy as np

from funcnn.gradient.diagnosis.evidence import Draw, Evidence, Hypotheses, Prediction
from funcnn.gradient.diagnosis.factors import lengths, name_of_factor
from funcnn.gradient.diagnosis.of_one_operation import Local, LocalMistakes
from funcnn.gradient.diagnosis.of_the_result import terms

_FITS = 1e-3  # of the error, in the draw to which a factor is fitted
_CLOSE = 1e-7


def outputs(e: Evidence) -> Hypotheses:
    """Of several outputs, the part of the gradient that comes from some is off by a factor."""
    if len(e.y) < 2 or e.pull is None:
        return
    rows = [_parts(e, draw) for draw in e.ordinary]
    manual = [draw.manual[e.leaf].ravel() for draw in e.ordinary]
    columns = np.concatenate(rows, axis=1).T  # (elements of all draws, outputs)
    factors, _, rank, _ = np.linalg.lstsq(columns, np.concatenate(manual), rcond=1e-10)
    if rank < len(e.y):
        return
    off = [
        f"the part through {e.output(i)}{_off(e, float(c))}"
        for i, c in enumerate(factors)
        if abs(c - 1) > _CLOSE
    ]
    if 0 < len(off) < len(e.y):
        yield (
            "; ".join(off),
            lambda draw: (factors @ _parts(e, draw)).reshape(e.shape),
        )


def _parts(e: Evidence, draw: Draw) -> np.ndarray:
    """The truth from each output alone, (outputs, elements)."""
    assert e.pull is not None
    alone = [
        [dy if j == i else 0 * dy for j, dy in enumerate(draw.dys)] for i in range(len(draw.dys))
    ]
    return np.stack([e.pull(e.x, dys)[e.leaf].ravel() for dys in alone])


def _off(e: Evidence, c: float) -> str:
    if abs(c) < _CLOSE:
        return " is missing"
    return f": {name_of_factor(c, lengths(e), e.constants, _CLOSE)}"


def operations(e: Evidence) -> Hypotheses:
    """In the derivative of one operation of the reference something is left out, or another."""
    made = e.local() if e.local is not None else None
    if made is None:
        return
    for kind in ("left out", "other branch", "other index", "twice"):
        for i in _of_kind(made, kind):
            yield _TEXTS[kind](made.all[i]), _made(e, made, i)
    yield from _scaled(e, made)
    for kind in ("without", "other values"):
        for i in _of_kind(made, kind):
            yield _TEXTS[kind](made.all[i]), _made(e, made, i)


def _of_kind(made: LocalMistakes, kind: str) -> list[int]:
    indices = [i for i, mistake in enumerate(made.all) if mistake.kind == kind]
    return sorted(indices, key=lambda i: made.all[i].rank)


def _made(e: Evidence, made: LocalMistakes, i: int, amount: float = 0.0) -> Prediction:
    return lambda draw: made.gradient(i, amount, e.x, draw.dys)[e.leaf]


def _scaled(e: Evidence, made: LocalMistakes) -> Hypotheses:
    """The error is a multiple of the part of the truth that comes through one operation."""
    draw = next(d for d in e.ordinary if e.is_wrong(d))
    manual, truth = e.pair(draw)
    error = manual - truth
    for i in _of_kind(made, "scaled"):
        part = truth - made.gradient(i, 0.0, e.x, draw.dys)[e.leaf]
        size = float(np.vdot(part, part))
        c = 1 + float(np.vdot(part, error)) / size if size else math.nan
        if np.linalg.norm(error - (c - 1) * part) > _FITS * np.linalg.norm(error) or c != c:
            continue
        mistake = made.all[i]
        of = f"{mistake.detail} of " if mistake.detail else ""
        # The terms of the usual layers have names of their own.
        form = next((f"; {text}" for text, p in terms(e) if e.explained_by(p)), "")
        yield f"the path through {of}{mistake.operation}{_off(e, c)}{form}", _made(e, made, i, c)


def _left_out(mistake: Local) -> str:
    if mistake.operation.startswith("where"):
        return f"the mask of {mistake.operation} is not applied"
    what = {"mul": "the factor", "div": "the division by"}.get(mistake.operation.split()[0])
    if what and mistake.detail:
        return f"{what} {mistake.detail} in {mistake.operation} is left out"
    return f"the derivative of {mistake.operation} is not applied"


_TEXTS = {
    "left out": _left_out,
    "other branch": lambda m: (
        f"the branches of {m.operation} are exchanged in its derivative"
        if m.detail == "exchanged"
        else f"the derivative of one branch of {m.operation} is taken everywhere"
    ),
    "without": lambda m: (
        f"the derivative is that of the function without {m.operation}"
        + (f" and {m.detail}" if m.detail else "")
    ),
    "other index": lambda m: f"the indices of {m.operation} are off by one in its derivative",
    "twice": lambda m: f"the derivative of {m.operation} is applied twice",
    "other values": lambda m: f"takes {m.detail} in the derivative of {m.operation}",
}


def independent(e: Evidence) -> Hypotheses:
    """A gradient where the output does not depend on the argument at all, and right elsewhere."""
    if not e.singles:
        return
    right, wrong = (np.stack([e.pair(d)[k] for d in e.singles]) for k in (1, 0))
    extra = np.where(right == 0, wrong, 0)
    if np.any(extra):
        yield (
            "not zero where the output does not depend on it (a mask is not applied)",
            lambda draw: draw.truth[e.leaf] + np.tensordot(_flat(draw), extra, 1),
        )


def elements(e: Evidence) -> Hypotheses:
    """The gradient is right but for what comes from some elements of the cotangent."""
    if not e.singles:
        return
    off = np.array([e.is_wrong(draw) for draw in e.singles])
    error = np.stack([np.subtract(*e.pair(d)) for d in e.singles])
    if off.any() and not off.all():
        yield (
            f"wrong only through {_which(e, off)}",
            lambda draw: draw.truth[e.leaf] + np.tensordot(_flat(draw), error, 1),
        )


def _flat(draw: Draw) -> np.ndarray:
    return np.concatenate([dy.ravel() for dy in draw.dys])


def _which(e: Evidence, off: np.ndarray) -> str:
    """The elements of the outputs, as an index of an axis where they are one."""
    start, places = 0, []
    for i, y in enumerate(e.y):
        mask = off[start : start + y.size].reshape(y.shape)
        start += y.size
        if mask.all() and mask.size:
            places.append(f"the cotangent of {e.output(i)}")
        elif mask.any():
            places.append(f"{_index(mask)} of the cotangent of {e.output(i)}")
    return " and ".join(places)


def _index(mask: np.ndarray) -> str:
    for axis in range(mask.ndim):
        along = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1)
        indices = np.flatnonzero(along.any(axis=1))
        if len(indices) < mask.shape[axis] and along[indices].all():
            numbers = ", ".join(map(str, indices))
            return f"{'index' if len(indices) == 1 else 'indices'} {numbers} of axis {axis}"
    first = [int(i) for i in np.argwhere(mask)[0]]
    return f"{mask.sum()} of {mask.size} elements, the first at {first},"
