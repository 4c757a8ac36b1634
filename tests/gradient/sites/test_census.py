"""census: every custom rule of a program, counted, weighed and judged where it is called."""

import json
import math

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.gradient.program.operands import capture
from funcnn.gradient.program.without_rules import trace
from funcnn.gradient.sites.census import census

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(4, 3)).astype("float32")
BYTES = X.nbytes


def sine(factor=1.0, keep=lambda x: x):
    """The sine, with its derivative times a factor; `keep(x)` is kept beside x and not used."""

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(
        lambda x: (jnp.sin(x), (x, keep(x))),
        lambda res, dy: (jnp.asarray(factor, dy.dtype) * dy * jnp.cos(res[0]),),
    )
    return sine


RIGHT, WRONG = sine(), sine(1.001)


def only_row(f, *args):
    (row,) = census(f, *args).rules
    return row


def until_large(x):
    return jax.lax.while_loop(lambda x: jnp.max(x) < 9, lambda x: 2 * x, x)


# Counted


def test_each_rule_is_counted_once_a_kind_of_operands():
    def f(x):
        return RIGHT(RIGHT(x)) + jnp.sum(jax.nn.relu(x[0])) + jnp.sum(RIGHT(x[0]))

    rows = census(f, X).rules
    assert [(r.name, r.kind, r.operands, r.sites) for r in rows] == [
        ("sine", "custom_vjp", "float32[4,3]", 2),
        ("relu", "custom_jvp", "float32[3]", 1),
        ("sine", "custom_vjp", "float32[3]", 1),
    ]
    assert all(row.verdict == "TIE" for row in rows)
    assert rows[0].source.partition(":")[0] == __file__
    told = "2 hand-written rules at 4 sites, 4 of them compared with float64 truth"
    assert str(census(f, X)).endswith(told)


def test_the_calls_of_all_sites_of_a_rule_are_added_up():
    def f(x):
        return jax.lax.scan(lambda row, _: (RIGHT(row), None), RIGHT(x), None, length=3)[0]

    row = only_row(f, X)
    assert (row.sites, row.calls) == (2, 4)


def test_a_program_without_rules_says_so():
    report = census(jnp.tanh, X)
    assert (report.ok, report.rules) == (False, ())
    assert str(report) == "NOT COMPARED: 0 hand-written rules found"


def test_the_program_need_not_be_a_scalar_nor_differentiable():
    row = only_row(lambda x: (RIGHT(x) > 0, jnp.argmax(x)), X)
    assert (row.verdict, row.calls) == ("TIE", 1)


def test_a_rule_of_funcnn_has_its_own_name_and_line():
    row = only_row(lambda x: fnn.rules.tanh(x), X)
    assert row.name == "tanh"
    assert row.source.partition(":")[0].endswith("rules/activation.py")
    own = fnn.rules.tanh.replace(backward=lambda y, dy: (dy,))
    assert only_row(lambda x: own(x), X).verdict == "WRONG"


# Judged where it is called


@pytest.mark.parametrize("where", ["alone", "jit", "scan", "cond", "remat", "vmap", "while"])
def test_a_wrong_rule_is_found_wherever_it_stands(where):
    places = {
        "alone": lambda f, x: f(x),
        "jit": lambda f, x: jax.jit(f)(x),
        "scan": lambda f, x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 5)[0],
        "cond": lambda f, x: jax.lax.cond(x[0, 0] < 9, f, lambda x: x, x),
        "remat": lambda f, x: jax.checkpoint(f)(x),
        "vmap": lambda f, x: jax.vmap(f)(x),
        "while": lambda f, x: jax.lax.while_loop(lambda c: jnp.max(c) < 0.5, f, x - 9),
    }
    right = only_row(lambda x: places[where](RIGHT, x), X)
    wrong = only_row(lambda x: places[where](WRONG, x), X)
    assert right.verdict == "TIE", right
    assert wrong.verdict == "WRONG"
    assert "manual = 1.001 x truth" in wrong.note
    assert wrong.manual == pytest.approx(0.001 / np.finfo(np.float32).eps, rel=1e-3)
    assert wrong.calls == (5 if where == "scan" else 1)
    assert ("calls" in wrong.note) == (where in {"scan", "while"})
    assert not census(lambda x: places[where](WRONG, x), X).ok


