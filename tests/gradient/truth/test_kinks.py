"""What the sides of a point say counts where the function does nothing else between them."""

import jax
import jax.numpy as jnp
import pytest

from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census


def reports(f, slope, x):
    """What each tool says of f with another derivative."""
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), lambda x, dy: (slope(x).astype(dy.dtype) * dy,))
    yield check(rule, x)
    yield census(rule, x)
    yield compare(lambda x: rule(x).sum(), x, pairs=0, cost=False)


STEEP = jnp.array([0.0, 1e-12, -2e-12])


def slope_of_steep(x):
    return 1e12 / jnp.cosh(1e12 * x) ** 2


@pytest.mark.parametrize("x", [STEEP[:1], STEEP], ids=["alone", "others"])
def test_the_sides_of_a_steep_function_excuse_nothing(x):
    def f(x):
        return jnp.tanh(1e12 * x)

    for report in reports(f, lambda x: jnp.where(x == 0, 0.0, slope_of_steep(x)), x):
        assert not report.ok, str(report)
    for report in reports(f, slope_of_steep, x):
        assert report.ok, str(report)


@pytest.mark.parametrize(("f", "slope"), [(jnp.tanh, 1.0), (jnp.sin, 0.5), (jnp.sin, -0.1)])
def test_what_is_steep_beside_another_term(f, slope):
    for report in reports(lambda x: f(1e12 * x) + x, lambda x: slope + 0 * x, STEEP[:1]):
        assert not report.ok, str(report)


def test_a_jump_has_the_slope_of_its_sides_where_autodiff_says_so_too():
    for report in reports(lambda x: jnp.sign(x) + x, jnp.ones_like, jnp.array([0.0, 1.0])):
        assert report.ok, str(report)


@pytest.mark.parametrize(("slope", "right"), [(0.0, True), (0.5, True), (1.0, True), (1.5, False)])
def test_a_kink_of_a_curved_function(slope, right):
    def f(x):
        return jnp.maximum(x, 0) * jnp.exp(30 * x)

    def with_slope(x):
        return jnp.where(x == 0, slope, jnp.where(x > 0, (1 + 30 * x) * jnp.exp(30 * x), 0.0))

    for report in reports(f, with_slope, jnp.array([0.0, 0.1, -1.0])):
        assert report.ok is right, str(report)
