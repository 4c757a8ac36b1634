"""Every case of the rules on rows and elements, against float64 truth and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witness import (
    cast,
    draw,
    finite_difference_error,
    gradient_errors,
    is_tail,
    pull,
    relative_error,
)

from funcnn import rules

RULES = [
    rules.linear,
    *(rules.relu, rules.leaky_relu, rules.elu, rules.softplus, rules.sigmoid, rules.tanh),
    *(rules.silu, rules.gelu),
    *(rules.softmax, rules.log_softmax),
    *(rules.squared_error, rules.logistic, rules.softmax_cross_entropy),
    rules.dropout,
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)


@every_rule
def test_gradient_equals_that_of_the_reference_in_float64(rule):
    cases = rule.cases()
    errors = gradient_errors(rule, cases)
    assert len({case for case, _ in errors}) == len(cases)
    assert max(errors.values()) < 1e-10, errors


@pytest.mark.parametrize("through", ["eager", "vmap", "scan"])
@every_rule
def test_gradient_is_the_same_through_transformations(rule, through):
    errors = gradient_errors(rule, rule.cases()[:1], through=through)
    assert max(errors.values()) < 1e-10, errors


@every_rule
def test_gradient_of_the_reference_agrees_with_finite_differences(rule, key):
    judged = 0
    for case in rule.cases():
        if case.kinks or is_tail(case) or 0 in case.args[0].shape:
            continue
        reference = functools.partial(rule.reference, **case.static)
        errors = finite_difference_error(reference, case.args, key)
        assert max(errors.values()) < 1e-7, (case.name, errors)
        judged += 1
    assert judged >= 3


@every_rule
def test_value_equals_that_of_the_reference_in_float64(rule):
    with jax.enable_x64(True):
        cases = rule.cases()

        def values(all_args):
            for case, args in zip(cases, all_args, strict=True):
                reference = functools.partial(case.reference or rule.reference, **case.static)
                bound, static = rule.bind(*args, **case.static)
                forward = rule.forward(*bound, **static)[0]
                yield case.name, reference(*args), rule(*args, **case.static), forward

        all_args = [cast(case.args, jnp.float64) for case in cases]
        names = [case.name for case in cases]
        found = jax.jit(lambda a: [v[1:] for v in values(a)])(all_args)
        for name, (truth, value, forward) in zip(names, found, strict=True):
            assert relative_error(value, truth) < 1e-14, name
            assert relative_error(forward, truth) < 1e-14, name


# Rounding alone: half a unit in the last place for each of a few steps.
PRECISIONS = {"float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}


@pytest.mark.parametrize("dtype", PRECISIONS)
@every_rule
def test_each_dtype_keeps_its_dtype_and_its_digits(rule, dtype):
    # Large arguments overflow in float16, or are rounded away; the tails stand in test_tails.
    odd = ("offset", "large", "large mean")
    cases = [c for c in rule.cases() if not is_tail(c) and c.name not in odd][:2]
    errors = gradient_errors(rule, cases, dtype)  # asserts the dtype of the cotangents
    assert max(errors.values()) < PRECISIONS[dtype], errors
    y = jax.eval_shape(
        functools.partial(rule, **cases[0].static), *cast(cases[0].args, jnp.dtype(dtype))
    )
    assert y.dtype == dtype


def pulled(rule, case, args):
    """The pass from the cotangent of the value to those of the arguments, compiled."""
    return jax.jit(functools.partial(pull, functools.partial(rule, **case.static), args))


@every_rule
def test_backward_is_linear_to_the_last_bit_and_keeps_the_laws_in_float64(rule):
    with jax.enable_x64(True):
        for case in rule.cases():
            args = cast(case.args, jnp.float64)
            run = functools.partial(rule, **case.static)
            dy = draw(jax.random.key(3), jax.eval_shape(run, *args), jnp.float64)
            back = pulled(rule, case, args)
            plain = back(dy)
            for factor in (0.0, -1.0, 2.0**-6, 2.0**6):
                for g, h in zip(plain, back(factor * dy), strict=True):
                    assert np.array_equal(factor * np.asarray(g), np.asarray(h)), case.name
            for name, law in case.laws.items():
                # Laws index the floating-point arguments, which stand first.
                left, right = jax.jit(law)(args, dy, tuple(plain))
                assert relative_error(left, right) < 1e-12, (case.name, name)


@every_rule
def test_a_backward_pass_that_is_off_by_a_thousandth_is_rejected(rule):
    """The witness against this file itself, on each argument that has a gradient."""
    given = [(c, [a for a in c.args if a is not None]) for c in rule.cases()]
    full = [case for case, args in given if len(args) == len(rule.parameters)]
    arguments = [p for p in rule.parameters if p not in ("key", "labels")]
    for wrong_argument in arguments:
        place = rule.parameters.index(wrong_argument)

        def backward(res, dy, place=place, **static):
            cotangents = list(rule.backward(res, dy, **static))
            cotangents[place] = cotangents[place] * 1.001
            return tuple(cotangents)

        errors = gradient_errors(rule.replace(backward=backward), full[:1])
        assert {leaf for (_, leaf), e in errors.items() if e > 5e-4} == {wrong_argument}


@every_rule
def test_second_derivative_equals_that_of_the_reference(rule):
    case = rule.cases()[0]
    with jax.enable_x64(True):
        args = cast(case.args, jnp.float64)

        def gradient(f, x):
            def total(x):
                y = f(x, *args[1:], **case.static)
                return jnp.sum(jnp.sin(y) + y * y)

            return jax.grad(total)(x)

        def second(f):
            return jax.vjp(functools.partial(gradient, f), args[0])[1](jnp.cos(args[0]))[0]

        found, truth = jax.jit(lambda: (second(rule), second(rule.reference)))()
        assert relative_error(found, truth) < 1e-10
