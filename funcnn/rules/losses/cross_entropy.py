"""The loss of classifiers: the cross entropy of the softmax of their logits."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.losses.weighing import checked_weights, counted, weighed, weights_of
from funcnn.rules.shared.arguments import describe, floating
from funcnn.rules.shared.case_data import normal, uniform
from funcnn.rules.shared.numerics import accumulator
from funcnn.rules.softmax import exp_difference, largest
from funcnn.types import Array, ArrayLike, Key, PyTree, Residuals


@rule
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    smoothing: float = 0.0,
    ignored: int | None = None,
) -> Array:
    r"""Cross entropy of the softmax of logits and an integer label, l = v (log Σ_j exp z_j - z_y).

    Shapes: logits z (..., C) floating point; labels y (...) integers in [0, C); l (...); weights v
    (...) floating point, or None for 1. A row whose label is `ignored` has l = 0 and no gradient;
    its logits may be anything. The mean over the others is l.sum() / (labels != ignored).sum().
    With smoothing ε (static, in [0, 1]) the target is t = (1 - ε) [j = y] + ε/C, as in
    optax.smooth_labels, and l = v (log Σ_j exp z_j - Σ_j t_j z_j).

    Derivation: with p = softmax(z), ∂l/∂z_j = v (p_j - t_j). For a confident row p_y is 1 but for
    rounding and p_y - 1 is exactly 0, so 1 - p_y is taken from the others:
        dz_j = dl v (p_j - ε/C) for j ≠ y,   dz_y = dl v (ε (1 - 1/C) - Σ_{j≠y} p_j),
    and as l is linear in v, dv = dl l/v, the loss without its weight.
    Value, with m the largest logit, e_j = exp(z_j - m) and o = Σ_{j≠y} e_j:
        l/v = (1 - ε) (m - z_y) + ε mean_j (m - z_j) + log1p(o + (e_y - 1)),
    as log Σ_j e_j = log(o + e_y); where y is the largest, e_y - 1 = 0 and no digit is lost. In e_j
    stand the digits that z_j - m loses, see `exp_difference`.
    Kept for the backward pass: e in the dtype of the logits, and for each row o, o + e_y, the
    label, and with weights v and l/v. To keep e is cheaper on a CPU than to compute it twice. The
    label is compared with the positions, which fuses, where the gradient of an index is a scatter
    into zeros.
    A masked logit -∞ of another class gets gradient 0; if it is the label's, l = ∞. A label outside
    [0, C) makes its row's l NaN, and dz too unless dl is exactly 0, so that such rows can be masked
    afterwards with `jnp.where`; it is never clipped. A row of -∞ only, or with NaN, is NaN.
    There are no kinks.

    Earns its place in accuracy (logits (20, 0), label 0: ∓2.06e-9, where autodiff has 0), and with
    one array of the size of the logits kept, at the speed of autodiff.

    Source: Bridle, 1990; Szegedy et al., Rethinking the inception architecture, 2015 (smoothing).

    Raises:
        TypeError: the logits or weights are not floating point, or the labels no integers.
        ValueError: the shapes do not fit, there is no class, smoothing is outside [0, 1], or
            ignored is no integer.

    >>> softmax_cross_entropy(jnp.array([[20.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1]))
    Array([2.0611537e-09, 6.9314718e-01], dtype=float32)
    >>> softmax_cross_entropy(jnp.zeros((2, 2)), jnp.array([-100, 1]), ignored=-100)
    Array([0.       , 0.6931472], dtype=float32)
    """
    logits, labels, weights = _checked(logits, labels, weights, smoothing)
    mask = counted("softmax_cross_entropy", labels, ignored)
    z = logits.astype(accumulator(logits))
    if mask is not None:  # else the derivative of a row of NaN would be NaN times 0
        z, labels = jnp.where(mask[..., None], z, 0), jnp.where(mask, labels, 0)
    m = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    d = z - m
    log_total = jnp.log(jnp.sum(jnp.exp(d), -1))
    loss = log_total - (1 - smoothing) * jnp.sum(jnp.where(_is_label(labels, z), d, 0), -1)
    if smoothing:
        loss = loss - smoothing * jnp.mean(d, -1)
    loss = jnp.where(_inside(labels, z), loss, jnp.nan)
    return weighed(loss, weights, mask)[0].astype(logits.dtype)


def softmax_cross_entropy_forward(
    logits: Array, labels: Array, weights: Array | None, *, smoothing: float, ignored: int | None
) -> tuple[Array, Residuals]:
    logits, labels, weights = _checked(logits, labels, weights, smoothing)
    mask = counted("softmax_cross_entropy", labels, ignored)
    z = logits.astype(accumulator(logits))
    m = largest(z, -1)
    e = exp_difference(z, m)
    z_label = jnp.take_along_axis(z, labels[..., None], -1, mode="clip")
    d_label, e_label = (jnp.squeeze(f(z_label, m), -1) for f in (jnp.subtract, exp_difference))
    others = jnp.sum(jnp.where(_is_label(labels, z), 0, e), -1)  # (...)
    loss = jnp.log1p(others + (e_label - 1)) - (1 - smoothing) * d_label
    if smoothing:
        loss = loss - smoothing * jnp.mean(z - m, -1)
    loss = jnp.where(_inside(labels, z), loss, jnp.nan)
    l, of_weights = weighed(loss, weights, mask)
    res = (e.astype(logits.dtype), others, others + e_label, labels, of_weights)
    return l.astype(logits.dtype), res


def softmax_cross_entropy_backward(
    res: Residuals, dl: Array, *, smoothing: float, ignored: int | None
) -> tuple[Array, None, Array | None]:
    e, others, total, labels, of_weights = res
    mask = counted("softmax_cross_entropy", labels, ignored)
    share = smoothing / e.shape[-1]
    g, dv = weights_of(dl.astype(total.dtype), of_weights)
    # A label outside the classes: NaN, unless the caller has taken the row out of the loss.
    g = jnp.where(_inside(labels, e) | (g == 0), g, jnp.nan)
    p = e.astype(total.dtype) / total[..., None]  # (..., C)
    at_label = (smoothing - share) - (others / total)[..., None]
    dz = jnp.where(_is_label(labels, e), at_label, p - share) * g[..., None]
    dz = dz if mask is None else jnp.where(mask[..., None], dz, 0)
    return dz.astype(e.dtype), None, dv


def _is_label(labels: Array, logits: Array) -> Array:
    return (
        jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    )


def _inside(labels: Array, logits: Array) -> Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def _checked(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, smoothing: float
) -> tuple[Array, Array, Array | None]:
    (logits,), labels = floating("softmax_cross_entropy", logits=logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            "softmax_cross_entropy: labels must be integers, one for each row, "
            f"found {describe(labels)}"
        )
    if logits.ndim == 0 or logits.shape[-1] == 0 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            "softmax_cross_entropy: logits (..., C) with C at least 1 need labels (...), "
            f"found {describe(logits)} and {describe(labels)}"
        )
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"softmax_cross_entropy: smoothing must be between 0 and 1, found {smoothing}"
        )
    weights = checked_weights("softmax_cross_entropy", weights, "labels", labels)
    # A narrow integer cannot count the classes.
    return logits, labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32), weights


softmax_cross_entropy.defvjp(softmax_cross_entropy_forward, softmax_cross_entropy_backward)


@softmax_cross_entropy.defcases
def softmax_cross_entropy_cases(key: Key) -> Iterator[Case]:
    def accurate(
        z: Array, labels: Array, _: Array | None = None, *, smoothing: float = 0.0, **rest: object
    ) -> Array:
        # log(1 + Σ_{j≠y} exp(z_j - z_y)): automatic differentiation sums the others by itself.
        is_label = _is_label(labels, z)
        z_label = jnp.sum(jnp.where(is_label, z, 0), -1)
        others = jnp.sum(jnp.where(is_label, 0, jnp.exp(z - z_label[..., None])), -1)
        return jnp.log1p(others) + smoothing * (z_label - jnp.mean(z, -1))

    def sums_to_zero(
        args: tuple[Array, ...], dl: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        dz = cotangents[0]
        return jnp.sum(jnp.maximum(dz, 0), -1), jnp.sum(jnp.maximum(-dz, 0), -1)

    laws = {"dz sums to zero": sums_to_zero}
    labels = jnp.array([0, 4, 2, 2, 1, 3, 0])
    z = 2 * normal(key, (7, 5))
    yield Case("rows", (z, labels), laws=laws)
    yield Case("smoothing", (z, labels), {"smoothing": 0.1}, laws=laws)
    yield Case("all smoothed", (z, labels), {"smoothing": 1.0}, laws=laws)
    yield Case("cube", (normal(key, (2, 3, 11)), jnp.array([[0, 5, 10], [7, 7, 1]])), laws=laws)
    yield Case("vector", (normal(key, (13,)), jnp.array(4)), laws=laws)
    yield Case("ties", (jnp.zeros((3, 4)), jnp.array([0, 1, 3])), laws=laws)
    yield Case("offset", (normal(key, (3, 5)) + 1000, jnp.array([4, 0, 2])), laws=laws)
    yield Case("narrow labels", (z, labels.astype(jnp.uint8)), laws=laws)
    v = uniform(key, (7,))
    yield Case("weights", (z, labels, v), {"smoothing": 0.25}, laws=laws)
    yield Case("ignored", (z, labels), {"ignored": 2}, laws=laws)
    outside = jnp.where(labels == 2, -100, labels)
    yield Case("ignored, weights", (z, outside, v), {"ignored": -100}, laws=laws)
    yield Case("masked", (jnp.array([[0.5, -jnp.inf, 1.5]]), jnp.array([2])), kinks=True)
    yield Case("one class", (jnp.ones((3, 1)), jnp.zeros(3, int)))
    yield Case("no rows", (jnp.zeros((0, 3)), jnp.zeros(0, int)))
    tail = jnp.array(
        [[20.0, 0.0, -3.5], [0.0, 40.0, 39.5], [-16.0, -8.0, 24.0], [0.0, 0.25, -80.0]]
    )
    for label in range(3):
        yield Case(f"tail of {label}", (tail, jnp.full(4, label)), laws=laws, reference=accurate)
