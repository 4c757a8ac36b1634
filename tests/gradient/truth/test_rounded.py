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


@pytest.mark.slow
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


# What everybody writes, where its own terms cancel and autodiff's do not


def saved(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda *args: (f(*args), (f(*args), *args)), backward)
    return made


def softmax(factor):
    def f(x):
        e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def backward(res, dy):
        y = res[0]
        return (factor * y * (dy - jnp.sum(y * dy, -1, keepdims=True)),)

    return saved(f, backward), (jnp.array([[0.0, 12.0]]),)


def sigmoid(factor):
    def f(x):
        return 1 / (1 + jnp.exp(-x))

    return saved(f, lambda res, dy: (factor * dy * res[0] * (1 - res[0]),)), (jnp.array([10.0]),)


def bias(factor):
    def backward(res, dy):
        return dy, factor * (dy.T @ jnp.ones(dy.shape[0], dy.dtype))

    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    return saved(lambda x, b: x + b[None], backward), (jnp.asarray(x), jnp.ones(3))


def cumulative(factor):
    def backward(res, dy):
        return (factor * (jnp.sum(dy) - jnp.cumsum(dy) + dy),)

    x = np.random.default_rng(0).normal(size=200)
    return saved(lambda x: jnp.cumsum(x), backward), (jnp.asarray(x, jnp.bfloat16),)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1.5])
@pytest.mark.parametrize("make", [softmax, sigmoid, bias, cumulative])
def test_rounding_in_the_rules_own_arithmetic_is_no_wrong_gradient(make, factor):
    f, args = make(factor)
    report = census(f, *args)
    assert report.ok is (factor == 1.0), str(report)
    assert check(f, *args).ok is (factor == 1.0)


def test_a_rule_that_has_lost_its_digits_is_not_compared():
    f, _ = softmax(1.0)
    far = jnp.array([[0.0, 30.0]])
    assert census(f, far).conclusion().startswith("NOT COMPARED")
    assert not check(f, far).failures


@pytest.mark.parametrize("factor", [1.0, -1.0, 1000.0])
def test_a_poor_autodiff_excuses_no_other_gradient(factor):
    """1 - tanh^2 has no digit left in float32 at 15, and 1 / cosh^2 has all."""
    f = rule(jnp.tanh, lambda res, dy: (factor * dy / jnp.cosh(res[0]) ** 2,))
    for report in tools(f, jnp.full(4, 15.0)):
        assert report.ok is (factor == 1.0), str(report)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_an_autodiff_that_is_nan_hides_no_element(factor):
    f = rule(
        lambda x: jnp.log(1 + jnp.exp(x)),
        lambda res, dy: (dy * jnp.where(res[0] > 50, factor, jax.nn.sigmoid(res[0])),),
    )
    weights = jnp.array([1.0, 1e10])

    def loss(x):
        return jnp.sum(weights * jnp.where(x > 50, 0.0, 1.0) * f(x)) + f(x)[0] * 1.0

    report = compare(loss, jnp.array([100.0, 1.0]), pairs=0, cost=False)
    assert ("WRONG" in str(report)) is (factor != 1.0), str(report)


def test_what_overflows_proves_nothing():
    f = saved(jnp.exp, lambda res, dy: (dy * res[0],))
    for report in tools(f, jnp.array([100.0])):
        assert not report.ok
        assert "FAILED" not in report.conclusion()
    assert check(f, jnp.array([100.0])).ok
