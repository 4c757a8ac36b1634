"""Losses, one value a row; the cost is their mean, which the caller takes."""

from typing import Any

import jax
import jax.numpy as jnp

from funcnn.registry import Case, rule
from funcnn.rules.arguments import describe, floating, same_dtype
from funcnn.rules.draws import normal, uniform
from funcnn.rules.precision import accumulator
from funcnn.rules.softmax import exp_difference, largest


@rule
def squared_error(y: Any, target: Any) -> Any:
    r"""Half the squared distance of each row, l = ½ Σ_d (y_d - t_d)².

    Shapes: y, target (..., D), one floating-point dtype; l (...).

    Derivation: ∂l/∂y_d = y_d - t_d = -∂l/∂t_d, so with the residual r = y - t
        dy_d = dl r_d and dt_d = -dl r_d,
    which is why the half is there. It is the sum of optax.l2_loss over the last axis. No kinks;
    NaN stays NaN in its row.
    Kept for the backward pass: r alone, as autodiff does.

    Earns its place by teaching: XLA makes the same program of autodiff.

    Source: Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805.

    Raises:
        TypeError: an argument is not floating point, or the dtypes differ.
        ValueError: the shapes differ, or there is no axis.

    >>> squared_error(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 0.0], [3.0, 3.0]]))
    Array([2. , 0.5], dtype=float32)
    """
    y, target = _same_shape(y, target)
    r = y - target
    return 0.5 * jnp.sum(r * r, -1)  # (...)


def squared_error_forward(y: Any, target: Any) -> Any:
    y, target = _same_shape(y, target)
    r = y - target
    precise = r.astype(accumulator(r))
    return (0.5 * jnp.sum(precise * precise, -1)).astype(y.dtype), r  # (...)


def squared_error_backward(r: Any, dl: Any) -> Any:
    dy = r * dl[..., None]  # (..., D)
    return dy, -dy


def _same_shape(y: Any, target: Any) -> Any:
    y, target = floating("squared_error", y=y, target=target)
    same_dtype("squared_error", y=y, target=target)
    if y.ndim == 0 or y.shape != target.shape:
        raise ValueError(
            "squared_error: y and target must have one shape (..., D), "
            f"found {describe(y)} and {describe(target)}"
        )
    return y, target


squared_error.defvjp(squared_error_forward, squared_error_backward)


@squared_error.defcases
def squared_error_cases(key: Any) -> Any:
    def opposite(args: Any, dl: Any, cotangents: Any) -> Any:
        return cotangents[0], -cotangents[1]

    def case(name: str, *shape: int, offset: float = 0.0) -> Case:
        ky, kt = jax.random.split(key)
        y, target = (normal(k, shape) + offset for k in (ky, kt))
        return Case(name, (y, target), laws={"dy = -dt": opposite})

    yield case("rows", 7, 3)
    yield case("cube", 2, 5, 3)
    yield case("vector", 11)
    yield case("offset", 5, 3, offset=100.0)
    yield case("size one", 1, 1)
    yield case("no rows", 0, 3)
    yield case("no columns", 3, 0)


@rule
def logistic(z: Any, target: Any) -> Any:
    r"""Binary cross entropy from the logit, l = -t log σ(z) - (1 - t) log σ(-z).

    Shapes: z, target, l (...); z floating point; target in [0, 1], floating point, or 0 and 1 as
    integers or bools.

    Derivation: log σ(z) = -softplus(-z), so l = softplus(z) - t z, and with |z| taken out
        l = (1 - t) |z| + log1p(e^(-|z|)) where z ≥ 0,   t |z| + log1p(e^(-|z|)) elsewhere,
    a sum of numbers ≥ 0, in which nothing cancels. The derivative of softplus is σ, so
        dz = dl (σ(z) - t) = dl ((1 - t) σ(z) - t σ(-z)),   dt = -dl z.
    The second form of dz is exact for t = 1 also where σ(z) is 1 but for rounding. Both of σ(±z)
    follow from e^(-|z|). An integer or bool target has no cotangent. No kinks: the branches of l
    meet smoothly. At ±∞ the loss is its limit, 0 or ∞; NaN stays NaN.
    Kept for the backward pass: z and target; autodiff keeps three arrays more.

    Earns its place in loops by what it keeps, and in accuracy against σ(z) - t and against the
    derivative of softplus(z) - t z, which are exactly 0 in float32 from z = 18 on; autodiff of the
    form of l above, or of optax.sigmoid_binary_cross_entropy, is accurate too.

    Source: Cox, The regression analysis of binary sequences, 1958.

    Raises:
        TypeError: z is not floating point, or target no number.
        ValueError: the shapes differ.

    >>> logistic(jnp.array([0.0, 20.0, 20.0]), jnp.array([1, 1, 0]))
    Array([6.9314718e-01, 2.0611537e-09, 2.0000000e+01], dtype=float32)
    """
    z, target = _logit_and_target(z, target)
    t = target.astype(z.dtype)
    magnitude = jnp.where(z >= 0, z, -z)
    return jnp.where(z >= 0, 1 - t, t) * magnitude + jnp.log1p(jnp.exp(-magnitude))


