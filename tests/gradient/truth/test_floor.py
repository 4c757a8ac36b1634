"""What a last place of the inputs does to a gradient: it breaks no tie, and does no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import check
from funcnn.gradient.truth.floor import draws

UNIT = 2.0**-25


def moved(gradient, x, count=4):
    truth = gradient(x)
    return [each - truth for each in draws(gradient, x, truth, UNIT, count)]


def test_each_draw_changes_a_smooth_gradient_by_a_last_place_of_the_inputs():
    x = [np.linspace(1.0, 2.0, 5)]
    changes = moved(lambda x: np.exp(x[0]), x)
    for change in changes:
        relative = np.abs(change) / (x[0] * np.exp(x[0]))
        assert np.all((relative > 0.8 * UNIT) & (relative < 1.1 * UNIT))
    signs = {tuple(np.sign(change)) for change in changes}
    assert len(signs) > 1  # else the draws are one


def test_a_tie_that_breaks_is_no_change():
    """The gradient of max at a tie is a half each, and one of one a last place beside."""

    def gradient(x):
        equal = x[0] == np.max(x[0])
        return equal / np.sum(equal) * x[1]

    for change in moved(gradient, [np.ones(2), np.full(2, 3.0)]):
        assert np.all(np.abs(change) < 4 * UNIT * 3.0)


def test_what_is_not_finite_beside_the_point_is_not_hidden():
    """NaN of a draw stays NaN: the truth beside says nothing, and that is said."""
    change, *_ = moved(lambda x: np.where(x[0] == 1.0, 1.0, np.nan), [np.ones(3)])
    assert np.all(np.isnan(change))


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_a_tie_does_not_hide_a_factor_in_the_dtype_given(factor):
    def largest(x):
        return jnp.max(x) ** 2

    def backward(x, dy):
        wrong = factor if x.dtype == jnp.float32 else 1.0
        equal = (x == jnp.max(x)).astype(x.dtype)
        return (dy * 2 * x * equal / jnp.sum(equal) * wrong,)

    rule = jax.custom_vjp(largest)
    rule.defvjp(lambda x: (largest(x), x), backward)
    report = check(rule, jnp.array([1.0, 2.0, 2.0]))
    assert ("OK" in report.conclusion()) is (factor == 1.0), str(report)
