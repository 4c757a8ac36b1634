"""Mutants of jaxprs: which there are, where they stand, and what each of them computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcnn.gradient.mutation.mutants import Mutant, Mutants


def mutants_of(f, *args, residuals=0):
    return Mutants(jax.make_jaxpr(f)(*args), residuals)


def changes(mutants, primitive):
    """Change -> switch of the equations of one primitive."""
    return {m.change: s for m, s in mutants.switches.items() if m.primitive == primitive}


def run(mutants, switch, *args):
    return [np.asarray(y) for y in mutants(switch.number, switch.amount, *args)]


X = jnp.array([1.0, 2.0, 4.0])


def test_every_change_of_a_float_equation():
    mutants = mutants_of(lambda x: [x * 2], X)
    found = {c: run(mutants, s, X)[0].tolist() for c, s in changes(mutants, "mul").items()}
    assert found.pop("times 1.001") == pytest.approx([2.002, 4.004, 8.008])
    assert found.pop("plus 0.001") == pytest.approx([2.001, 4.001, 8.001])
    assert found == {"times -1": [-2, -4, -8], "zero": [0, 0, 0], "in bfloat16": [2, 4, 8]}
    third = jnp.array([1 / 3])
    assert run(mutants, changes(mutants, "mul")["in bfloat16"], third)[0] == 0.66796875


def test_unchanged_is_the_program_itself():
    def f(x):
        return [jnp.where(x > 1, jnp.exp(x), -x) / x.sum()]

    mutants = mutants_of(f, X)
    np.testing.assert_array_equal(mutants(-1, 0.0, X)[0], f(X)[0])
    for switch in mutants.switches.values():
        assert not np.array_equal(run(mutants, switch, X / 3)[0], f(X / 3)[0])


def test_zero_is_zero_where_the_output_is_infinite():
    mutants = mutants_of(lambda x: [jnp.exp(x)], X)
    assert run(mutants, changes(mutants, "exp")["zero"], 1e6 * X)[0].tolist() == [0, 0, 0]


def test_a_sum_becomes_its_first_slice_or_a_mean():
    mutants = mutants_of(lambda x: [x.sum(1)], jnp.ones((2, 3)))
    x = jnp.array([[1.0, 2.0, 6.0], [3.0, 0.0, 0.0]])
    found = changes(mutants, "reduce_sum")
    assert run(mutants, found["first slice only"], x)[0].tolist() == [1, 3]
    assert run(mutants, found["mean for sum"], x)[0].tolist() == [3, 1]
    # A sum over one element is that element: nothing would change.
    alone = mutants_of(lambda x: [x.sum(0)], jnp.ones((1, 3)))
    assert not {"first slice only", "mean for sum"} & set(changes(alone, "reduce_sum"))


def test_a_product_of_matrices_keeps_its_first_term():
    x, w = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [5.0]])
    mutants = mutants_of(lambda x, w: [x @ w], x, w)
    switch = changes(mutants, "dot_general")["first product only"]
    assert run(mutants, switch, x, w)[0].tolist() == [[3.0]]


def test_a_square_transposition_is_left_out():
    square = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    mutants = mutants_of(lambda x: [x.T], square)
    switch = changes(mutants, "transpose")["left out"]
    assert run(mutants, switch, square)[0].tolist() == square.tolist()
    assert "left out" not in changes(mutants_of(lambda x: [x.T], jnp.ones((2, 3))), "transpose")


def test_masks_and_integers():
    mutants = mutants_of(lambda x: [jnp.where(x > 1, x, 0)], X)
    found = changes(mutants, "gt")
    assert set(found) == {"not", "false"}
    assert run(mutants, found["not"], X)[0].tolist() == [1, 0, 0]
    assert run(mutants, found["false"], X)[0].tolist() == [0, 0, 0]
    indexed = mutants_of(lambda x, i: [x[lax.rem(i, 3)]], X, jnp.array(1))
    assert run(indexed, changes(indexed, "rem")["plus 1"], X, jnp.array(1))[0] == 4


def test_inputs_and_outputs_of_one_shape_are_swapped():
    def f(a, b, c, dy):
        return [a * dy, b + c.sum(), 3 * dy]

    args = (X, 2 * X, jnp.ones(2), jnp.ones(3))
    mutants = mutants_of(f, *args, residuals=3)
    swapped = [m for m in mutants.switches if m.change == "swapped"]
    assert [(m.primitive, m.source) for m in swapped] == [
        ("residual", "residuals 0 and 1"),
        ("cotangent", "cotangents 0 and 1"),
        ("cotangent", "cotangents 0 and 2"),
        ("cotangent", "cotangents 1 and 2"),
    ]
    first, second, third = f(*args)
    da, db, _ = run(mutants, mutants.switches[swapped[0]], *args)
    np.testing.assert_array_equal(da, 2 * X)
    np.testing.assert_array_equal(db, X + 2)
    outs = run(mutants, mutants.switches[swapped[3]], *args)
    for out, expected in zip(outs, (first, third, second), strict=True):
        np.testing.assert_array_equal(out, expected)


def test_an_output_that_no_equation_makes_is_changed_too():
    mutants = mutants_of(lambda dy: [dy], X)
    assert run(mutants, changes(mutants, "cotangent")["times -1"], X)[0].tolist() == [-1, -2, -4]


def test_empty_arrays_have_no_mutants():
    assert not mutants_of(lambda x: [x * 2], jnp.ones((0, 3))).switches


# Inside other programs


def doubled(x):
    return 2 * x


def through_jit(x):
    return [jax.jit(doubled)(x)]


def through_scan(x):
    return [lax.scan(lambda c, xi: (2 * c + xi, c), jnp.zeros(()), x)[0]]


def through_cond(x):
    return [lax.cond(x[0] > 0, lambda x: 2 * x, lambda x: x, x)]


def through_while(x):
    return [lax.fori_loop(0, lax.convert_element_type(x[1], int), lambda i, x: 2 * x, x)]


def through_remat(x):
    return [jax.checkpoint(doubled)(x)]


def through_custom_vjp(x):
    rule = jax.custom_vjp(doubled)
    rule.defvjp(lambda x: (2 * x, None), lambda res, dy: (2 * dy,))
    return [rule(x)]


EXPECTED = {  # of the product with 2, when it is negated; X is 1, 2, 4
    through_jit: [-2, -4, -8],
    through_scan: 4 - 2 * (2 - 2 * 1),
    through_cond: [-2, -4, -8],
    through_while: [4, 8, 16],
    through_remat: [-2, -4, -8],
    through_custom_vjp: [-2, -4, -8],
}


@pytest.mark.parametrize("f", EXPECTED, ids=lambda f: f.__name__)
def test_equations_inside_are_changed(f):
    mutants = mutants_of(f, X)
    np.testing.assert_array_equal(jax.jit(mutants)(-1, 0.0, X)[0], f(X)[0])
    switch = changes(mutants, "mul")["times -1"]
    outs = jax.jit(mutants)(switch.number, switch.amount, X)
    np.testing.assert_array_equal(outs[0], EXPECTED[f])
    (place,) = {m.source for m in mutants.switches if m.primitive == "mul"}
    assert "test_mutants.py:" in place


def test_the_counter_of_a_loop_is_left_alone():
    mutants = mutants_of(through_while, X)
    inside = [m for m in mutants.switches if m.primitive == "add"]
    assert not inside  # i + 1

    def until_small(x):
        return [lax.while_loop(lambda x: x.sum() > 1, lambda x: 0.5 * x, x)]

    mutants = mutants_of(until_small, X)
    assert {m.primitive for m in mutants.switches} == {"while"}


def test_only_the_branch_of_this_platform_is_changed():
    def f(x):
        return [lax.platform_dependent(x, cpu=lambda x: 2 * x, default=lambda x: jnp.exp(-x))]

    mutants = mutants_of(f, X)
    assert {m.primitive for m in mutants.switches} == {"mul"}
    assert len(mutants.unreachable) == 2


def test_the_line_inside_a_function_of_jax_is_that_of_its_caller():
    mutants = mutants_of(lambda x: [jnp.where(x > 1, x, 0), jnp.where(x > 2, 0, x)], X)
    places = {m.source for m in mutants.switches if m.primitive == "select_n"}
    assert len(places) == 1
    assert "test_mutants.py:" in places.pop()
    assert {m.occurrence for m in mutants.switches if m.primitive == "select_n"} == {0, 1}


def test_it_is_the_same_mutant_for_other_shapes():
    def f(x):
        return [(x * x).sum(0)]

    small, large = (mutants_of(f, jnp.ones(shape)).switches for shape in ((2, 3), (5, 2)))
    assert set(small) == set(large)
    assert str(Mutant("zero", "mul", "/far/away.py:3", 1, 1)) == "away.py:3 mul #2 output 1: zero"
