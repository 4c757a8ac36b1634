"""`check` passes right rules, rejects every planted mistake, and never passes on nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from funcnn import rules
from funcnn.core.registry import Case, Rule
from funcnn.gradient.check import GradientError, check

RANDOM = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return jnp.asarray(scale * RANDOM.normal(size=shape), jnp.float32)


def affine(x, w, b):
    return x @ w + jnp.broadcast_to(b, (x.shape[0], *b.shape))


def affine_forward(x, w, b):
    return affine(x, w, b), (x, w)


def affine_backward(res, dy):
    x, w = res
    return dy @ w.T, x.T @ dy, dy.sum(0)


# x is large, so that the gradient of w drowns that of b wherever leaves are judged together. w is
# square, so that its transpose has its shape.
CASE = Case("large x", (draw(4, 3, scale=1e4), draw(3, 3), draw(3)), dtypes=("float32",))


def planted(backward=affine_backward, forward=affine_forward, cases=(CASE,)):
    rule = Rule(affine, "affine")
    rule.defvjp(forward, backward)
    rule.defcases(lambda key: iter(cases))
    return rule


def spoil(leaf, change):
    """The right backward pass with the cotangent of one argument changed."""

    def backward(res, dy):
        cotangents = list(affine_backward(res, dy))
        cotangents[leaf] = change(cotangents[leaf])
        return tuple(cotangents)

    return planted(backward)


def off_by_five_percent(d):
    return d.at[1, 2].multiply(1.05)


def of_ones(res, dy):
    """Right for a cotangent of ones alone: every row of dy is taken for its mean."""
    return affine_backward(res, jnp.broadcast_to(dy.mean(0, keepdims=True), dy.shape))


def first_row_only(res, dy):
    dx, dw, _ = affine_backward(res, dy)
    return dx, dw, dy[0]


MISTAKES = {
    "scaled by 1.001": (spoil(1, lambda d: 1.001 * d), "truth", "w"),
    "one entry 5 % off": (spoil(1, off_by_five_percent), "truth", "w"),
    "bias times -3": (spoil(2, lambda d: -3 * d), "truth", "b"),
    "an offset of 1e-4": (spoil(2, lambda d: d + 1e-4), "zero", "b"),
    "clipped": (spoil(0, lambda d: jnp.clip(d, -0.5, 0.5)), "homogeneity", "x"),
    "absolute value": (spoil(0, jnp.abs), "homogeneity", "x"),
    "transposed": (spoil(1, jnp.transpose), "truth", "w"),
    "no batch sum": (planted(first_row_only), "truth", "b"),
    "right for ones alone": (planted(of_ones), "truth", "w"),
    "zeros": (spoil(0, jnp.zeros_like), "truth", "x"),
    "wrong value": (
        planted(forward=lambda x, w, b: (1.001 * affine(x, w, b), (x, w))),
        "primal",
        "output",
    ),
    "int32": (spoil(2, lambda d: jnp.zeros(3, int)), "contract", ""),
    "wrong shape": (spoil(0, jnp.transpose), "contract", ""),
    "None": (spoil(2, lambda d: None), "contract", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_planted_mistake_is_caught(mistake):
    rule, expected_check, leaf = MISTAKES[mistake]
    report = check(rule)
    assert not report.ok
    assert (expected_check, leaf) in {(r.check, r.leaf) for r in report.failures}
    # No other leaf is accused of the mistake.
    if expected_check == "truth" and mistake != "right for ones alone":
        assert {r.leaf for r in report.failures if r.check == "truth"} == {leaf}
    with pytest.raises(GradientError, match=f"FAIL affine {expected_check}"):
        report.raise_if_failed()


def test_the_right_rule_passes_and_the_counts_are_printed():
    report = check(planted(), level="full")
    assert report.ok, str(report)
    report.raise_if_failed()
    found = {(r.check, r.leaf) for r in report.results if r.verdict == "pass"}
    assert found >= {(c, leaf) for c in ("truth", "zero", "homogeneity") for leaf in "xwb"}
    assert found >= {("primal", "output"), ("contract", ""), ("dot", "")}
    assert found >= {("rounding", leaf) for leaf in "xwb"}
    checks = {r.check for r in report.results}
    assert checks >= {"transforms", "finite differences", "edge", "residuals", "second_order"}
    assert checks >= {"context"}
    n = report.counts
    assert sum(n.values()) == len(report.results)
    assert n["fail"] == 0
    assert report.text() == (
        f"OK affine: {n['pass']} comparisons passed, 0 failed, {n['inconclusive']} inconclusive, "
        f"{n['skip']} skipped; 1 hand-written rule"
    )


def test_a_failed_contract_stops_the_rest_of_its_case():
    report = check(MISTAKES["int32"][0])
    assert {r.check for r in report.results} == {"contract"}
    note = report.failures[0].note
    assert note == "affine: cotangent of argument b: expected float32[3], found int32[3]"


def backward_of_cube(x, dy):
    return (2 * x**2 * dy,)


POINTS = jnp.linspace(-2.0, 2.0, 5)


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), backward_of_cube)


def test_a_failure_names_the_line_of_the_backward_pass():
    line = f"{__file__}:{backward_of_cube.__code__.co_firstlineno}"
    for f in (cube, jax.jit(cube)):
        assert f"  backward: {line}\n" in str(check(f, POINTS))
    rule = spoil(1, jnp.transpose)
    line = f"{__file__}:{rule.backward.__code__.co_firstlineno}"
    assert f"  backward: {line}\n" in str(check(rule))

    def cubes(x):
        return cube(x) + x

    line = f"{__file__}:{cubes.__code__.co_firstlineno}"
    assert f"  function: {line}\n" in str(check(cubes, POINTS))


def test_a_function_has_no_mutants_and_the_report_says_so():
    conclusion = check(lambda x: rules.tanh(x) * x, POINTS, level="release").conclusion()
    assert "not done: mutation (a function; mutants are made of a Rule)" in conclusion


def test_the_contract_holds_in_each_declared_dtype():
    upcast = spoil(2, lambda d: d.astype(jnp.result_type(float)))
    assert check(upcast).ok  # in float32 and float64 there is nothing to see
    bfloat16 = Case(CASE.name, CASE.args, dtypes=("float32", "bfloat16"))
    upcast.defcases(lambda key: iter([bfloat16]))
    report = check(upcast)
    assert [(r.case, r.dtype) for r in report.failures] == [("large x", "bfloat16")]
    assert "expected bfloat16[3], found float32[3]" in report.failures[0].note


def test_rounding_catches_what_is_exact_in_float64():
    def noisy(res, dy):
        # Exact algebra, poor arithmetic: the large offset eats digits in float32 alone.
        dx, dw, _ = affine_backward(res, dy)
        offset = jnp.asarray(1e3, dy.dtype)
        return dx, dw, jnp.sum(jax.lax.optimization_barrier(dy + offset) - offset, 0)

    case = Case("small", (draw(4, 3), draw(3, 3), draw(3)), dtypes=("float32",))
    report = check(planted(noisy, cases=[case]), level="full")
    assert {(r.check, r.leaf) for r in report.failures} >= {("rounding", "b")}
    assert {r.leaf for r in report.failures if r.check == "rounding"} == {"b"}


def test_a_rule_that_raises_fails_with_its_own_message():
    def mixed(res, dy):
        dx, dw, db = affine_backward(res, dy)
        return dx, dw, db * jnp.ones(3, "float32")

    report = check(planted(mixed))
    (failure,) = report.failures
    assert (failure.case, failure.dtype) == ("large x", "float64")
    assert "have no available implicit dtype promotion path" in failure.note


# Reports about nothing


def test_without_cases_nothing_is_proved():
    report = check(planted(cases=()))
    assert not report.ok
    told = "NOT COMPARED affine: it has no cases: add some with @affine.defcases, or give arguments"
    assert told in str(report)
    integers = Case("integers", (jnp.ones((2, 3), int), jnp.ones((3, 2), int), jnp.ones(2, int)))
    text = str(check(planted(cases=[integers])))
    assert "NOT COMPARED affine: no case with a floating-point argument" in text


def test_a_rule_without_passes_says_how_it_gets_them():
    bare = Rule(affine, "mine.affine")
    for report in (check(bare), check(bare, *CASE.args)):
        assert str(report).splitlines()[0] == (
            "FAIL mine.affine contract: no derivative yet: call affine.defvjp(forward, backward)"
        )
        assert [r.verdict for r in report.results] == ["fail"]


def test_empty_arrays_prove_nothing():
    empty = Case("empty", (jnp.zeros((0, 3)), jnp.zeros((3, 0)), jnp.zeros(0)), dtypes=())
    report = check(planted(cases=[empty]))
    assert not report.ok
    assert report.uncovered == ("x", "w", "b")
    assert not report.failures


def test_a_leaf_whose_gradient_is_zero_everywhere_proves_nothing():
    zero = Case("zero w", (CASE.args[0], jnp.zeros((3, 3)), CASE.args[2]), dtypes=())
    report = check(planted(cases=[zero]))
    assert report.uncovered == ("x",)
    assert not report.ok
    assert "NOT COMPARED affine: leaf x" in str(report)
    # Another case in which it is not zero covers it.
    assert check(planted(cases=[zero, CASE])).ok


def test_integers_alone_are_nothing_to_differentiate():
    rule = Rule(lambda n: n + 1, "successor")
    rule.defvjp(lambda n: (n + 1, None), lambda res, dy: (None,))
    rule.defcases(lambda key: iter([Case("one", (jnp.array([1]),))]))
    assert not check(rule).ok


# Arguments


def test_arguments_take_the_place_of_the_cases(key):
    rule = MISTAKES["bias times -3"][0]
    assert not check(rule, *CASE.args).ok
    assert check(planted(cases=()), *CASE.args).ok
    assert check(rules.dropout, draw(3, 5), key, static={"rate": 0.5}).ok


def test_nested_leaves_are_named():
    def scale(params, x):
        return params["a"] * x + params["b"][0]

    rule = Rule(scale, "scale")
    rule.defvjp(
        lambda p, x: (scale(p, x), (p["a"], x)),
        lambda res, dy: ({"a": dy * res[1], "b": [2 * dy]}, dy * res[0]),
    )
    report = check(rule, {"a": draw(3), "b": [draw(3)]}, draw(3))
    assert report.leaves == ("params['a']", "params['b'][0]", "x")
    assert {r.leaf for r in report.failures if r.check == "truth"} == {"params['b'][0]"}


def test_bad_calls_are_named():
    with pytest.raises(ValueError, match="level is one of fast, full, release, found 'slow'"):
        check(planted(), level="slow")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="give a Rule, or a differentiable function and its"):
        check(jnp.sin)
    assert "dropout(x, key, *, rate): missing a required argument" in str(
        check(rules.dropout, draw(3))
    )


# Real rules

RIGHT = (
    "linear",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("silu", "logistic", "dropout")),
)


@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_pass_on_one_of_their_cases(name):
    rule = rules.registered_rules()[name]
    first = rule.cases()[0]
    report = check(rule, *first.args, static=first.static, level="full")
    assert report.ok, str(report)


@pytest.mark.parametrize("name", ["relu", "softmax_cross_entropy"])
def test_a_real_rule_scaled_by_1001_is_rejected(name):
    rule = rules.registered_rules()[name]

    def scaled(res, dy, **static):
        cotangents = rule.backward(res, dy, **static)
        return tuple(None if d is None else d * 1.001 for d in cotangents)

    first = rule.cases()[0]
    report = check(rule.replace(backward=scaled), *first.args, static=first.static)
    assert not report.ok
    assert "manual = 1.001 x truth" in str(report)


# Functions


def foreign(factor):
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (factor * dy * jnp.cos(x),))
    return sine


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.001, False), (-1.0, False)])
def test_any_function_is_held_against_itself_without_rules(factor, ok):
    sine = foreign(factor)

    def f(params, n):
        return sine(params["w"]) ** n

    report = check(f, {"w": draw(3, 2)}, 2)
    assert report.ok is ok
    assert report.leaves == ("argument_0['w']",)
    assert report.rules == 1


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.5, False)])
def test_a_function_that_names_a_dtype_is_judged_in_it(factor, ok):
    sine = foreign(factor)

    def f(x, w):
        return sine(x.astype(jnp.bfloat16)).astype(jnp.float32) * w

    report = check(f, draw(5), draw(5))
    assert report.ok is ok, str(report)
    assert report.leaves == ("argument_0", "argument_1")
    if ok:
        truth, _ = (r for r in report.results if r.check == "truth")
        assert "judged in its own precision" in truth.note


def test_a_function_without_rules_has_its_automatic_derivative_judged():
    report = check(jax.nn.gelu, draw(3))
    assert report.ok, str(report)
    assert "0 hand-written rules" in str(report)
    # Autodiff loses the small element of this gradient altogether.
    assert not check(jax.nn.log_softmax, jnp.array([30.0, 0.0])).ok
    # What jax.grad returns has lost its foreign rule; the mistake is in the function, now.
    assert check(jax.grad(lambda x: foreign(2.0)(x).sum()), draw(3)).rules == 0


def test_static_arguments_of_a_function():
    sine = foreign(1.0)

    def f(x, *, power):
        return sine(x) ** power

    report = check(f, draw(3), static={"power": 2})
    assert report.ok, str(report)


# Surrogates: the gradient differs from the derivative on purpose


def straight_through(factor=1.0):
    rule = Rule(lambda x: jnp.round(x), "round")
    rule.defvjp(lambda x: (jnp.round(x), None), lambda res, dy: (factor * dy,))
    return rule


def test_a_declared_surrogate_passes_and_says_so():
    x = draw(3, 2)
    assert not check(straight_through(), x).ok
    report = check(straight_through(), x, intent="surrogate")
    assert report.ok, str(report)
    skipped = {r.check for r in report.skipped()}
    assert skipped == {"truth", "as_given", "homogeneity", "dot"}
    assert {r.check for r in report.results if r.verdict == "pass"} == {"contract", "primal"}


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.001, False)])
def test_a_surrogate_is_held_against_the_function_it_follows(factor, ok):
    report = check(straight_through(factor), draw(3), intent="surrogate", reference=lambda x: 1 * x)
    assert report.ok is ok, str(report)


def test_a_wrong_value_is_no_surrogate():
    rule = straight_through().replace(forward=lambda x: (jnp.floor(x), None))
    assert not check(rule, draw(5), intent="surrogate").ok


def test_seed_and_case_choose_what_is_checked():
    rule = rules.tanh
    names = [case.name for case in rule.cases()]
    report = check(rule, seed=3, case=names[0])
    assert {(r.case, r.seed) for r in report.results} == {(names[0], 3)}
    with pytest.raises(ValueError, match="case is one of"):
        check(rule, case="no such case")


def test_a_failure_says_where_the_rule_is_and_how_to_see_it_again(monkeypatch):
    rule = rules.tanh.replace(backward=lambda res, dy: (1.001 * rules.tanh.backward(res, dy)[0],))
    text = str(check(rule))
    assert "test_check.py:" in text
    assert "again:" not in text  # no command knows it
    monkeypatch.setattr("funcnn.gradient.check.registered_rules", lambda: {"tanh": rule})
    assert 'again: funcnn check tanh --case "normal" --seed 0' in str(check(rule))


def test_what_raises_without_the_rule_too_is_skipped_and_else_a_failure():
    """A callback has no derivative without its rule; the dot test can then say nothing."""

    def on_the_host(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    host = jax.custom_vjp(on_the_host)
    host.defvjp(lambda x: (on_the_host(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    report = check(lambda x: jnp.sin(host(x)), jnp.ones(3))
    assert report.ok, str(report)
    assert "not done: dot" in str(report)
    (dot,) = [r for r in report.results if r.check == "dot"]
    assert dot.verdict == "skip"
    assert dot.note.startswith("raises without the rule, too: ")

    @jax.custom_vjp
    def odd(x):
        return 2 * x

    def backward(_, dy):
        if not isinstance(dy, Tracer):
            raise RuntimeError("no eager mode")
        return (2 * dy,)

    odd.defvjp(lambda x: (2 * x, None), backward)
    report = check(lambda x: odd(x), jnp.ones(3), level="full")
    assert [r.verdict for r in report.results if "no eager mode" in r.note][:1] == ["fail"]
