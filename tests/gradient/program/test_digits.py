"""A program in many digits gives what JAX gives, as far as float64 goes, and mpmath beyond that."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

from funcnn.gradient.program import digits
from funcnn.gradient.program.digits import Digits, NoDigits, in_digits

X = np.array([[0.3, -0.7, 0.2], [0.9, 0.1, -0.4]])  # (2, 3)
OF_TWO = {"add", "add_any", "sub", "mul", "div", "max", "min", "pow", "atan2"}
ONE_NUMBER = [name for name in digits._NUMBERS if name not in OF_TWO]
PROGRAMS = {
    "arithmetic": lambda x: (x + 2 - x * x) / (3 + x),
    "of two": lambda x: jnp.arctan2(x, 0.5) + jnp.maximum(x, 0.1) * jnp.minimum(x, -x),
    "powers": lambda x: (x * x) ** 0.3 + x**3 + (2 + x) ** -2,
    "tests": lambda x: jnp.where((x > 0.1) & (x <= 0.9) | (x == 0.2), x, jnp.abs(x)),
    "sums": lambda x: x.sum(0) + x.max() * x.min() + x.prod(1).sum(),
    "products": lambda x: jnp.einsum("ij,kj->ik", x, x) @ x,
    "batches of products": lambda x: jnp.einsum("bi,bij->bj", x, x[:, :, None] * x[:, None]),
    "moves": lambda x: jnp.concatenate([x.T[::-1], jnp.pad(x, 1)[1:4, :2]]) * 2,
    "index": lambda x: x[jnp.array([1, 0, 1]), jnp.array([2, 0, -1])],
    "out of range": lambda x: x.at[5].get(mode="fill", fill_value=3.0) + x[0],
    "rounding": lambda x: jnp.clip(jnp.floor(3 * x) + jnp.ceil(x), -1, 1),
    "integers": lambda x: (jnp.arange(6).reshape(2, 3) + (4 * x).astype(int)).astype(float) * x,
    "branch": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "scan": lambda x: lax.scan(lambda c, row: (c * row, c + row), x[0], x, reverse=True),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2 + 1, x),
    "calls": lambda x: jax.nn.softplus(x) + jax.nn.relu(x) + jax.jit(jnp.cosh)(x),
    "softmax": lambda x: jax.nn.log_softmax(x, 1) + jax.nn.softmax(x, 0),
}


def assert_same(f, x):
    with jax.enable_x64(True), mpmath.workdps(40):
        program = jax.make_jaxpr(f)(x)
        found = Digits(10_000)(program, [in_digits(x)])
        assert found
        for y, expected in zip(found, jax.tree.leaves(f(jnp.asarray(x))), strict=True):
            np.testing.assert_allclose(np.asarray(y, float), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    assert_same(PROGRAMS[name], X)


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_functions_of_one_number(name):
    above = {"acosh": 2.0, "log": 1.0, "sqrt": 1.0, "rsqrt": 1.0, "lgamma": 1.5, "digamma": 1.5}
    assert_same(getattr(lax, name), X + above.get(name, 0.0))


def test_more_digits_than_float64():
    with jax.enable_x64(True), mpmath.workdps(50):
        program = jax.make_jaxpr(lambda x: (jnp.expm1(x) - x) / x**2)(1e-18)
        (y,) = Digits(100)(program, [in_digits(np.float64(1e-18))])
        assert abs(y.item() - mpmath.mpf(1) / 2) < 1e-17


@pytest.mark.parametrize("f", [lambda x: jnp.log(x), lambda x: 0 * x / (x - x), jnp.sqrt])
def test_what_is_not_defined_is_nan(f):
    with jax.enable_x64(True):
        program = jax.make_jaxpr(f)(-1.0)
        (y,) = Digits(100)(program, [in_digits(np.float64(-1.0))])
    assert mpmath.isnan(y.item())


def test_nan_passes_through_a_maximum():
    x = np.array([1.0, np.nan, 2.0])
    for f in (jnp.max, jnp.min, lambda x: jnp.maximum(x, 0.0)[1], lambda x: jnp.minimum(0.0, x)[1]):
        with jax.enable_x64(True):
            (y,) = Digits(100)(jax.make_jaxpr(f)(x), [in_digits(x)])
        assert mpmath.isnan(np.asarray(y).item())


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (jnp.sort, "sort is not done in digits"),
        (jnp.signbit, "bitcast_convert_type is not done"),
        (lambda x: lax.reduce_precision(x, 8, 7), "reduce_precision is not done"),
        (lambda x: jnp.fft.fft(x).real, "complex|fft"),
        (lambda x: jax.lax.fori_loop(0, 1000, lambda _, c: c + 1, x), "more numbers than may be"),
    ],
)
def test_what_is_not_done(f, line):
    x = np.ones(3)
    with jax.enable_x64(True):
        program = jax.make_jaxpr(f)(x)
        with pytest.raises(NoDigits, match=line):
            Digits(1000)(program, [in_digits(x)])
