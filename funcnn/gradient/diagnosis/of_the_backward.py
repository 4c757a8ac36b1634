"""The usual mistakes inside a backward pass: with the cotangent, an argument, a derivative, eps.

Where the truth can be had at other arguments and other cotangents, a mistake is proved by making
it: the right derivative, given the wrong numbers, must return what the rule returned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from funcnn.gradient.diagnosis.evidence import (
    Arrays,
    Draw,
    Evidence,
    Hypotheses,
    Prediction,
)

Container = TypeVar("Container", tuple[np.ndarray, ...], list[np.ndarray])

_EPS = 1e-3  # relative agreement of the eps that each row gives


def derivative(e: Evidence) -> Hypotheses:
    """Elementwise: the derivative is left out, applied twice, or multiplied with another array."""
    for i, y in enumerate(e.y):
        if y.shape == e.shape:
            yield (
                "dy itself: the derivative is not applied",
                lambda draw, i=i: draw.dys[i],
            )
            yield (
                "the derivative is applied twice",
                lambda draw, i=i: draw.truth[e.leaf] * _divided(draw.truth[e.leaf], draw.dys[i]),
            )
            yield (
                "divided by the derivative",
                lambda draw, i=i: draw.dys[i] * _divided(draw.dys[i], draw.truth[e.leaf]),
            )
            for dtype in ("float32", "float16", "bfloat16"):
                yield (
                    f"the derivative is rounded to {dtype}",
                    lambda draw, i=i, d=dtype: (
                        draw.dys[i] * _rounded(_divided(draw.truth[e.leaf], draw.dys[i]), d)
                    ),
                )
    for name, a in _beside(e):
        yield f"not multiplied by {name}", lambda draw, a=a: _divided(draw.truth[e.leaf], a)
        yield f"multiplied by {name} once more", lambda draw, a=a: draw.truth[e.leaf] * a


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _beside(e: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that broadcast against the leaf, in its shape."""
    named = [*zip(e.names, e.x, strict=True), *((e.output(i), y) for i, y in enumerate(e.y))]
    for name, a in named:
        wide = a[..., None] if a.shape and a.shape == e.shape[: a.ndim] else a
        for form in (a, wide):
            try:
                yield name, np.broadcast_to(form, e.shape)
            except ValueError:
                continue


# The derivatives that are written in the output y, with the input x in its place.
_FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "dy y (1 - y)": lambda v, dy: dy * v * (1 - v),
    "dy (1 - y^2)": lambda v, dy: dy * (1 - v * v),
    "dy y": lambda v, dy: dy * v,
    "y (dy - sum(dy y))": lambda v, dy: v * (dy - np.sum(dy * v, -1, keepdims=True)),
}
# Those with a sum, which may run over another axis.
_SUMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "y (dy - sum(dy y))": lambda y, dy, a: y * (dy - np.sum(dy * y, a, keepdims=True)),
    "dy - exp(y) sum(dy)": lambda y, dy, a: dy - np.exp(y) * np.sum(dy, a, keepdims=True),
}


def output(e: Evidence) -> Hypotheses:
    """The input stands where the derivative is written in the output, or the reverse."""
    x, same = e.x[e.leaf], [i for i, y in enumerate(e.y) if y.shape == e.shape and y.ndim]
    for i, (form, at) in itertools.product(same, _FORMS.items()):
        right = all(np.allclose(at(e.y[i], d.dys[i]), d.truth[e.leaf]) for d in e.draws)
        if right:
            yield (
                f"the input stands where {form} takes the output",
                lambda draw, i=i, at=at: at(x, draw.dys[i]),
            )
    for i, (form, at) in itertools.product(same, _SUMS.items()):
        axes = [*range(e.y[i].ndim), None]
        for axis, wrong in itertools.permutations(axes, 2):
            if all(np.allclose(at(e.y[i], d.dys[i], axis), d.truth[e.leaf]) for d in e.ordinary):
                over = "all axes" if wrong is None else f"axis {wrong}"
                yield (
                    f"the sum in {form} runs over {over} instead of axis {axis}",
                    lambda draw, i=i, at=at, wrong=wrong: at(e.y[i], draw.dys[i], wrong),
                )
    for i in same:
        yield (
            "the derivative is taken at the output instead of the input",
            e.pulled(lambda draw, i=i: (_replaced(e.x, e.leaf, e.y[i]), draw.dys)),
        )


def _replaced(arrays: Container, i: int, value: np.ndarray) -> Container:
    return type(arrays)(value if j == i else a for j, a in enumerate(arrays))


