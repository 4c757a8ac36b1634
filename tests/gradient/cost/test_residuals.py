"""The ledger of residuals: what is an argument, a result, extra, dead and wide; and check 12."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.cost import cost
from funcnn.gradient.checks.residuals import residuals
from funcnn.gradient.cost.residuals import Ledger, ledger

X = jax.ShapeDtypeStruct((2, 3), jnp.float32)
W = jax.ShapeDtypeStruct((3, 4), jnp.float32)
N = 24  # bytes of X


def rule_that_keeps(keep, use=lambda res: 0.0):
    """The sine with `keep(x, y)` as residuals, of which the backward pass reads `use(res)`."""
    rule = Rule(jnp.sin, "sine")

    def forward(x):
        y = jnp.sin(x)
        return y, (x, keep(x, y))

    def backward(res, dy):
        x, kept = res
        return (dy * jnp.cos(x) + use(kept),)

    rule.defvjp(forward, backward)
    return rule


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (lambda x, y: x, Ledger(argument=N)),
        (lambda x, y: x.reshape(-1), Ledger(argument=N)),
        (lambda x, y: y, Ledger(argument=N, output=N)),
        (lambda x, y: (y, y), Ledger(argument=N, output=N)),
        (lambda x, y: jax.jit(lambda y: (y.T.reshape(-1), y))(y)[1], Ledger(argument=N, output=N)),
        (lambda x, y: x > 0, Ledger(argument=N, extra=N // 4)),
        (lambda x, y: x + 1, Ledger(argument=N, extra=N)),
        (lambda x, y: x.T, Ledger(argument=N, extra=N)),
        (lambda x, y: np.ones(1000, np.float32), Ledger(argument=N)),
    ],
)
def test_what_is_kept_is_sorted(keep, expected):
    def use(kept):
        return jnp.sum(jnp.asarray(jax.tree.leaves(kept)[-1], jnp.float32))

    assert ledger(rule_that_keeps(keep, use), [X]) == expected


def test_dead_is_what_the_backward_pass_does_not_read():
    def keep(x, y):
        return {"used": x + 1, "dead": x + 2}

    half = rule_that_keeps(keep, lambda res: res["used"])
    assert ledger(half, [X]) == Ledger(argument=N, extra=2 * N, dead=N)
    # Its shape alone is no use of it, and neither is passing it to a call that drops it.
    dropped = rule_that_keeps(keep, lambda res: jax.jit(lambda a, b: a)(res["used"], res["dead"]))
    assert ledger(dropped, [X]).dead == N
    of_shape = rule_that_keeps(keep, lambda res: res["used"] + jnp.zeros_like(res["dead"]))
    assert ledger(of_shape, [X]).dead == N


@pytest.mark.parametrize("again", [lambda z: z, jnp.ravel])
@pytest.mark.parametrize("used", [0, 1])
def test_an_array_that_is_kept_twice_counts_once_and_is_used_where_either_is(again, used):
    def keep(x, y):
        z = x + 1
        return z, again(z)

    twice = rule_that_keeps(keep, lambda res: res[used].reshape(2, 3))
    assert ledger(twice, [X]) == Ledger(argument=N, extra=N)


def test_in_a_loop_of_the_backward_pass_only_what_a_step_reads_is_used():
    def keep(x, y):
        return x + 1, x + 2

    def use(kept):
        return jax.lax.scan(lambda c, row: (c + row[0], None), jnp.zeros(3), kept)[0].sum()

    assert ledger(rule_that_keeps(keep, use), [X]) == Ledger(argument=N, extra=2 * N, dead=N)


def test_wide_is_wider_than_any_argument_or_result():
    low = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)

    def wide(x, y):
        return x.astype(jnp.float32)

    rule = rule_that_keeps(wide, lambda kept: kept.astype(jnp.bfloat16))
    assert ledger(rule, [low]) == Ledger(argument=12, extra=24, wide=24)
    assert ledger(rule_that_keeps(lambda x, y: x + 1, lambda kept: kept), [X]).wide == 0


def test_only_what_the_chosen_gradients_need():
    def f(x, w):
        return x @ w

    assert ledger(f, [X, W]) == Ledger(argument=N + 48)
    assert ledger(f, [X, W], chosen=(1,)) == Ledger(argument=N)


def test_a_scan_keeps_its_steps_and_checkpoint_keeps_less():
    def step(x, _):
        return jnp.sin(jnp.cos(x)), None

    def f(x, body=step):
        return jax.lax.scan(body, x, None, length=5)[0]

    assert ledger(f, [X]).total == 2 * 5 * N
    assert ledger(lambda x: f(x, jax.checkpoint(step)), [X]).total == 5 * N


# Check 12

CASE = Case("one", (jnp.ones((2, 3)),), dtypes=("float32", "bfloat16"))


def checked(rule, case=CASE):
    return {r.check: r for r in residuals(Situation.of_rule(rule, case))}


def test_a_dead_residual_fails():
    found = checked(rule_that_keeps(lambda x, y: x + 1))
    assert found["residuals"].verdict == "fail"
    assert found["residuals"].dtype == "bfloat16"
    assert "12 extra, 12 of these dead" in found["residuals"].note
    # An argument is the caller's anyway, so keeping it for its shape costs nothing.
    by_shape = Rule(jnp.square, "by_shape")
    by_shape.defvjp(lambda x: (x * x, (x, x)), lambda res, dy: (2 * dy * res[0],))
    assert checked(by_shape)["residuals"].verdict == "pass"


def test_a_loop_that_keeps_what_one_step_keeps_passes():
    found = checked(rule_that_keeps(lambda x, y: x + 1, lambda kept: kept))
    assert {r.verdict for r in found.values()} == {"pass"}
    note = found["residuals in a loop"].note
    assert note == "each step of a scan keeps 24 bytes, a call 24"


def test_a_rule_that_keeps_more_in_a_loop_fails():
    loops = [False]

    def keep(x, y):
        return x + 1 if loops[0] else x

    results = residuals(Situation.of_rule(rule_that_keeps(keep, lambda kept: kept), CASE))
    assert next(results).verdict == "pass"
    loops[0] = True
    found = next(results)
    assert found.verdict == "fail"
    assert found.note == "each step of a scan keeps 24 bytes, a call 12"


def test_empty_arrays_are_skipped():
    (result,) = residuals(Situation.of_rule(rules.relu, Case("empty", (jnp.zeros((0, 3)),))))
    assert (result.verdict, result.note) == ("skip", "no elements")


@pytest.mark.parametrize("name", ["relu", "gelu", "linear", "softmax_cross_entropy", "max_pool"])
def test_rules_of_the_package_keep_nothing_dead(name):
    rule = rules.registered_rules()[name]
    found = checked(rule, rule.cases()[0])
    assert {r.verdict for r in found.values()} == {"pass"}, found


# Check 15


def test_cost_counts_both_arms():
    def doubled(res, dy):
        return (dy * jnp.cos(res) + 0 * jnp.sin(res),)

    rule = Rule(jnp.sin, "sine")
    rule.defvjp(lambda x: (jnp.sin(x), x), doubled)
    (result,) = cost(Situation.of_rule(rule, CASE))
    assert result.verdict == "pass"
    assert result.dtype == "float32"
    # Sine, cosine and a product for both, and three operations on top.
    assert result.note.startswith("FLOPs 36, autodiff 18; bytes ")


def test_cost_that_cannot_be_counted_is_inconclusive():
    def on_the_host(res, dy):
        y = jax.ShapeDtypeStruct(res.shape, res.dtype)
        return (dy * jax.pure_callback(np.cos, y, res),)

    rule = Rule(jnp.sin, "sine")
    rule.defvjp(lambda x: (jnp.sin(x), x), on_the_host)
    (result,) = cost(Situation.of_rule(rule, CASE))
    assert result.verdict == "inconclusive"
    assert "FLOPs nan, autodiff 18" in result.note
