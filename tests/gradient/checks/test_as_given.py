"""A function is judged in the dtypes that it was given, and not in float64 alone."""

import jax
import jax.numpy as jnp
import pytest

from funcnn import census, check


def custom(f, backward):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), lambda x, dy: (backward(x, dy),))
    return rule


SIGMOIDS = {
    "overflows": (lambda x, dy: dy * jnp.exp(x) / (1 + jnp.exp(x)), False),
    "zero where it overflows": (
        lambda x, dy: dy * jnp.nan_to_num(jnp.exp(x) / (1 + jnp.exp(x))),
        False,
    ),
    "another one in float32": (
        lambda x, dy: dy * jax.nn.sigmoid(x) * (1.5 if x.dtype == jnp.float32 else 1.0),
        False,
    ),
    "right": (lambda x, dy: dy * jax.nn.sigmoid(x), True),
}


@pytest.mark.parametrize("name", SIGMOIDS)
def test_the_gradient_of_softplus(name):
    backward, right = SIGMOIDS[name]
    f, x = custom(jax.nn.softplus, backward), jnp.array([1.0, 100.0])
    for report in (check(f, x), census(f, x)):
        assert report.ok is right, str(report)


def test_what_overflows_without_the_rule_too_is_not_held_against_it():
    """In float16 the square of 300 is infinite, and its derivative is 600."""

    def f(x):
        return jnp.sum(x * x)

    right = custom(f, lambda x, dy: 2 * dy * x)
    wrong = custom(f, lambda x, dy: 3 * dy * x)
    x = jnp.array([300.0, 1.0], jnp.float16)
    assert check(right, x).ok
    assert not check(wrong, x).ok


def test_only_functions_with_rules_in_low_precision_are_looked_at():
    def results(f, x):
        return [r for r in check(f, x).results if r.check == "as given"]

    sigmoid = custom(jax.nn.softplus, SIGMOIDS["right"][0])
    assert [r.dtype for r in results(sigmoid, jnp.ones(2))] == ["float32"]
    assert results(jnp.tanh, jnp.ones(2)) == []
    with jax.enable_x64(True):
        assert results(sigmoid, jnp.ones(2, jnp.float64)) == []
