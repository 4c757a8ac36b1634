"""Softmax and its logarithm against jax.nn and SciPy, and rows that are masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from witness import gradient_error

from funcnn.rules import log_softmax, softmax

PAIRS = {
    "softmax": (softmax, jax.nn.softmax, scipy.special.softmax),
    "log_softmax": (log_softmax, jax.nn.log_softmax, scipy.special.log_softmax),
}
both = pytest.mark.parametrize("name", PAIRS)


@both
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_value_and_gradient_equal_those_of_jax_nn_and_scipy(name, axis):
    ours, jax_nn, scipys = PAIRS[name]
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x, dy = generator.standard_normal((2, 3, 5, 7))
        y, pullback = jax.vjp(lambda x: ours(x, axis=axis), jnp.asarray(x))
        truth, pullback_truth = jax.vjp(lambda x: jax_nn(x, axis=axis), jnp.asarray(x))
        np.testing.assert_allclose(y, truth, rtol=1e-13)
        np.testing.assert_allclose(y, scipys(x, axis=axis), rtol=1e-13)
        np.testing.assert_allclose(
            pullback(jnp.asarray(dy))[0], pullback_truth(jnp.asarray(dy))[0], rtol=1e-11, atol=1e-14
        )


@both
def test_a_cotangent_on_a_masked_row_stays_finite(name):
    ours = PAIRS[name][0]
    x = jnp.array([[-jnp.inf] * 3, [0.0, -jnp.inf, 1.0]])
    y, pullback = jax.vjp(ours, x)
    dy = jnp.array([[1.0, 2.0, 3.0], [1.0, 0.0, 3.0]])
    dx = np.asarray(pullback(dy)[0])
    assert np.all(np.isfinite(dx))
    assert dx[1, 1] == 0
    if name == "softmax":
        np.testing.assert_array_equal(y[0], np.zeros(3))
        np.testing.assert_array_equal(dx[0], np.zeros(3))
    else:
        np.testing.assert_array_equal(y[0], np.full(3, -np.inf))
        np.testing.assert_array_equal(dx[0], dy[0])


@both
def test_the_masked_element_changes_nothing_for_the_others(name):
    ours = PAIRS[name][0]
    masked, without = jnp.array([0.5, -jnp.inf, 2.0]), jnp.array([0.5, 2.0])
    y, pullback = jax.vjp(ours, masked)
    y_without, pullback_without = jax.vjp(ours, without)
    np.testing.assert_array_equal(np.asarray(y)[[0, 2]], y_without)
    dx = np.asarray(pullback(jnp.array([1.0, 0.0, -3.0]))[0])
    dx_without = np.asarray(pullback_without(jnp.array([1.0, -3.0]))[0])
    np.testing.assert_allclose(dx[[0, 2]], dx_without, rtol=1e-6)


@both
@pytest.mark.parametrize("odd", [jnp.nan, jnp.inf])
def test_nan_and_infinity_show_in_their_row_alone(name, odd):
    ours = PAIRS[name][0]
    y = np.asarray(ours(jnp.array([[odd, 0.0, 1.0], [1.0, 2.0, 3.0]])))
    assert np.isnan(y[0]).any()
    assert np.all(np.isfinite(y[1]))


@both
def test_offset_and_ties_of_every_width(name):
    """Ties are counted, so that the gradient of a row of n equal logits is right for each n."""
    ours, theirs, _ = PAIRS[name]
    with jax.enable_x64(True):
        for n in range(1, 6):
            x = jnp.zeros(5).at[n:].set(-1.0) + 500.0
            dy = jnp.array([1.0, -2.0, 3.0, 0.5, 4.0])
            found = jax.vjp(ours, x)[1](dy)[0]
            np.testing.assert_allclose(found, jax.vjp(theirs, x)[1](dy)[0], rtol=1e-12, atol=1e-15)


def test_planted_mistakes_are_rejected():
    case = next(c for c in softmax.cases() if c.name == "inner axis")

    def wrong_axis(y, dy, *, axis):
        return softmax.backward(y, dy, axis=axis - 1)

    assert gradient_error(softmax.replace(backward=wrong_axis), case)["x"] > 0.1
    ties = next(c for c in log_softmax.cases() if c.name == "ties")

    def every_tie_alone(p, dy, *, axis):
        total = jnp.sum(dy, axis, keepdims=True)
        top = p == jnp.max(p, axis, keepdims=True)
        others = jnp.sum(jnp.where(top, 0, p), axis, keepdims=True)
        return (jnp.where(top, others * dy - p * (total - dy), dy - p * total),)

    assert gradient_error(log_softmax.replace(backward=every_tie_alone), ties)["x"] > 0.1


@both
def test_bad_arguments_are_one_clear_line(name):
    ours = PAIRS[name][0]
    with pytest.raises(ValueError, match=f"^{name}: axis must be between -2 and 1, found 2"):
        ours(jnp.ones((2, 3)), axis=2)
    with pytest.raises(ValueError, match=f"^{name}: x must have at least one axis, found a scalar"):
        ours(jnp.ones(()))
    with pytest.raises(TypeError, match=rf"^{name}: x must be floating point, found int32\[2\]"):
        ours(jnp.array([1, 2]))
