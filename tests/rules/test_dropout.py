"""Dropout: which elements fall, how many, and that the backward pass drops the same ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witness import gradient_error

from funcnn.rules import dropout


@pytest.fixture
def ones():
    return jnp.ones((64, 128))


def test_the_fraction_that_stays_is_within_its_binomial_bounds(ones, key):
    for rate in (0.1, 0.5, 0.9):
        y = np.asarray(dropout(ones, key, rate=rate))
        kept = np.mean(y != 0)
        deviation = np.sqrt(rate * (1 - rate) / y.size)
        assert abs(kept - (1 - rate)) < 4 * deviation
        np.testing.assert_array_equal(np.unique(y), np.array([0, 1 / (1 - rate)], "float32"))


def test_the_mask_is_the_comparison_of_bits_with_the_rate(key):
    """Written out with NumPy: 32 bits, and the probability as an integer."""
    x = jnp.linspace(1.0, 2.0, 35).reshape(5, 7)
    bits = np.asarray(jax.random.bits(key, (5, 7), "uint32")).astype(np.int64)
    expected = np.where(bits >= round(0.3 * 2**32), np.asarray(x) / 0.7, 0)
    np.testing.assert_allclose(dropout(x, key, rate=0.3), expected, rtol=1e-6)


def test_every_dtype_drops_the_same_elements(ones, key):
    with jax.enable_x64(True):
        masks = [
            np.asarray(dropout(ones.astype(d), key, rate=0.4) != 0)
            for d in ("float16", "bfloat16", "float32", "float64")
        ]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_the_gradient_is_dropped_where_the_value_is(ones, key):
    y, pullback = jax.vjp(lambda x: dropout(x, key, rate=0.5), ones)
    np.testing.assert_array_equal(pullback(ones)[0], y)


def test_the_same_key_gives_the_same_mask_and_another_one_another(ones, key):
    first = dropout(ones, key, rate=0.5)
    np.testing.assert_array_equal(first, jax.jit(lambda x: dropout(x, key, rate=0.5))(ones))
    assert np.mean(np.asarray(first != dropout(ones, jax.random.key(1), rate=0.5))) > 0.4


def test_nothing_is_drawn_for_rate_zero(ones, key):
    assert "random_bits" not in str(jax.make_jaxpr(lambda x: dropout(x, key, rate=0))(ones))
    np.testing.assert_array_equal(dropout(ones, key, rate=0), ones)


def test_a_rate_just_below_one_keeps_its_scale_finite(key):
    y = np.asarray(dropout(jnp.ones(100), key, rate=1 - 2.0**-40))
    assert np.all(np.isfinite(y))
    assert np.all(y == 0)


def test_a_key_for_each_element_of_a_batch(key):
    keys = jax.random.split(key, 3)
    x = jnp.ones((3, 50))
    found = jax.vmap(lambda x, k: dropout(x, k, rate=0.5))(x, keys)
    for row, k in zip(found, keys, strict=True):
        np.testing.assert_array_equal(row, dropout(jnp.ones(50), k, rate=0.5))
    assert np.any(np.asarray(found[0] != found[1]))


def test_planted_mistakes_are_rejected():
    case = dropout.cases()[0]

    def unscaled(mask, dy, *, rate):
        return jnp.where(mask, dy, 0), None

    def inverted(mask, dy, *, rate):
        return dropout.backward(~mask, dy, rate=rate)

    for backward in (unscaled, inverted):
        assert gradient_error(dropout.replace(backward=backward), case)["x"] > 0.1


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.1, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate, key):
    for f in (dropout, dropout.reference):
        with pytest.raises(ValueError, match=r"^dropout: rate is the probability of dropping"):
            f(jnp.ones(3), key, rate=rate)


def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(TypeError, match=r"^dropout: key must be a typed key, .* found uint32\[2\]"):
        dropout(jnp.ones(3), jax.random.key_data(key), rate=0.5)
    with pytest.raises(TypeError, match=r"found NoneType"):
        dropout(jnp.ones(3), None, rate=0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"^dropout: key must be one key, found keys of shape \(2,"):
        dropout(jnp.ones(3), jax.random.split(key), rate=0.5)
    with pytest.raises(TypeError, match=r"^dropout: x must be floating point"):
        dropout(jnp.ones(3, int), key, rate=0.5)
