"""The witnesses must notice a mistake, else every test that rests on them is empty."""

import jax.numpy as jnp
import numpy as np
import pytest
from witness import THROUGH, finite_difference_error, gradient_error, ulp_error

from funcnn.core.registry import Case, Rule


def product(x, n, w=None):
    return x * jnp.sin(x) if w is None else x * w


def make_rule(factor=1.0):
    rule = Rule(product, "product")

    def forward(x, n, w=None):
        return product(x, n, w), (x, w)

    def backward(res, dy):
        x, w = res
        if w is None:
            return dy * (jnp.sin(x) + x * jnp.cos(x)), None, None
        return factor * dy * w, None, dy * x

    rule.defvjp(forward, backward)
    return rule


CASE = Case("normal", (jnp.array([0.3, -1.1]), jnp.array([1, 2]), jnp.array([0.7, 2.0])))


@pytest.mark.parametrize("through", THROUGH)
def test_gradient_error_names_the_wrong_leaf(through):
    assert max(gradient_error(make_rule(), CASE, through=through).values()) < 1e-15
    errors = gradient_error(make_rule(1.001), CASE, through=through)
    assert errors["x"] == pytest.approx(1e-3, rel=1e-6)
    assert errors["w"] < 1e-15


def test_none_arguments_are_passed_over():
    case = Case("no weight", CASE.args[:2])
    assert set(gradient_error(make_rule(), case)) == {"x"}


def test_finite_differences_accept_a_right_gradient_and_reject_a_wrong_one(key):
    assert max(finite_difference_error(product, CASE.args, key).values()) < 1e-9
    scale = 1.0 + 1e-5
    wrong = Rule(product, "wrong")
    wrong.defvjp(
        lambda x, n, w: (x * w, (x, w)), lambda res, dy: (dy * res[1] * scale, None, dy * res[0])
    )
    errors = finite_difference_error(lambda x, n, w: wrong(x, n, w), CASE.args, key)
    assert errors["x"] > 1e-6
    assert errors["w"] < 1e-9


def test_one_ulp_is_one_ulp():
    above = np.nextafter(np.float32(3.0), np.float32(4.0))
    assert ulp_error(above, 3.0, jnp.float32) == 1.0
