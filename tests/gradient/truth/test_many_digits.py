"""Slopes in many digits: exact where there is one, else NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from funcnn.gradient.program import digits
from funcnn.gradient.truth.many_digits import slopes_in_digits


def slopes(f, x, leaf=0):
    x = [np.asarray(each, np.float64) for each in x]
    with jax.enable_x64(True):
        w = [np.ones(out.shape) for out in jax.eval_shape(lambda *x: [f(*x)], *x)]
        return slopes_in_digits(lambda *x: [f(*x)], x, w, leaf, np.arange(x[leaf].size))


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: jnp.where(x == 0, 1, jnp.sin(x) / x), 0.0, 0.0),
        (lambda x: jnp.where(x == 1, -1, jnp.log(x) / (1 - x)), 1.0, 0.5),
        (lambda x: (1 - jnp.cos(x)) / x**2, 1e-9, -1e-9 / 12),
        (jax.scipy.special.erf, 0.3, 2 / np.sqrt(np.pi) * np.exp(-0.09)),
        (jax.scipy.special.gammaln, 2.5, special.digamma(2.5)),
    ],
)
def test_what_has_one_slope(f, x, expected):
    found = slopes(f, [x])
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-20)


@pytest.mark.parametrize(
    "f",
    [
        jnp.abs,
        lambda x: 1 + jnp.abs(x),
        lambda x: jnp.maximum(x, 2 * x),
        lambda x: jnp.where(x > 0, 1.0, 0.0) + x,
        lambda x: jnp.where(x == 0, 1e-6, x),
        lambda x: jnp.where(x == 0, 0.0, jnp.log(x)),
    ],
)
def test_what_has_none(f):
    found = slopes(f, [0.0])
    assert found is not None
    assert np.isnan(found)


def test_the_elements_of_one_leaf():
    found = slopes(lambda x, y: (x * y).sum() + y.prod(), [[2.0, 3.0], [5.0, 7.0]], leaf=1)
    np.testing.assert_array_equal(found, [2.0 + 7.0, 3.0 + 5.0])


def test_what_an_operation_raises_is_no_answer(monkeypatch):
    monkeypatch.setitem(digits._NUMBERS, "sin", lambda x: x.no_such_attribute)
    assert slopes(jnp.sin, [1.0]) is None


def test_what_is_too_large_or_not_done_has_no_answer(monkeypatch):
    assert slopes(jnp.sort, [np.ones(3)]) is None
    assert slopes(jnp.sin, [np.ones(17)]) is None
    assert slopes(jnp.sin, [np.inf]) is None
    monkeypatch.setattr("funcnn.gradient.truth.many_digits._NUMBERS", 10)
    assert slopes(jnp.sin, [np.ones(3)]) is None
