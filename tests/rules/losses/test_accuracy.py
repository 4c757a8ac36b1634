"""How many digits the gradients of the losses keep, whatever the spread of the logits.

The truth is that of the float32 logits. Their softmax in float64 is right to 1e-13, and no element
of the truth is a difference of two others: that of the label is the sum over the other classes.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from witness import ulp_error

from funcnn import rules

# In funcnn.rules the name softmax is the rule.
softmax_module = importlib.import_module("funcnn.rules.softmax")
cross_entropy_module = importlib.import_module("funcnn.rules.losses.cross_entropy")

TINY = float(np.finfo(np.float32).tiny)
CLASSES = (2, 10, 1000)
SPREADS = (1, 10, 30)
MOST, SHARE, WORST = 4, 0.999, 8  # 99.9 % of the elements within 4 ulps, all within 8
every_problem = pytest.mark.parametrize(
    ("classes", "spread"), [(c, s) for c in CLASSES for s in SPREADS]
)


@functools.cache
def logits(classes, spread):
    rows = 100 if classes < 1000 else 8
    z = np.random.default_rng([classes, spread]).standard_normal((rows, classes))
    return (spread * z).astype(np.float32)


def labels_of(z):
    """Every class as the label of all rows; for 1,000 some, and the largest of each row."""
    rows, classes = z.shape
    chosen = range(classes) if classes < 1000 else range(0, 1000, 61)
    return [*(np.full(rows, k) for k in chosen), z.argmax(-1), z.argmin(-1)]


def true_softmax(z):
    z = z.astype(np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def true_cross_entropy(p, is_label):
    return np.where(is_label, -np.where(is_label, 0, p).sum(-1, keepdims=True), p)


def true_log_softmax(p, is_label):
    return -true_cross_entropy(p, is_label)


def true_softmax_gradient(p, is_label):
    p_label = p[is_label][:, None]
    return -p_label * true_cross_entropy(p, is_label)


def pull_from_label(f):
    """z, one-hot cotangent -> dz."""
    return jax.jit(lambda z, one_hot: jax.vjp(f, z)[1](one_hot)[0])


def pull_cross_entropy(f):
    def gradient(z, one_hot):
        labels = jnp.argmax(one_hot, -1)
        return jax.vjp(lambda z: f(z, labels), z)[1](jnp.ones(len(z), z.dtype))[0]

    return jax.jit(gradient)


LOSSES = {
    "log_softmax": (rules.log_softmax, pull_from_label, true_log_softmax),
    "softmax": (rules.softmax, pull_from_label, true_softmax_gradient),
    "softmax_cross_entropy": (rules.softmax_cross_entropy, pull_cross_entropy, true_cross_entropy),
}


def errors_of(found, truth):
    """In ulps; infinite for an exact 0 where the truth is a normal number.

    Where it is none, XLA:CPU flushes to 0, and only smallness counts.
    """
    found = np.asarray(found, np.float64)
    normal = np.abs(truth) >= TINY
    small = np.where(np.abs(found) <= 2 * TINY, 0, np.inf)[~normal]
    in_ulps = np.where(found == 0, np.inf, ulp_error(found, truth, "float32"))[normal]
    return in_ulps if small.sum() == 0 else np.append(in_ulps, np.inf)


def errors_on(name, z, rule=None):
    ours, make_pull, truth_of = LOSSES[name]
    pull, p = make_pull(rule or ours), true_softmax(z)
    found = []
    for labels in labels_of(z):
        one_hot = np.eye(z.shape[1], dtype=np.float32)[labels]
        found.append(errors_of(pull(z, one_hot), truth_of(p, one_hot == 1)))
    return np.concatenate(found)


def within(errors):
    return np.mean(errors <= MOST) >= SHARE and errors.max() <= WORST


@every_problem
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_within_four_ulps(name, classes, spread):
    errors = errors_on(name, logits(classes, spread))
    assert errors.size > 200
    assert within(errors), (np.mean(errors <= MOST), errors.max())


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("spread", SPREADS)
def test_logistic_is_within_four_ulps(spread, target):
    z = logits(1000, spread).ravel()
    t = jnp.full(z.shape, float(target))
    dz = jax.jit(jax.grad(lambda z: jnp.sum(rules.logistic(z, t))))(z)
    precise = z.astype(np.float64)
    truth = -1 / (1 + np.exp(precise)) if target else 1 / (1 + np.exp(-precise))
    assert within(errors_of(dz, truth))


@pytest.mark.parametrize("name", LOSSES)
def test_automatic_gradient_is_rejected(name):
    reference = LOSSES[name][0].reference
    for classes in CLASSES:
        assert not within(errors_on(name, logits(classes, 30), reference))


@pytest.mark.parametrize("name", LOSSES)
def test_a_forward_pass_that_drops_the_rounding_error_of_the_difference_is_rejected(
    name, monkeypatch
):
    def plain(x, m):
        return jnp.exp(x - m)

    for home in (softmax_module, cross_entropy_module):
        monkeypatch.setattr(home, "exp_difference", plain)
    rule = LOSSES[name][0].replace()
    for classes in CLASSES:
        assert not within(errors_on(name, logits(classes, 30), rule))


def test_a_softmax_whose_sum_is_not_corrected_is_rejected():
    def backward(y, dy, *, axis):
        h = dy - jnp.sum(jnp.where(y > 0.5, dy, 0), axis, keepdims=True)
        return (y * (h - jnp.sum(y * h, axis, keepdims=True)),)

    rule = rules.softmax.replace(backward=backward)
    assert not within(errors_on("softmax", logits(10, 10), rule))


def test_a_softmax_that_always_shifts_by_the_largest_is_rejected():
    """Where the largest has a small share, the shift makes small gradients differences."""

    def backward(y, dy, *, axis):
        top = y == jnp.max(y, axis, keepdims=True)
        h = dy - jnp.sum(jnp.where(top, dy, 0), axis, keepdims=True)
        return (y * (h - jnp.sum(y * h, axis, keepdims=True)),)

    rule = rules.softmax.replace(backward=backward)
    assert not within(errors_on("softmax", logits(1000, 1), rule))


def test_the_truth_in_float64_is_that_of_mpmath():
    with mpmath.workdps(40):  # the setting is global, and other tests need more
        for spread in SPREADS:
            z = logits(10, spread)[:3]
            for row, p in zip(z, true_softmax(z), strict=True):
                e = [mpmath.exp(mpmath.mpf(float(v)) - mpmath.mpf(float(row.max()))) for v in row]
                exact = [float(v / sum(e)) for v in e]
                np.testing.assert_allclose(p, exact, rtol=1e-13)