def cotangent(e: Evidence) -> Hypotheses:
    """The right derivative of a wrong cotangent."""
    shape = [dy.shape for dy in e.draws[0].dys]
    for text, change in [*_of_each(), *_of_axes(shape), *_of_outputs(e, shape)]:
        yield text, e.pulled(lambda draw, change=change: (e.x, change(draw.dys)))
    yield from _clipped(e)


Change = tuple[str, Callable[[Arrays], Arrays]]


def _of_each() -> Iterator[Change]:
    forms = {
        "not multiplied by the incoming cotangent": np.ones_like,
        "multiplied by the incoming cotangent twice": np.square,
        "takes the absolute value of the cotangent": np.abs,
        "takes the sign of the cotangent": np.sign,
    }
    for text, form in forms.items():
        yield text, lambda dys, form=form: [form(dy) for dy in dys]
    for dtype in ("float32", "float16", "bfloat16"):
        yield (
            f"rounds the cotangent to {dtype}",
            lambda dys, d=dtype: [_rounded(dy, d) for dy in dys],
        )


def _rounded(a: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return a.astype(jnp.dtype(dtype)).astype(a.dtype)


def _of_axes(shapes: list[tuple[int, ...]]) -> Iterator[Change]:
    """Every cotangent that has the axis is changed along it."""
    for axis in range(max(map(len, shapes), default=0)):

        def along(
            change: Callable[[np.ndarray], np.ndarray], axis: int = axis
        ) -> Callable[[Arrays], Arrays]:
            return lambda dys: [change(dy) if dy.ndim > axis and dy.size else dy for dy in dys]

        for text, kept in (
            ("first", lambda n: np.arange(n) == 0),
            ("last", lambda n: np.arange(n) == n - 1),
        ):
            yield (
                f"only the {text} index of axis {axis} of dy counts: the sum over it is missing",
                along(lambda dy, a=axis, kept=kept: _masked(dy, a, kept)),
            )
            yield (
                f"the {text} index of axis {axis} of dy is left out",
                along(lambda dy, a=axis, kept=kept: dy - _masked(dy, a, kept)),
            )
        yield (
            f"takes dy for its mean over axis {axis}",
            along(lambda dy, a=axis: np.broadcast_to(np.mean(dy, a, keepdims=True), dy.shape)),
        )
        yield f"takes dy reversed along axis {axis}", along(lambda dy, a=axis: np.flip(dy, a))
        for step in (1, -1):
            text = f"takes dy off by one along axis {axis}"
            yield text, along(lambda dy, a=axis, step=step: np.roll(dy, step, a))
        for other in range(axis):
            if all(len(s) > axis and s[axis] == s[other] for s in shapes):
                text = f"takes dy with axes {other} and {axis} exchanged (the wrong axis)"
                yield text, along(lambda dy, a=axis, b=other: np.swapaxes(dy, a, b))


def _masked(dy: np.ndarray, axis: int, kept: Callable[[int], np.ndarray]) -> np.ndarray:
    mask = np.expand_dims(kept(dy.shape[axis]), [a for a in range(dy.ndim) if a != axis])
    return np.where(mask, dy, 0)


def _of_outputs(e: Evidence, shapes: list[tuple[int, ...]]) -> Iterator[Change]:
    for i in range(len(shapes) if len(shapes) > 1 else 0):
        text = f"the cotangent of {e.output(i)} is ignored"
        yield text, lambda dys, i=i: _replaced(dys, i, np.zeros_like(dys[i]))
    for i, j in itertools.combinations(range(len(shapes)), 2):
        if shapes[i] == shapes[j]:
            text = f"the cotangents of {e.output(i)} and {e.output(j)} are swapped"
            yield text, lambda dys, i=i, j=j: _replaced(_replaced(dys, i, dys[j]), j, dys[i])


def _clipped(e: Evidence) -> Hypotheses:
    """The bound shows in the draw whose cotangent is far beyond it."""
    large = next((d for d in e.draws if d.name == "large"), None)
    if large is None or e.pull is None:
        return
    signs = e.pull(e.x, [np.sign(dy) for dy in large.dys])[e.leaf]
    size = float(np.vdot(signs, signs))
    bound = float(np.vdot(signs, large.manual[e.leaf])) / size if size else 0.0
    if bound > 0:
        yield (
            f"clips the cotangent at {bound:.6g}",
            e.pulled(lambda draw: (e.x, [np.clip(dy, -bound, bound) for dy in draw.dys])),
        )


def direction(e: Evidence) -> Hypotheses:
    """A recurrence or a sum that runs in the wrong direction."""
    for axis in range(len(e.shape)):
        yield f"runs along axis {axis} in the wrong direction", _wrong_way(e, axis)


def _wrong_way(e: Evidence, axis: int) -> Prediction:
    def flipped(draw: Draw) -> np.ndarray | None:
        if e.pull is None or any(dy.ndim <= axis for dy in draw.dys):
            return None
        return np.flip(e.pull(e.x, [np.flip(dy, axis) for dy in draw.dys])[e.leaf], axis)

    return flipped


def argument(e: Evidence) -> Hypotheses:
    """The right derivative at wrong arguments: one transposed, left out, squared, shifted, ..."""
    for j, (name, x) in enumerate(zip(e.names, e.x, strict=True)):
        for text, value in _variants(name, x):
            changed = _replaced(e.x, j, value)
            yield text, e.pulled(lambda draw, changed=changed: (changed, draw.dys))
    for i, j in itertools.combinations(range(len(e.x)), 2):
        if e.x[i].shape == e.x[j].shape:
            changed = _replaced(_replaced(e.x, i, e.x[j]), j, e.x[i])
            text = f"the arguments {e.names[i]} and {e.names[j]} are swapped"
            yield text, e.pulled(lambda draw, changed=changed: (changed, draw.dys))


def value(e: Evidence) -> Hypotheses:
    """The right derivative at an argument of the wrong sign, or at 0: few know why it would be."""
    for j, (name, x) in enumerate(zip(e.names, e.x, strict=True)):
        for text, wrong in (
            (f"{name} enters with the wrong sign", -x),
            (f"{name} is taken for 0", 0 * x),
        ):
            changed = _replaced(e.x, j, wrong)
            yield text, e.pulled(lambda draw, changed=changed: (changed, draw.dys))


def _variants(name: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for a, b in itertools.combinations(range(x.ndim), 2):
        if x.shape[a] == x.shape[b] > 1:
            axes = "" if x.ndim == 2 else f" (axes {a} and {b})"
            yield f"takes {name} transposed{axes}, or does not transpose it", np.swapaxes(x, a, b)
    for axes in [(a,) for a in range(x.ndim)] + [tuple(range(n)) for n in range(2, x.ndim)]:
        which = ", ".join(map(str, axes))
        yield f"takes {name} flipped along axis {which}, or does not flip it", np.flip(x, axes)
    for axis, step in itertools.product(range(x.ndim), (1, -1)):
        if x.shape[axis] > 2:
            yield f"takes {name} off by one along axis {axis}", np.roll(x, step, axis)
    yield f"not multiplied by {name}", np.ones_like(x)
    yield f"{name} enters twice (squared)", np.square(x)
    for dtype in ("float32", "float16", "bfloat16"):
        yield f"rounds {name} to {dtype}", _rounded(x, dtype)


def eps(e: Evidence) -> Hypotheses:
    """1 / sqrt(v) for 1 / sqrt(v + eps), v the variance or the mean square along an axis.

    Where the true factor is r = 1 / sqrt(v + eps), each row is off by sqrt(1 + eps / v) but for its
    part along x, so that (its factor^2 - 1) v is one number, eps, over all rows.
    """
    x = e.x[e.leaf]
    for axis, length in enumerate(e.shape):
        if length < 4:
            continue
        centred = x - np.mean(x, axis, keepdims=True)
        for what, direction in (("variance", centred), ("mean square", x)):
            fit = _eps_of_rows(e, axis, direction)
            if fit is not None:
                ratio, value = fit
                text = (
                    f"eps = {value:.3g} is forgotten: off by sqrt(1 + eps / {what}), axis {axis} "
                    f"(beside a sum for the mean, eps = {length * value:.3g})"
                )
                yield (
                    text,
                    lambda draw, axis=axis, d=direction, r=ratio: _with_ratio(e, draw, axis, d, r),
                )


def _eps_of_rows(e: Evidence, axis: int, direction: np.ndarray) -> tuple[np.ndarray, float] | None:
    parts = [[_without(g, direction, axis) for g in e.pair(d)] for d in e.ordinary]
    above = np.sum([np.sum(m * t, axis, keepdims=True) for m, t in parts], axis=0)
    below = np.sum([np.sum(t * t, axis, keepdims=True) for _, t in parts], axis=0)
    if above.size < 2 or not np.all(below > 0):
        return None
    ratio = above / below
    each = (ratio**2 - 1) * np.mean(direction**2, axis, keepdims=True)
    value = float(np.mean(each))
    return (ratio, value) if value > 0 and np.ptp(each) <= _EPS * value else None


def _without(g: np.ndarray, direction: np.ndarray, axis: int) -> np.ndarray:
    size = np.sum(direction**2, axis, keepdims=True)
    return g - direction * _divided(np.sum(g * direction, axis, keepdims=True), size)


def _with_ratio(
    e: Evidence, draw: Draw, axis: int, direction: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    manual, truth = e.pair(draw)
    along = manual - _without(manual, direction, axis)
    return ratio * _without(truth, direction, axis) + along
