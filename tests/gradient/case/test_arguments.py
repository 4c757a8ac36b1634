"""Arguments as real arrays: nothing of them is left out, and complex ones come back whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.case.arguments import Parts, of_real_arrays, real_arrays

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