def logistic_forward(z: Any, target: Any) -> Any:
    z, target = _logit_and_target(z, target)
    precise = z.astype(accumulator(z))
    t = target.astype(precise.dtype)
    magnitude = jnp.where(precise >= 0, precise, -precise)
    weight = jnp.where(precise >= 0, 1 - t, t)
    # 0 · ∞ is 0 here: a sure answer that is right costs nothing.
    loss = jnp.where(weight == 0, 0, weight * magnitude) + jnp.log1p(jnp.exp(-magnitude))
    return loss.astype(z.dtype), (z, target)


def logistic_backward(res: Any, dl: Any) -> Any:
    z, target = res
    precise, g = z.astype(accumulator(z)), dl.astype(accumulator(z))
    t = target.astype(precise.dtype)
    e = jnp.exp(-jnp.abs(precise))
    larger, smaller = 1 / (1 + e), e / (1 + e)
    right = precise >= 0
    slope = (1 - t) * jnp.where(right, larger, smaller) - t * jnp.where(right, smaller, larger)
    dz = (g * slope).astype(z.dtype)
    if not jnp.issubdtype(target.dtype, jnp.floating):
        return dz, None
    return dz, (-precise * g).astype(target.dtype)


def _logit_and_target(z: Any, target: Any) -> Any:
    (z,), target = floating("logistic", z=z), jnp.asarray(target)
    if jnp.issubdtype(target.dtype, jnp.complexfloating):
        raise TypeError(f"logistic: target must be real, found {describe(target)}")
    if z.shape != target.shape:
        raise ValueError(
            "logistic: z and target must have one shape, one logit a row, "
            f"found {describe(z)} and {describe(target)}"
        )
    return z, target


logistic.defvjp(logistic_forward, logistic_backward)


@logistic.defcases
def logistic_cases(key: Any) -> Any:
    kz, kt = jax.random.split(key)
    yield Case("soft targets", (2 * normal(kz, (7, 3)), uniform(kt, (7, 3))))
    yield Case("integers", (normal(kz, (11,)), (uniform(kt, (11,)) < 0.5).astype(int)))
    yield Case("bools", (normal(kz, (2, 5)), uniform(kt, (2, 5)) < 0.5))
    yield Case("size one", (jnp.array([0.75]), jnp.array([0.5])))
    yield Case("zero logit", (jnp.zeros(3), jnp.array([0.0, 0.25, 1.0])))
    yield Case("scalar", (jnp.array(0.5), jnp.array(1.0)))
    yield Case("empty", (jnp.zeros((0, 3)), jnp.zeros((0, 3))))
    z = jnp.array([-80.0, -40.0, -17.0, 17.0, 40.0, 80.0])
    for t in (0.0, 1.0):
        yield Case(f"tail of {t:.0f}", (z, jnp.full(6, t)))


@rule
def softmax_cross_entropy(logits: Any, labels: Any, *, smoothing: float = 0.0) -> Any:
    r"""Cross entropy of the softmax of logits and an integer label, l = log Σ_j exp z_j - z_y.

    Shapes: logits z (..., C) floating point; labels y (...) integers in [0, C); l (...).
    With smoothing ε (static, in [0, 1]) the target is t = (1 - ε) [j = y] + ε/C, as in
    optax.smooth_labels, and l = log Σ_j exp z_j - Σ_j t_j z_j.

    Derivation: with p = softmax(z), ∂l/∂z_j = p_j - t_j. For a confident row p_y is 1 but for
    rounding and p_y - 1 is exactly 0, so 1 - p_y is taken from the others:
        dz_j = dl (p_j - ε/C) for j ≠ y,   dz_y = dl (ε (1 - 1/C) - Σ_{j≠y} p_j).
    Value, with m the largest logit, e_j = exp(z_j - m) and o = Σ_{j≠y} e_j:
        l = (1 - ε) (m - z_y) + ε mean_j (m - z_j) + log1p(o + (e_y - 1)),
    as log Σ_j e_j = log(o + e_y); where y is the largest, e_y - 1 = 0 and no digit is lost. In e_j
    stand the digits that z_j - m loses, see `exp_difference`.
    Kept for the backward pass: e in the dtype of the logits, and for each row o, o + e_y and the
    label. To keep e is cheaper on a CPU than to compute it twice. The label is compared with the
    positions, which fuses, where the gradient of an index is a scatter into zeros.
    A masked logit -∞ of another class gets gradient 0; if it is the label's, l = ∞. A label outside
    [0, C) makes its row's l NaN, and dz too unless dl is exactly 0, so that such rows can be masked
    afterwards with `jnp.where`; it is never clipped. A row of -∞ only, or with NaN, is NaN.
    There are no kinks.

    Earns its place in accuracy (logits (20, 0), label 0: ∓2.06e-9, where autodiff has 0), and with
    one array of the size of the logits kept, at the speed of autodiff.

    Source: Bridle, 1990; Szegedy et al., Rethinking the inception architecture, 2015 (smoothing).

    Raises:
        TypeError: the logits are not floating point, or the labels no integers.
        ValueError: the shapes do not fit, there is no class, or smoothing is outside [0, 1].

    >>> softmax_cross_entropy(jnp.array([[20.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1]))
    Array([2.0611537e-09, 6.9314718e-01], dtype=float32)
    """
    logits, labels = _logits_and_labels(logits, labels, smoothing)
    z = logits.astype(accumulator(logits))
    m = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    d = z - m
    log_total = jnp.log(jnp.sum(jnp.exp(d), -1))
    loss = log_total - (1 - smoothing) * jnp.sum(jnp.where(_is_label(labels, z), d, 0), -1)
    if smoothing:
        loss = loss - smoothing * jnp.mean(d, -1)
    return jnp.where(_inside(labels, z), loss, jnp.nan).astype(logits.dtype)


