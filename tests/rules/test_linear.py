"""The linear map against NumPy and flax, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from witness import gradient_error

from funcnn.rules import linear


def test_value_and_gradient_equal_those_of_flax(key):
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x, dy = generator.standard_normal((2, 3, 5)), generator.standard_normal((2, 3, 7))
        w, b = generator.standard_normal((5, 7)), generator.standard_normal(7)
        dense = linen.Dense(7, param_dtype=jnp.float64)

        def flax(x, w, b):
            with jax.numpy_rank_promotion("allow"):
                return dense.apply({"params": {"kernel": w, "bias": b}}, x)

        y, pullback = jax.vjp(linear, x, w, b)
        truth, pullback_truth = jax.vjp(flax, x, w, b)
        np.testing.assert_allclose(y, np.asarray(truth), rtol=1e-13)
        for found, expected in zip(pullback(dy), pullback_truth(dy), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_bias_gradient_is_summed_in_float32():
    """A sum of 4096 ones in bfloat16 stops at 256."""
    x, w, b = jnp.ones((4096, 1)), jnp.ones((1, 1)), jnp.ones(1)
    low = [a.astype(jnp.bfloat16) for a in (x, w, b)]
    y, pullback = jax.vjp(linear, *low)
    dx, dw, db = pullback(jnp.ones_like(y))
    assert [float(dw[0, 0]), float(db[0])] == [4096.0, 4096.0]
    assert dx.dtype == dw.dtype == db.dtype == jnp.bfloat16


def test_the_weight_gradient_is_one_matrix_product():
    x, w, b = jnp.ones((2, 3, 5)), jnp.ones((5, 7)), jnp.ones(7)
    y, pullback = jax.vjp(linear, x, w, b)
    text = str(jax.make_jaxpr(pullback)(y))
    assert text.count("dot_general") == 2  # dx and dw
    assert "transpose[" not in text


def test_planted_mistakes_are_rejected():
    case = linear.cases()[0]

    def bias_averaged(res, dy):
        dx, dw, db = linear.backward(res, dy)
        return dx, dw, db / dy.shape[0]

    def rows_lost(res, dy):
        x, w, b = res
        return linear.backward((x, w, b), dy.at[0].set(0))

    errors = gradient_error(linear.replace(backward=bias_averaged), case)
    assert [name for name, e in errors.items() if e > 0.1] == ["b"]
    errors = gradient_error(linear.replace(backward=rows_lost), case)
    assert min(errors.values()) > 0.1


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (([[1, 2]], [[1.0], [2.0]]), TypeError, "x must be floating point, found int32[1, 2]"),
        (([1.0, 2.0], [1.0, 2.0]), ValueError, "w must have shape (D, K), found float32[2]"),
        (([1.0, 2.0], [[1.0]]), ValueError, "the last axis of x must have the 1 rows of w"),
        ((1.0, [[1.0]]), ValueError, "found x float32[] and w float32[1, 1]"),
        (([1.0], [[1.0]], [1.0, 2.0]), ValueError, "b must have shape (1,)"),
        (([1.0], [[1.0]], 1.0), ValueError, "found float32[]"),
    ],
)
@pytest.mark.parametrize("f", [linear, linear.reference], ids=["rule", "reference"])
def test_bad_arguments_are_one_clear_line(f, args, error, message):
    with pytest.raises(error) as caught:
        f(*(jnp.array(a) for a in args))
    assert message in str(caught.value)
    assert str(caught.value).startswith("linear: ")
    assert "\n" not in str(caught.value)


def test_two_dtypes_are_refused():
    with pytest.raises(TypeError, match="linear: x and w must have one dtype, found bfloat16"):
        linear(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4)))