def test_operands_are_those_that_flow_there():
    """A rule that is right but for large numbers is wrong only where such numbers arrive."""

    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * jnp.minimum(x, 50.0) * dy,))
    assert only_row(lambda x: square(x), X).verdict == "TIE"
    assert only_row(lambda x: square(100 + x), X).verdict == "WRONG"
    (visit,) = capture(trace(lambda x: square(100 + x), (X,), {}))
    np.testing.assert_array_equal(visit.operands[0][0], 100 + X)


def test_the_worst_of_several_sites_is_shown_with_its_layer():
    model = fnn.chain(a=fnn.dense(3), b=fnn.tanh, c=fnn.dense(3), d=fnn.tanh)
    params = model.init(jax.random.key(0), X)
    params["c"]["w"] = 40 * params["c"]["w"]
    rows = {row.name: row for row in census(model, params, X).rules}
    assert (rows["tanh"].sites, rows["linear"].sites) == (2, 2)
    assert rows["tanh"].path in {"b", "d"}


@pytest.mark.parametrize("factors", [{"a": 1.0, "b": 1.001}, {"b": 1.001, "a": 1.0}])
def test_a_wrong_site_does_not_hide_behind_a_right_one_of_its_rule(factors):
    def f(x):
        for name, factor in factors.items():
            with jax.named_scope(name):
                x = sine(factor)(x)
        return x

    row = only_row(f, X)
    assert (row.sites, row.verdict, row.path) == (2, "WRONG", "b")


def test_ties_are_left_out_and_counted():
    row = only_row(jax.nn.relu, np.array([0.0, 1.0, -1.0, 0.0], np.float32))
    assert row.verdict == "TIE"
    assert "2 elements stand on a kink" in row.note


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "TIE"), (1.001, "WRONG")])
def test_the_error_is_that_of_the_elements_off_ties(factor, verdict):
    """Of equal ones the rule takes the first and the reference all; that is no error."""

    def maximum(x):
        return jnp.max(x, axis=1)

    first = jax.custom_vjp(maximum)

    def backward(x, dy):
        chosen = jax.nn.one_hot(jnp.argmax(x, axis=1), 3, dtype=dy.dtype)
        return (jnp.asarray(factor, dy.dtype) * chosen * dy[:, None],)

    first.defvjp(lambda x: (maximum(x), x), backward)
    x = np.maximum(np.random.default_rng(0).normal(size=(32, 3)), 0).astype("float32")
    row = only_row(first, x)
    assert row.verdict == verdict
    assert row.manual < 1 if verdict == "TIE" else row.manual > 1000


