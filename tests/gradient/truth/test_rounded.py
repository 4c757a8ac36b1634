"""An element that the others outweigh is no less wrong; one that rounding explains is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census


def rule(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda *args: (f(*args), args), backward)
    return made


def tools(f, *args):
    """Whether compare and census find a function right."""
    whole = compare(lambda *args: jnp.sum(f(*args)), *args, pairs=0, cost=False)
    return whole, census(f, *args)


@pytest.mark.parametrize("factor", [1.0, 1.5, 7.0])
@pytest.mark.parametrize(
    ("dtype", "small"), [("float32", 1e-5), ("float32", 1e-12), ("bfloat16", 1e-3)]
)
def test_a_small_element_among_large_ones(factor, dtype, small):
    def backward(res, dy):
        d = 2 * res[0] * dy
        return (d.at[0].multiply(jnp.asarray(factor, d.dtype)),)

    square = rule(lambda x: x * x, backward)
    for report in tools(square, jnp.array([small, 1.0, 2.0, 3e3], dtype)):
        assert report.ok is (factor == 1.0), str(report)
        assert ("single elements: worst at [0]" in str(report)) is (factor != 1.0)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_elements_that_cancel_are_what_rounding_leaves(factor):
    """Each order of summation leaves other noise of terms that cancel."""
    random = np.random.default_rng(0)
    terms = random.normal(size=(400, 300)).astype(np.float32)
    terms[200:] = -terms[:200] * (1 + 1e-7 * random.normal(size=(200, 300)).astype(np.float32))
    terms[0, 0] = 1e4

    def backward(res, dy):
        (x,) = res
        halves = x[::2].sum(0) + x[1::2].sum(0)  # another order than autodiff's
        return (jnp.broadcast_to(halves * dy, x.shape).at[0, 1].multiply(1.0),)

    def f(x):
        return jnp.sum(x.sum(0) ** 2) / 2

    def wrong(res, dy):
        (d,) = backward(res, dy)
        return (factor * d,)

    made = rule(f, wrong)
    for report in tools(made, jnp.asarray(terms)):
        assert report.ok is (factor == 1.0), str(report)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_one_element_of_a_loop_that_loses_digits(factor):
    """In the loop a number cancels, so that one element of the gradient is rounding alone."""

    def f(x):
        def step(carry, _):
            return (carry + 1e4) - 1e4, None

        y, _ = jax.lax.scan(step, x, None, 3)
        return y * y

    def forward(x):
        y = x
        for _ in range(3):
            y = (y - 1e4) + 1e4
        return f(x), y

    made = jax.custom_vjp(f)
    made.defvjp(forward, lambda y, dy: (factor * 2 * y * dy,))
    x = jnp.array([1e-3, 5.0, 300.0])
    found = check(made, x, level="full")
    rounded = [r for r in found.results if r.check == "rounding" and r.dtype == "float32"]
    assert [r.verdict for r in rounded] == ["pass" if factor == 1.0 else "fail"], str(found)
    for report in tools(made, x):
        assert report.ok is (factor == 1.0), str(report)
