"""Rotary positions against a product of complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.rules import rotary

POSITIONS = [None, np.array([[0, 1, 2, 3]]), np.array([[5, 0, 9, 1000], [2, 2, 3, 4]])]


def turned(x, positions, base):
    """Pair i of x times e^(i position base^(-2 i / W)), in float64."""
    x = np.asarray(x, np.float64)
    half = x.shape[-1] // 2
    t = np.arange(x.shape[1])[None] if positions is None else positions
    angle = t[:, :, None, None] * base ** (-2 * np.arange(half) / x.shape[-1])
    pairs = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([pairs.real, pairs.imag], -1)


@pytest.mark.parametrize("base", [10000.0, 50.0])
@pytest.mark.parametrize("positions", POSITIONS)
def test_it_is_a_product_of_complex_numbers(positions, base):
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 6))
    given = None if positions is None else jnp.asarray(positions)
    found = rotary(x, given, base=base)
    # An angle of 1,000 is known to 6e-5 in float32.
    np.testing.assert_allclose(found, turned(x, positions, base), atol=2e-4)
    assert not np.allclose(turned(x, positions, base / 2), found, atol=2e-4)


@pytest.mark.parametrize(
    ("args", "static", "said"),
    [
        ((jnp.zeros((2, 3, 4)),), {}, "W even"),
        ((jnp.zeros((2, 3, 1, 5)),), {}, "W even"),
        ((jnp.zeros((2, 3, 1, 4)), jnp.zeros((2, 3))), {}, "integers"),
        ((jnp.zeros((2, 3, 1, 4)), jnp.zeros((2, 4), int)), {}, "(B or 1, 3)"),
        ((jnp.zeros((2, 3, 1, 4)), jnp.zeros((3, 3), int)), {}, "2 samples"),
        ((jnp.zeros((2, 3, 1, 4)),), {"base": 1.0}, "above 1"),
    ],
)
def test_a_wrong_call_is_one_line(args, static, said):
    with pytest.raises((TypeError, ValueError)) as error:
        rotary(*args, **static)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
