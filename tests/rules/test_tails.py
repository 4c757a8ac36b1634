"""Gradients where one class has it all, or an activation is saturated; mpmath is the truth.

The textbook forms are exactly 0 there, and each test rejects them. The bounds are the worst errors
that were measured, in units in the last place, with a margin of two.
"""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from witness import ulp_error

from funcnn import rules

mpmath.mp.dps = 60
DTYPES = ("float32", "bfloat16", "float64")
# Multiples of 1/4 below 128: exact in bfloat16 up to 64, with exact differences.
SPREADS = (0.0, 0.25, 1.0, 5.0, 12.0, 20.0, 31.0, 48.0, 64.0, 80.0)
ROWS = [(s, 0.0, -1.0, min(s, 2.0)) for s in SPREADS] + [(-s / 2, s / 2, 0.0, 1.0) for s in SPREADS]


def exact(values):
    return np.vectorize(mpmath.mpf)(np.asarray(values, np.float64))


def as_float(values):
    return np.asarray(values, object).astype(np.float64)


def worst(found, truth, dtype):
    """The worst error in ulp of the dtype, an exact 0 in place of a normal number counting.

    Where the truth is below the normal numbers, XLA:CPU flushes to 0: there only smallness counts.
    """
    truth = as_float(truth)
    found = np.asarray(found).astype(np.float64)
    assert found.shape == truth.shape
    assert np.all(np.isfinite(found))
    tiny = float(jnp.finfo(dtype).tiny)
    normal = np.abs(truth) >= tiny
    assert np.all(np.abs(found[~normal]) <= tiny)
    assert normal.any()
    if np.any(found[normal] == 0):
        return np.inf
    return float(ulp_error(found, truth, dtype)[normal].max())


def true_softmax(row):
    row = exact(row)
    e = np.array([mpmath.exp(z) for z in row])
    return e / e.sum()


def rows_of(dtype):
    return [np.asarray(jnp.array(r, dtype).astype(jnp.float64)) for r in ROWS]


def row_gradients(f, z, *others):
    """The gradient of each row of f(z, *others), whose cotangent is 1."""
    y, pullback = jax.vjp(lambda z: f(z, *others), z)
    return pullback(jnp.ones_like(y))[0]


def naive_cross_entropy():
    def backward(res, dl, **static):
        e, _, total, labels, _ = res
        one_hot = jax.nn.one_hot(labels, e.shape[-1], dtype=total.dtype)
        p = e.astype(total.dtype) / total[..., None]
        return ((p - one_hot) * dl[..., None].astype(total.dtype)).astype(e.dtype), None, None

    return rules.softmax_cross_entropy.replace(backward=backward)


# Measured, of gradient and value: 1.6 in float32, 0.8 in bfloat16, 2 in float64.
CROSS_ENTROPY_ULPS = {"float32": 4.0, "bfloat16": 2.0, "float64": 4.0}


def cross_entropy_ulps(rule, dtype):
    """The worst error of gradient and value, over every row with each class as the label."""
    with jax.enable_x64(True):
        z = jnp.array(ROWS, dtype)
        gradient = value = 0.0
        for label in range(z.shape[1]):
            labels = jnp.full(z.shape[0], label, jnp.int32)
            found = row_gradients(rule, z, labels)
            p = np.stack([true_softmax(r) for r in rows_of(dtype)])
            truth = p.copy()
            truth[:, label] = [-(row.sum() - row[label]) for row in p]
            gradient = max(gradient, worst(found, truth, dtype))
            losses = [-mpmath.log1p(-(row.sum() - row[label])) for row in p]
            value = max(value, worst(rule(z, labels), losses, dtype))
        return gradient, value


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_keeps_its_digits_whichever_class_is_the_label(dtype):
    gradient, value = cross_entropy_ulps(rules.softmax_cross_entropy, dtype)
    assert gradient < CROSS_ENTROPY_ULPS[dtype]
    assert value < CROSS_ENTROPY_ULPS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_by_subtraction_is_rejected(dtype):
    assert cross_entropy_ulps(naive_cross_entropy(), dtype)[0] == np.inf


def test_smoothing_keeps_the_other_classes():
    z = jnp.array([[30.0, 0.0, 0.0, 0.0]])
    dz = row_gradients(lambda z: rules.softmax_cross_entropy(z, jnp.array([0]), smoothing=0.125), z)
    p = true_softmax(np.asarray(z[0]))
    target = [0.875 + 0.125 / 4, *[0.125 / 4] * 3]
    assert worst(dz[0], [a - t for a, t in zip(p, target, strict=True)], "float32") < 2


def log_softmax_ulps(rule, dtype):
    """Two logits, spread 0 to 30, one-hot cotangents: where autodiff is off by 1.7e7."""
    with jax.enable_x64(True):
        spreads = np.arange(0, 30.25, 0.25)
        z = jnp.array(np.stack([spreads, np.zeros_like(spreads)], 1), dtype)
        error = 0.0
        for k in (0, 1):
            dy = jnp.zeros_like(z).at[:, k].set(1)
            found = jax.vjp(lambda z: rule(z), z)[1](dy)[0]
            p = np.stack([true_softmax(row) for row in np.asarray(z.astype(jnp.float64))])
            truth = -p
            truth[:, k] = p[:, 1 - k]
            error = max(error, worst(found, truth, dtype))
        return error