def test_what_is_not_reached_and_what_has_no_truth_is_inconclusive():
    unreached = only_row(lambda x: jax.lax.cond(x[0, 0] > 9, WRONG, lambda x: x, X), X)
    assert (unreached.verdict, unreached.note) == ("INCONCLUSIVE", "not reached")

    def on_the_host(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    host = jax.custom_vjp(on_the_host)
    host.defvjp(lambda x: (on_the_host(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    row = only_row(lambda x: host(x), X)
    assert row.verdict == "INCONCLUSIVE"
    assert row.note.startswith("no truth: pure_callback")
    assert math.isnan(row.manual)
    report = census(lambda x: host(x), X)
    assert not report.ok
    assert str(report).splitlines()[-1].startswith("NOT COMPARED: 1 hand-written rule at 1 site, 0")


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "TIE"), (7.0, "WRONG")])
def test_a_loop_is_held_against_its_forward_mode(factor, verdict):
    def forward(x):
        y = until_large(x)
        return y, y[0, 0] / x[0, 0]

    loop = jax.custom_vjp(until_large)
    loop.defvjp(forward, lambda res, dy: (jnp.asarray(factor, dy.dtype) * res * dy,))
    assert only_row(lambda x: loop(x), 1 + abs(X)).verdict == verdict


def test_a_rule_that_raises_is_told_and_spoils_no_other():
    @jax.custom_vjp
    def broken(x):
        return 2 * x

    broken.defvjp(lambda x: (2 * x, None), lambda _, dy: (dy[0],))
    rows = {row.name: row for row in census(lambda x: RIGHT(broken(x)), X).rules}
    assert rows["broken"].note.startswith("it raised ")
    assert rows["sine"].verdict == "TIE"


# Noise of the size of what is infinite would be NaN, with a warning, which is an error here.
def test_scores_of_minus_infinity_among_the_operands():
    seen = np.tril(np.ones((3, 3), bool))

    def attended(scores):
        return fnn.rules.softmax(jnp.where(seen, scores, -np.inf)) ** 2

    assert only_row(attended, X[:3]).verdict in ("TIE", "MANUAL")


def test_integers_and_keys_among_the_operands():
    @jax.custom_vjp
    def take(x, i, key):
        return x[i]

    take.defvjp(
        lambda x, i, key: (x[i], (x, i)),
        lambda res, dy: (jnp.zeros_like(res[0]).at[res[1]].add(dy), None, None),
    )
    row = only_row(take, X, np.array([1, 1, 3]), jax.random.key(0))
    assert row.verdict == "TIE"

    @jax.custom_vjp
    def count(i):
        return i + 1

    count.defvjp(lambda i: (i + 1, None), lambda _, dy: (None,))
    assert only_row(count, np.arange(3)).note == "nothing here is differentiable"


# Weighed


def test_residuals_are_aliased_extra_and_dead_bytes():
    aliased = only_row(RIGHT, X)
    assert (aliased.aliased, aliased.extra, aliased.dead) == (BYTES, 0, 0)
    assert aliased.automatic_extra == BYTES  # cos x
    wasteful = only_row(sine(keep=jnp.exp), X)
    assert (wasteful.aliased, wasteful.extra, wasteful.dead) == (BYTES, BYTES, BYTES)


# Programs of others


def test_flax_and_equinox_models():
    class Network(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            for _ in range(3):
                x = flax.linen.relu(flax.linen.Dense(5)(x))
            return WRONG(x)

    params = Network().init(jax.random.key(0), X)
    rows = {row.name: row for row in census(Network().apply, params, X).rules}
    assert (rows["relu"].sites, rows["relu"].verdict) == (3, "TIE")
    assert (rows["sine"].sites, rows["sine"].verdict) == (1, "WRONG")
    assert rows["sine"].path == "Network"

    network = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    row = only_row(lambda network, x: jax.vmap(network)(x), network, X)
    assert (row.name, row.sites, row.verdict) == ("relu", 2, "TIE")


def test_json_lines(tmp_path):
    path = tmp_path / "census.jsonl"
    census(lambda x: WRONG(x) + until_large(abs(x)), X).to_json(path)
    rule, last = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (rule["kind"], rule["made_by"], rule["name"]) == ("rule", "custom_vjp", "sine")
    assert (rule["verdict"], rule["extra"]) == ("WRONG", 0)
    assert (last["kind"], last["ok"], last["rules"], last["sites"]) == ("census", False, 1, 1)


def test_what_was_not_compared_stands_in_the_last_line():
    def f(x):
        return RIGHT(x) + jax.lax.cond(x[0, 0] > 9, RIGHT, lambda x: x, x)

    report = census(f, X)
    assert [(row.sites, row.compared) for row in report.rules] == [(2, 1)]
    assert report.ok
    assert report.conclusion() == (
        "OK: 1 hand-written rule at 2 sites, 1 of them compared with float64 truth; "
        "not compared: sine"
    )
    declared = census(WRONG, X, intent="surrogate").conclusion()
    assert declared.endswith("; by their value alone, as declared surrogates: sine")


def test_an_operand_of_which_nothing_is_proved_is_named():
    """x + y^3 at y = 0: a wrong cotangent of y is as right there as any."""
    f = jax.custom_vjp(lambda x, y: x + y**3)
    f.defvjp(lambda x, y: (x + y**3, y), lambda y, dy: (dy, 7 * y**2 * dy))
    at_zero = census(lambda x: f(x, 0 * x), X)
    assert at_zero.ok
    assert at_zero.rules[0].note == "operand 1: its true cotangent is zero here"
    assert not census(lambda x: f(x, x), X).ok