def softmax_cross_entropy_forward(logits: Any, labels: Any, *, smoothing: float) -> Any:
    logits, labels = _logits_and_labels(logits, labels, smoothing)
    z = logits.astype(accumulator(logits))
    m = largest(z, -1)
    e = exp_difference(z, m)
    z_label = jnp.take_along_axis(z, labels[..., None], -1, mode="clip")
    d_label, e_label = (jnp.squeeze(f(z_label, m), -1) for f in (jnp.subtract, exp_difference))
    others = jnp.sum(jnp.where(_is_label(labels, z), 0, e), -1)  # (...)
    loss = jnp.log1p(others + (e_label - 1)) - (1 - smoothing) * d_label
    if smoothing:
        loss = loss - smoothing * jnp.mean(z - m, -1)
    loss = jnp.where(_inside(labels, z), loss, jnp.nan).astype(logits.dtype)
    return loss, (e.astype(logits.dtype), others, others + e_label, labels)


def softmax_cross_entropy_backward(res: Any, dl: Any, *, smoothing: float) -> Any:
    e, others, total, labels = res
    share = smoothing / e.shape[-1]
    g = dl.astype(total.dtype)
    # A label outside the classes: NaN, unless the caller has taken the row out of the loss.
    g = jnp.where(_inside(labels, e) | (g == 0), g, jnp.nan)
    p = e.astype(total.dtype) / total[..., None]  # (..., C)
    at_label = (smoothing - share) - (others / total)[..., None]
    dz = jnp.where(_is_label(labels, e), at_label, p - share) * g[..., None]
    return dz.astype(e.dtype), None


def _is_label(labels: Any, logits: Any) -> Any:
    return (
        jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    )


def _inside(labels: Any, logits: Any) -> Any:
    return (labels >= 0) & (labels < logits.shape[-1])


def _logits_and_labels(logits: Any, labels: Any, smoothing: float) -> Any:
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
    # A narrow integer cannot count the classes.
    return logits, labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)


softmax_cross_entropy.defvjp(softmax_cross_entropy_forward, softmax_cross_entropy_backward)


@softmax_cross_entropy.defcases
def softmax_cross_entropy_cases(key: Any) -> Any:
    def accurate(logits: Any, labels: Any, *, smoothing: float = 0.0) -> Any:
        # log(1 + Σ_{j≠y} exp(z_j - z_y)): automatic differentiation sums the others by itself.
        is_label = _is_label(labels, logits)
        z_label = jnp.sum(jnp.where(is_label, logits, 0), -1)
        rest = jnp.sum(jnp.where(is_label, 0, jnp.exp(logits - z_label[..., None])), -1)
        return jnp.log1p(rest) + smoothing * (z_label - jnp.mean(logits, -1))

    def sums_to_zero(args: Any, dl: Any, cotangents: Any) -> Any:
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
    yield Case("masked", (jnp.array([[0.5, -jnp.inf, 1.5]]), jnp.array([2])), kinks=True)
    yield Case("one class", (jnp.ones((3, 1)), jnp.zeros(3, int)))
    yield Case("no rows", (jnp.zeros((0, 3)), jnp.zeros(0, int)))
    tail = jnp.array(
        [[20.0, 0.0, -3.5], [0.0, 40.0, 39.5], [-16.0, -8.0, 24.0], [0.0, 0.25, -80.0]]
    )
    for label in range(3):
        yield Case(f"tail of {label}", (tail, jnp.full(4, label)), laws=laws, reference=accurate)