# Measured: 1.5 in float32, 0.7 in bfloat16, 2 in float64.
LOG_SOFTMAX_ULPS = {"float32": 3.0, "bfloat16": 1.5, "float64": 4.0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_on_two_logits(dtype):
    assert log_softmax_ulps(rules.log_softmax, dtype) < LOG_SOFTMAX_ULPS[dtype]


def test_automatic_log_softmax_on_two_logits_is_rejected():
    assert log_softmax_ulps(rules.log_softmax.reference, "float32") > 1e6
    assert log_softmax_ulps(jax.nn.log_softmax, "float32") > 1e6


def softmax_ulps(rule, dtype):
    with jax.enable_x64(True):
        z = jnp.array(ROWS, dtype)
        error = 0.0
        for k in range(z.shape[1]):
            dy = jnp.zeros_like(z).at[:, k].set(1)
            found = jax.vjp(lambda z: rule(z), z)[1](dy)[0]
            p = np.stack([true_softmax(r) for r in rows_of(dtype)])
            truth = -p * p[:, k : k + 1]
            truth[:, k] = [row[k] * (row.sum() - row[k]) for row in p]
            error = max(error, worst(found, truth, dtype))
        return error


# Measured: 3.5 in float32, 1.5 in bfloat16, 5 in float64; y is kept rounded.
SOFTMAX_ULPS = {"float32": 7.0, "bfloat16": 3.0, "float64": 10.0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_keeps_its_digits(dtype):
    assert softmax_ulps(rules.softmax, dtype) < SOFTMAX_ULPS[dtype]


def test_softmax_without_the_shift_is_rejected():
    def backward(y, dy, *, axis):
        return (y * (dy - jnp.sum(y * dy, axis, keepdims=True)),)

    assert softmax_ulps(rules.softmax.replace(backward=backward), "float32") == np.inf
    assert softmax_ulps(jax.nn.softmax, "float32") == np.inf


POINTS = np.array([-80.0, -48.0, -20.0, -9.5, -2.0, 0.0, 0.5, 2.0, 9.5, 20.0, 48.0, 80.0])


def sigma(x):
    return 1 / (1 + mpmath.exp(-x))


# name -> truth of the derivative, points, and the worst error measured in all dtypes.
SLOPES = {
    "sigmoid": (lambda x: sigma(x) * sigma(-x), POINTS, 1.5),
    "tanh": (lambda x: mpmath.sech(x) ** 2, POINTS[np.abs(POINTS) < 40], 1.6),
    "elu": (lambda x: mpmath.exp(x) if x <= 0 else mpmath.mpf(1), POINTS, 1.0),
    "softplus": (sigma, POINTS, 3.4),
    "silu": (lambda x: sigma(x) * (1 + x * sigma(-x)), POINTS, 3.0),
}


def slope_ulps(rule, truth, points, dtype):
    with jax.enable_x64(True):
        x = jnp.array(points, dtype)
        exact_x = exact(np.asarray(x.astype(jnp.float64)))
        return worst(row_gradients(rule, x), [truth(v) for v in exact_x], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SLOPES)
def test_activation_keeps_its_digits_where_it_is_saturated(name, dtype):
    truth, points, measured = SLOPES[name]
    assert slope_ulps(getattr(rules, name), truth, points, dtype) < 2 * measured


@pytest.mark.parametrize(
    ("name", "from_output"),
    [
        ("sigmoid", lambda y: y * (1 - y)),
        ("tanh", lambda y: 1 - y * y),
        ("elu", lambda y: jnp.where(y > 0, 1, y + 1)),
    ],
)
def test_a_derivative_from_a_saturated_output_is_rejected(name, from_output):
    rule = getattr(rules, name)
    wrong = rule.replace(
        forward=lambda x, **static: (rule.reference(x, **static),) * 2,
        backward=lambda y, dy, **static: (dy * from_output(y),),
    )
    truth, points, _ = SLOPES[name]
    for dtype in ("float32", "float64"):
        assert slope_ulps(wrong, truth, points, dtype) == np.inf


def logistic_ulps(rule, dtype, target):
    with jax.enable_x64(True):
        z = jnp.array(POINTS, dtype)
        t = jnp.full(z.shape, target, dtype)
        points = exact(np.asarray(z.astype(jnp.float64)))
        slopes = [(1 - target) * sigma(v) - target * sigma(-v) for v in points]
        losses = [mpmath.log1p(mpmath.exp(-v if target else v)) for v in points]
        gradient = worst(row_gradients(rule, z, t), slopes, dtype)
        return gradient, worst(rule(z, t), losses, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [0, 1])
def test_logistic_keeps_its_digits(dtype, target):
    gradient, value = logistic_ulps(rules.logistic, dtype, target)
    assert gradient < 3
    assert value < 3


def test_logistic_by_subtraction_is_rejected():
    def backward(res, dl, **static):
        z, t, _ = res
        return dl * (jax.lax.logistic(z) - t), -z * dl, None

    assert logistic_ulps(rules.logistic.replace(backward=backward), "float32", 1)[0] == np.inf

    def textbook(z, t):
        return jnp.logaddexp(z, 0) - t * z

    assert logistic_ulps(textbook, "float32", 1)[0] == np.inf
