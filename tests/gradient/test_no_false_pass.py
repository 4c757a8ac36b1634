"""What no tool may call right, and what it must say instead; each wrong one has its right twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census

X = jnp.array([-0.6, 0.2, 1.7])


def custom(f, forward, backward):
    made = jax.custom_vjp(f)
    made.defvjp(forward, backward)
    return made


def sine(factor=1.0, f=jnp.sin):
    def backward(x, dy):
        return (jnp.asarray(factor, dy.dtype) * dy * jnp.cos(x),)

    return custom(f, lambda x: (f(x), x), backward)


# The contract of a rule of somebody else's, wherever it has an argument


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_cotangent_of_another_dtype_than_its_argument(kept, inside):
    def backward(a, dy):
        d = 2 * a.astype(jnp.float32) * dy
        return (d.astype(a.dtype) if kept else d,)

    def f(a):
        return a.astype(jnp.float32) ** 2

    square = custom(f, lambda a: (f(a), a), backward)
    if inside:
        report = check(lambda x: square(x.astype(jnp.bfloat16)), X)
    else:
        report = check(square, X.astype(jnp.bfloat16))
    broken = [r for r in report.failures if r.check == "contract"]
    assert bool(broken) is not kept, str(report)
    assert all("expected bfloat16[3], found float32[3]" in r.note for r in broken)


# The truth of a rule is never the rule


# The error bar of the differences must not grow with the gradient that they judge.
@pytest.mark.parametrize("factor", [1, 7, np.inf, np.nan])
def test_differences_judge_what_is_not_finite(factor):
    report = check(sine(factor, lambda x: jax.pure_callback(np.sin, x, x)), X)
    assert report.ok is (factor == 1), str(report)
    assert bool(report.failures) is (factor != 1)


@pytest.mark.parametrize(("factor", "ok"), [(1, True), (7, False)])
def test_a_reference_that_is_or_calls_the_rule(factor, ok):
    rule = sine(factor)
    assert check(rule, X, reference=rule).ok is ok
    calls = fnn.Rule(lambda x: rule(x), "calls")
    calls.defvjp(
        lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.asarray(factor, dy.dtype) * jnp.cos(x) * dy,)
    )
    assert check(calls, X).ok is ok


def test_a_reference_that_calls_its_own_rule_is_no_truth():
    own = fnn.Rule(lambda x: own(x), "own")
    own.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    report = check(own, X)
    assert not report.ok
    assert report.uncovered == ("x",)


@pytest.mark.parametrize(("factor", "ok"), [(1, True), (7, False)])
def test_complex_arguments_are_compared_by_their_parts(factor, ok):
    def backward(z, dy):
        return (jnp.asarray(factor, dy.dtype) * 2 * z * dy,)

    square = custom(lambda z: z * z, lambda z: (z * z, z), backward)
    z = jnp.array([1 + 2j, 0.3 - 1j])
    report = check(square, z)
    assert report.ok is ok
    assert report.leaves == ("argument_0.real", "argument_0.imag")
    assert compare(lambda z: jnp.abs(square(z)).sum(), z, pairs=0, cost=False).ok is ok


# What stands in a transformation


def until_large(x):
    return jax.lax.while_loop(lambda x: jnp.max(x) < 9, lambda x: 2 * x, x)


def scaled_by(x):
    return until_large(x)[..., :1] / x[..., :1]


@pytest.mark.parametrize("right", [True, False])
def test_a_rule_over_a_loop_that_is_wrong_under_vmap_alone(right, monkeypatch):
    """A right rule over a loop is made of its forward mode; the rule itself is no witness."""
    # Some of the values that are tried make the loop endless.
    monkeypatch.setattr("funcnn.gradient.program.compiling.SECONDS", 0.3)

    @jax.custom_batching.custom_vmap
    def pulled(scale, dy):
        return scale * dy

    @pulled.def_vmap
    def _(size, batched, scale, dy):
        del size
        axes = tuple(0 if b else None for b in batched)
        d = jax.vmap(lambda scale, dy: scale * dy, in_axes=axes)(scale, dy)
        return (d if right else 2 * d), True

    def backward(scale, dy):
        return (pulled(scale, dy),)

    rule = custom(until_large, lambda x: (until_large(x), scaled_by(x)), backward)
    report = check(lambda x: rule(x), jnp.array([1.0, 2.0]), level="full")
    assert not [r for r in report.results if r.check == "truth" and r.verdict != "pass"]
    wrong = {r.check for r in report.failures}
    assert ("transforms" in wrong) is not right, str(report)


def test_what_jax_itself_counts_wrongly_is_a_note_that_names_jax():
    """Whoever writes a rule whose output vmap leaves unbatched meets it: JAX 0.10 counts it."""

    def f(w, b):
        return w.sum() * b, (w**2).sum()

    def backward(res, dy):
        w, b = res
        return 2 * w * dy[1] + dy[0] * b, dy[0] * w.sum()

    rule = custom(f, lambda w, b: (f(w, b), (w, b)), backward)
    report = check(rule, X, jnp.float32(0.5), level="full")
    assert report.ok, str(report)
    way = "grad of vmap over argument_1"
    told = {r.note: r.verdict for r in report.results if r.note.startswith(way)}
    assert any(v in {"note", "inconclusive"} and "JAX" in n for n, v in told.items()), told


# A surrogate keeps its value


def nearest(x):
    return jnp.round(x)


def straight_through(value=nearest, factor=1.0):
    f = jax.custom_vjp(nearest)
    f.defvjp(lambda x: (value(x), None), lambda _, dy: (jnp.asarray(factor, dy.dtype) * dy,))
    return f


def of_surrogate(rule, **options):
    def loss(x):
        return (rule(x) ** 2).sum()

    return (
        census(loss, X, **options).ok,
        compare(loss, X, intent="surrogate", pairs=0, cost=False).ok,
        check(rule, X, intent="surrogate").ok,
    )


def test_a_declared_surrogate_is_the_same_to_all_three():
    assert of_surrogate(straight_through(), intent="surrogate") == (True, True, True)
    assert of_surrogate(straight_through(jnp.floor), intent="surrogate") == (False, False, False)


@pytest.mark.parametrize(("factor", "ok"), [(1, True), (7, False)])
def test_a_surrogate_is_held_against_what_it_follows(factor, ok):
    rule = straight_through(factor=factor)

    def loss(x):
        return (rule(x) ** 2).sum()

    def followed(x):
        return ((x + jax.lax.stop_gradient(jnp.round(x) - x)) ** 2).sum()

    options = {"intent": "surrogate", "reference": followed}
    assert check(loss, X, **options).ok is ok
    assert compare(loss, X, pairs=0, cost=False, **options).ok is ok
    by_name = {"nearest": lambda x: x}
    assert census(loss, X, intent={"nearest": "surrogate"}, reference=by_name).ok is ok
    with pytest.raises(ValueError, match="no rule 'rounded' in the program; it calls nearest"):
        census(loss, X, intent={"rounded": "surrogate"})


# Other settings


def product(x, w):
    return x @ w


MATRICES = jnp.arange(6.0).reshape(2, 3), jnp.ones((3, 2))


def test_another_setting_is_a_note_unless_somebody_asks():
    rule = custom(product, lambda x, w: (x @ w, (x, w)), lambda r, d: (d @ r[1].T, r[0].T @ d))
    report = check(rule, *MATRICES, level="full")
    assert report.ok, str(report)
    assert {r.setting for r in report.notes} == {"matmul precision"}
    strict = check(rule, *MATRICES, level="full", strict=True)
    assert not strict.ok
    assert {r.setting for r in strict.failures} == {"matmul precision"}


@pytest.mark.parametrize("precision", [None, "highest"])
def test_what_the_note_on_precision_advises_is_a_remedy(precision):
    def times(a, b):
        return jnp.matmul(a, b, precision=precision)

    def backward(res, dy):
        return times(dy, res[1].T), times(res[0].T, dy)

    made = custom(product, lambda x, w: (times(x, w), (x, w)), backward)
    report = check(made, *MATRICES, level="full", strict=True)
    assert report.ok == bool(precision)
    assert ("give each product precision=" in str(report)) == (not precision)
    by_rule = fnn.rule(lambda x, w: x @ w)
    by_rule.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, dy: (dy @ r[1].T, r[0].T @ dy))
    assert check(by_rule, *MATRICES, level="full", strict=True).ok


def test_no_jit_and_a_kernel_that_raises_are_verdicts():
    with jax.disable_jit():
        assert compare(lambda x: fnn.rules.tanh(x).sum(), X, pairs=0).ok

    def backward(_, dy):
        raise NotImplementedError

    silent = custom(lambda x: 2 * x, lambda x: (2 * x, None), backward)
    (row,) = census(silent, X).rules
    assert (row.verdict, row.note) == ("INCONCLUSIVE", "it raised NotImplementedError")
    assert not check(silent, X).ok


# Messages


def test_what_to_give_instead():
    with pytest.raises(TypeError, match=r"relu is a layer: check its rule, fnn.check\(fnn.rules"):
        check(fnn.relu)
    with pytest.raises(TypeError, match="give what is fixed by static=, or in a closure"):
        check(lambda x, on: fnn.rules.tanh(x) if on else x, X, 0.5)
    assert not check(custom(jnp.square, lambda x: (x * x, x), lambda x, d: (3 * x * d,)), 3.0).ok
    assert check(lambda a: a * 2.0, 3.0).ok


def test_one_branch_alone_is_run():
    def f(x, n):
        return jax.lax.cond(n > 3, sine(7.0), lambda x: x, x) * fnn.rules.tanh(x)

    report = check(f, X, jnp.array(2))
    assert report.ok
    assert "NOT COMPARED f: rule sin: these arguments never run it" in str(report)
    assert not check(f, X, jnp.array(4)).ok
    alone = check(lambda x, n: jax.lax.cond(n > 3, sine(7.0), lambda x: x, x), X, np.int32(2))
    assert not alone.ok


# What was differentiated before the tools saw it


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_rule_that_was_differentiated_inside_is_not_called_right(factor):
    """Of it the call in its own forward pass is left, which looks like one to compare."""
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (sine(x), x), lambda x, dy: (factor * dy * jnp.cos(x),))
    x = jnp.array([0.3, 1.1])

    def slope(x):
        return jax.grad(lambda x: jnp.sum(sine(x)))(x)

    for inside in (slope, jax.jit(slope)):
        report = check(inside, x)
        assert not report.ok
        assert not report.failures
        assert "its value reaches no result" in str(report)
        comparison = compare(lambda x, f=inside: jnp.sum(f(x)), x, pairs=0, cost=False)
        assert not comparison.ok
        assert comparison.conclusion().startswith("NOT COMPARED")
    # Where the value is used beside its slope, the rule is compared.
    assert check(lambda x: sine(x) + slope(x), x).ok is (factor == 1.0)


def test_a_rule_is_compared_beside_an_unused_one_of_its_name():
    """Rules made of lambdas share their name: where they are defined tells them apart."""
    unused = custom(lambda x: 2 * x, lambda x: (2 * x, None), lambda _, dy: (2 * dy,))
    used = custom(lambda x: 3 * x, lambda x: (3 * x, None), lambda _, dy: (3 * dy,))

    def loss(x):
        unused(x)
        return jnp.sum(used(x))

    comparison = compare(loss, jnp.array([0.3, 1.1]), pairs=0, cost=False)
    assert len(comparison.not_compared) == 1
    assert comparison.ok, str(comparison)
