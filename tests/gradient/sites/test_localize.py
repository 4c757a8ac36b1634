"""Each site's own error, apart from what it inherits: wrong rules are found wherever they stand."""

import math

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.program.float64 import NoTruth
from funcnn.gradient.program.perturbations import reach, tapped
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.sites.localize import localize
from funcnn.gradient.sites.site_error import evaluate_sites

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(4, 3)).astype("float32")


def sine(factor=1.0, shift=0.0):
    """The sine with its derivative times a factor, and a value that forward shifts."""

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(
        lambda x: (jnp.sin(x) + jnp.asarray(shift, x.dtype), x),
        lambda x, dy: (jnp.asarray(factor, x.dtype) * dy * jnp.cos(x),),
    )
    return sine


RIGHT, WRONG = sine(), sine(1.001)


def rows_of(f, *args):
    return localize(jax.make_jaxpr(f)(*args), jax.tree.leaves(args))


def verdicts(f, *args):
    return [row.verdict == "WRONG" for row in rows_of(f, *args)]


# Contributed and inherited


def test_only_the_wrong_site_is_blamed_and_those_before_it_inherit():
    def f(x):
        return RIGHT(WRONG(RIGHT(x) * 1.5) * 2.0).sum()

    first, second, third = rows_of(f, X)
    assert [row.verdict == "WRONG" for row in (first, second, third)] == [False, True, False]
    error = 0.001 / np.finfo(np.float32).eps
    assert second.contributed == pytest.approx(error, rel=1e-3)
    assert first.contributed < 4
    # What is wrong behind a site arrives there; what is wrong before it does not.
    assert first.inherited == pytest.approx(error, rel=1e-3)
    assert second.inherited < 10
    assert third.inherited == 0.0
    assert "operand 0: manual = 1.001 x truth" in second.note
    assert 0 < second.floor < 4


def test_two_wrong_sites_that_cancel_are_both_found():
    def f(x):
        return sine(2.0)(sine(0.5)(x)).sum()

    comparison = compare(f, X, pairs=0, cost=False)
    assert all(row.verdict == "TIE" for row in comparison.leaves)  # the gradient itself is right
    assert comparison.conclusion().startswith("FAILED: 1 lea")
    assert verdicts(f, X) == [True, True]


def test_a_wrong_operand_among_right_ones_and_a_wrong_value():
    @jax.custom_vjp
    def product(x, n, y):
        return x * y

    product.defvjp(lambda x, n, y: (x * y, (x, y)), lambda r, dy: (dy * r[1], None, 3 * dy * r[0]))
    (row,) = rows_of(lambda x, y: product(x, jnp.arange(3), y).sum(), X, X + 1)
    assert row.verdict == "WRONG"
    assert row.note.startswith("operand 1: manual = 3 x truth") or "operand" in row.note
    (row,) = rows_of(lambda x: sine(shift=0.1)(x).sum(), X)
    assert row.verdict == "WRONG"
    assert row.note.startswith("value 0: ")


# Where sites may stand


def test_in_calls_checkpoints_and_loops():
    def body(carry, row):
        return jax.checkpoint(lambda c: RIGHT(c) + row)(carry), WRONG(row)

    def f(x):
        last, ys = jax.jit(lambda x: jax.lax.scan(body, x[0], x, reverse=True))(x)
        return RIGHT(last).sum() + (ys**2).sum()

    rows = rows_of(f, X)
    assert sorted(row.verdict == "WRONG" for row in rows) == [False, False, True]
    assert all(row.contributed < 10 or row.verdict == "WRONG" for row in rows)
    assert all(math.isfinite(row.inherited) for row in rows)


def test_the_steps_of_nested_scans_are_stacked():
    def f(x):
        def inner(carry, y):
            return WRONG(carry) * y, None

        def outer(carry, row):
            return jax.lax.scan(inner, carry, row)[0], None

        return jax.lax.scan(outer, jnp.float32(0.3), x)[0]

    program = jax.make_jaxpr(f)(X)
    (tap,) = reach(program, sites(program))
    assert tap.lengths == (4, 3)
    assert [z.shape for z in tap.zeros] == [(4, 3)]
    (row,) = localize(program, [X])
    assert row.verdict == "WRONG"
    assert row.contributed == pytest.approx(0.001 / np.finfo(np.float32).eps, rel=1e-2)


