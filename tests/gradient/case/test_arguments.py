"""Arguments as real arrays: nothing of them is left out, and complex ones come back whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.case.arguments import Parts, of_real_arrays, real_arrays
from funcnn.gradient.check import check

COMPLEX = [3 - 4j, np.complex64(-1 + 2j), np.array([1 - 1j, -2 - 0.5j], np.complex64)]


@pytest.mark.parametrize("z", COMPLEX, ids=["of Python", "of NumPy", "an array"])
def test_a_complex_number_is_its_two_parts(z):
    parts = real_arrays(z)
    assert isinstance(parts, Parts)
    np.testing.assert_array_equal(parts.real, np.real(z))
    np.testing.assert_array_equal(parts.imag, np.imag(z))
    again = of_real_arrays(lambda z: 1j * z)(parts)
    np.testing.assert_array_equal(again.real, -np.imag(z))
    np.testing.assert_array_equal(again.imag, np.real(z))


def test_what_is_no_float_stays_as_it_is():
    given = {"n": 3, "flag": True, "text": "mean", "ids": np.arange(2), "none": None}
    assert real_arrays(given) == given
    number = real_arrays(2.5)
    assert (number.dtype, float(number)) == (jnp.float32, 2.5)


def test_data_of_numpy_beside_params_of_jax_are_what_jax_makes_of_them():
    """Data come in float64, and without x64 JAX computes in float32: the rule must give that."""
    rule = jax.custom_vjp(lambda w, x: x @ w)
    rule.defvjp(lambda w, x: (x @ w, (w, x)), lambda res, g: (res[1].T @ g, g @ res[0].T))
    data = np.random.default_rng(0).normal(size=(4, 3))
    assert data.dtype == np.float64
    with jax.numpy_dtype_promotion("standard"):
        report = check(rule, jnp.ones((3, 2)), data)
    assert report.ok, str(report)
    with jax.enable_x64(True):
        assert real_arrays((data,))[0].dtype == np.float64
    assert real_arrays((data,))[0].dtype == np.float32
