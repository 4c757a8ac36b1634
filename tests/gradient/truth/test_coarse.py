"""Differences in a low precision: sure of a large mistake, silent about all else."""

import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.truth.coarse import coarse_slope, contradicted

RANDOM = np.random.default_rng(3)
X = np.asarray(RANDOM.uniform(0.5, 2.0, 6), np.float32)
W = [np.ones(6)]
SMOOTH = {
    "sine": (np.sin, np.cos),
    "exponential": (np.exp, np.exp),
    "logarithm": (np.log, lambda x: 1 / x),
    "large numbers": (lambda x: 1e6 * x**2, lambda x: 2e6 * x),
    "an offset": (lambda x: 10 + x**2, lambda x: 2 * x),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_right_gradient_is_never_contradicted(name, dtype):
    f, slope = SMOOTH[name]
    x = np.asarray(jnp.asarray(X, dtype))

    def narrow(x):
        return [np.asarray(jnp.asarray(f(x.astype(np.float32)), dtype))]

    assert contradicted(narrow, (x,), 0, slope(x.astype(np.float64)), W) == ""


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.9, 1.2, 7.0, np.nan, np.inf])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_wrong_one_is(name, factor):
    f, slope = SMOOTH[name]
    assert contradicted(lambda x: [f(x)], (X,), 0, factor * slope(X), W)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: [abs(x - 1)],  # a kink at the point
        lambda x: [np.maximum(x - 1, 0)],
        lambda x: [np.round(x)],  # a jump beside it
        lambda x: [1e7 + x],  # nothing is left of the digits
        lambda x: [np.where(x > 1, np.nan, x)],
        lambda x: [0 * x],
    ],
)
def test_where_differences_are_unsure_there_is_no_slope(f):
    x = np.ones(1, np.float32)
    assert coarse_slope(f, (x,), 0, np.ones(1), [np.ones(1)]) is None
    assert contradicted(f, (x,), 0, np.full(1, 7.0), [np.ones(1)]) == ""


def test_other_leaves_stay_where_they_are():
    def product(a, b):
        return [a * b]

    a, b = X, 2 * X
    assert contradicted(product, (a, b), 1, a, W) == ""
    assert contradicted(product, (a, b), 1, b, W)