@pytest.mark.parametrize(("small", "verdict"), [(RIGHT, "TIE"), (WRONG, "WRONG")])
def test_a_site_whose_steps_are_too_large_is_not_looked_into(small, verdict, monkeypatch):
    """20 steps of 500 x 500 numbers: only those of the small site are ever held."""
    elements = []

    def counted(taps, operands, true):
        elements.extend(x.size for of_site in (*operands, *true) for x in of_site)
        return evaluate_sites(taps, operands, true)

    monkeypatch.setattr("funcnn.gradient.sites.localize.evaluate_sites", counted)

    def f(x):
        def step(carry, _):
            return (RIGHT(carry[0]), small(carry[1])), None

        a, b = jax.lax.scan(step, (x, x[0, :3]), None, length=20)[0]
        return a.sum() + b.sum()

    rows = rows_of(f, np.full((500, 500), 0.3, np.float32))
    assert [row.verdict for row in rows] == ["INCONCLUSIVE", verdict]
    why = "not looked into: 0.08 GB of operands and results in 20 steps"
    assert [row.note == why for row in rows] == [True, False]
    assert elements == [20 * 3, 20 * 3]


def test_taps_give_the_cotangents_and_the_operands():
    def f(x):
        return jax.lax.scan(lambda c, row: (c + RIGHT(row), None), jnp.zeros(3), x)[0].sum() * 2.0

    program = jax.make_jaxpr(f)(X)
    run = tapped(program, reach(program, sites(program)))
    zeros = {0: [np.zeros((4, 3), np.float32)]}
    outs, seen = run([X], zeros)
    np.testing.assert_allclose(outs[0], f(X), rtol=1e-6)
    np.testing.assert_array_equal(seen[0][0], X)
    arrived = jax.grad(lambda z: run([X], z)[0][0])(zeros)[0][0]
    np.testing.assert_array_equal(arrived, np.full((4, 3), 2.0, np.float32))


def test_what_is_not_looked_into_is_said():
    def f(x):
        first = jax.lax.cond(x[0, 0] > 0, lambda x: WRONG(x), lambda x: x, x)
        return RIGHT(first).sum()

    hidden, seen = rows_of(f, X)
    assert (hidden.verdict, seen.verdict) == ("INCONCLUSIVE", "TIE")
    assert hidden.note == "inside a loop or branch that is not looked into"
    assert math.isnan(hidden.contributed)
    # Un-stripping still finds it.
    report = compare(f, abs(X), pairs=0, cost=False)
    assert [site.name for site in report.culprits] == ["sine"]
    assert report.culprits[0].position == hidden.site.position


def test_a_rule_inside_a_rule_is_part_of_it():
    @jax.custom_vjp
    def outer(x):
        return RIGHT(x) * 2

    outer.defvjp(lambda x: (RIGHT(x) * 2, x), lambda x, dy: (2 * dy * jnp.cos(x),))
    (row,) = rows_of(lambda x: outer(x).sum(), X)
    assert row.site.name == "outer"
    assert row.verdict == "TIE"


# Nothing to say, and ties


def test_a_site_whose_cotangent_is_zero_is_inconclusive():
    (row,) = rows_of(lambda x: (0.0 * WRONG(x)).sum() + x.sum(), X)
    assert row.verdict == "INCONCLUSIVE"
    assert row.note == "the true cotangents are zero everywhere, or not finite"


def test_either_side_of_a_tie_is_right_and_counted():
    @jax.custom_vjp
    def largest(x):
        return jnp.max(x)  # autodiff shares the cotangent between equals

    def backward(x, dy):
        return (jnp.zeros_like(x).at[jnp.argmax(x)].set(dy),)

    largest.defvjp(lambda x: (jnp.max(x), x), backward)
    tie = np.array([1.0, 3.0, 3.0, 2.0], np.float32)
    (row,) = rows_of(lambda x: largest(x), tie)
    assert row.verdict == "INCONCLUSIVE"
    assert row.note == "2 elements stand on a kink or tie and are left out"
    (row,) = rows_of(lambda x: largest(x), np.array([1.0, 3.0, 4.0, 2.0], np.float32))
    assert (row.verdict, row.note) == ("TIE", "")


def test_a_tie_further_on_is_no_inherited_error():
    def f(x):
        y = rules.relu(RIGHT(x) - low)  # the first window holds zeros alone, which tie
        return (rules.max_pool(y, window=(2, 2)) ** 2).sum() + y.sum()

    image = RANDOM.normal(size=(1, 2, 4, 1)).astype("float32")
    low = np.array([3.0, 3.0, -3.0, -3.0], np.float32).reshape(1, 1, 4, 1)
    sine, relu, pool = rows_of(f, image)
    assert [row.verdict for row in (sine, relu, pool)] == ["TIE"] * 3
    assert all(row.inherited < 10 for row in (sine, relu, pool))
    # Zeros times two give the pool's first window no cotangent; the sum gives it to relu.
    assert "stand on a kink" not in sine.note


def test_a_window_of_equals_is_left_out_of_the_pool_alone():
    def f(x):
        return (rules.max_pool(rules.relu(x), window=(2, 2))).sum()

    image = np.array([-1.0, -2.0, 3.0, 1.0, -1.0, -3.0, 2.0, 1.0], np.float32).reshape(1, 2, 4, 1)
    relu, pool = rows_of(f, image)
    assert pool.note == "4 elements stand on a kink or tie and are left out"
    assert (relu.verdict, pool.verdict) == ("TIE", "TIE")
    assert relu.inherited == 0.0  # where autodiff shares among the equals, and the rule does not


def test_ties_under_small_cotangents_are_seen_too():
    @jax.custom_vjp
    def largest(x):
        return jnp.max(x, axis=1)

    def backward(x, dy):
        first = jnp.argmax(x, axis=1)[:, None] == jnp.arange(2)[None, :]
        return (jnp.where(first, dy[:, None], 0),)

    largest.defvjp(lambda x: (jnp.max(x, axis=1), x), backward)
    ties = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]], np.float32)
    sizes = np.array([1e-5, 1.0, 1.0], np.float32)
    (row,) = rows_of(lambda x: (largest(x) * sizes).sum(), ties)
    assert row.note == "2 elements stand on a kink or tie and are left out"
    assert (row.verdict, row.contributed) == ("TIE", 0.0)


def test_without_truth_there_is_no_row():
    @jax.custom_vjp
    def until_large(x):
        return jax.lax.while_loop(lambda c: c[0, 0] < 10.0, lambda c: 2 * c, x)

    until_large.defvjp(lambda x: (until_large(x), None), lambda _, dy: (7 * dy,))
    with pytest.raises(NoTruth):
        rows_of(lambda x: until_large(jnp.abs(x)).sum(), X)


# Precision, and programs of others


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, False), (1.05, True)])
def test_bfloat16_is_judged_in_its_own_precision(factor, wrong):
    rule = sine(factor)

    def f(x):
        return RIGHT(rule(x)).astype(jnp.float32).sum()

    assert verdicts(f, X.astype("bfloat16")) == [wrong, False]


def test_keys_and_integers_flow_through():
    key = jax.random.key(0)

    def f(x):
        return rules.dropout(WRONG(x), key, rate=0.5).sum()

    assert verdicts(f, X) == [True, False]


def test_a_wrong_activation_three_layers_deep_is_named():
    layers = [flax.linen.Dense(4), RIGHT, flax.linen.Dense(4), RIGHT, flax.linen.Dense(4)]
    net = flax.linen.Sequential([*layers, WRONG, flax.linen.Dense(1)])
    shapes = jax.eval_shape(net.init, jax.random.key(0), X)
    params = jax.tree.map(lambda s: RANDOM.normal(size=s.shape).astype(s.dtype), shapes)

    def loss(params):
        y: jax.Array = net.apply(params, X)  # pyright: ignore[reportAssignmentType]
        return (y**2).sum()

    report = compare(loss, params, pairs=0, cost=False)
    assert [row.verdict == "WRONG" for row in report.site_rows] == [False, False, True]
    assert [site.position for site in report.culprits] == [report.site_rows[2].site.position]
    assert f"WRONG rule: {report.culprits[0]}" in str(report)
