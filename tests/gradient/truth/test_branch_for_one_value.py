"""A branch for one value alone, `e == 0`: autodiff differentiates that, and not the function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.check import check


def with_tangent(f, tangent):
    """`f(e, x)` with a derivative by e that is written by hand, and by x of autodiff's form."""
    made = jax.custom_jvp(f)

    @made.defjvp
    def rule(primals, tangents):
        (e, x), (de, dx) = primals, tangents
        by_e, by_x = tangent(e, x)
        return made(e, x), by_e * de + by_x * dx

    return made


def quantile(e, x):
    """(1 - x + x 2^e)^(1 / e), which tends to 2^x at e = 0 and loses its digits on the way."""
    safe = jnp.where(e == 0, 1, e)
    return jnp.where(e == 0, 2**x, (1 - x + x * 2**safe) ** (1 / safe))


def beside_it_nan(e, x):
    """A function that is known at e = 1 alone."""
    return jnp.where(e == 1, x * x, jnp.nan)


def of_quantile(factor):
    def tangent(e, x):
        log2 = np.log(2.0)
        at_zero = 2**x * x * (1 - x) * log2**2 / 2
        return factor * at_zero + 0 * e, log2 * 2**x

    return with_tangent(quantile, tangent)


X = jnp.array([0.2, 0.5, 0.9])


@pytest.mark.parametrize(("error", "verdict"), [(0.0, "pass"), (1e-7, "inconclusive")])
def test_many_digits_decide(error, verdict):
    report = check(of_quantile(1 + error), jnp.float32(0), X)
    assert "fail" not in {r.verdict for r in report.results}, str(report)
    truths = {r.leaf: r for r in report.results if r.check == "truth"}
    assert truths["argument_0"].verdict == verdict
    assert "80 digits" in truths["argument_0"].note


@pytest.mark.parametrize("error", [0.0, 1e-7])
def test_what_the_differences_meet_is_not_called_wrong(error, monkeypatch):
    """Where a function is too large for many digits."""
    monkeypatch.setattr("funcnn.gradient.truth.many_digits._NUMBERS", 10)
    report = check(of_quantile(1 + error), jnp.float32(0), X)
    assert "fail" not in {r.verdict for r in report.results}, str(report)
    truths = {r.leaf: r for r in report.results if r.check == "truth"}
    assert truths["argument_0"].verdict == "inconclusive"
    assert "automatic 0, differences -0.02016904" in truths["argument_0"].note


@pytest.mark.parametrize("numbers", [10, 100_000])
@pytest.mark.parametrize("factor", [1.01, -1.0, 0.0])
def test_what_they_do_not_meet_is_wrong(factor, numbers, monkeypatch):
    """Zero is what autodiff says: many digits alone contradict it, and nobody calls it right."""
    monkeypatch.setattr("funcnn.gradient.truth.many_digits._NUMBERS", numbers)
    report = check(of_quantile(factor), jnp.float32(0), X)
    assert not report.ok
    assert ("fail" in {r.verdict for r in report.results}) is (factor != 0 or numbers > 10)


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.001, False)])
def test_a_moved_argument_that_leaves_the_domain_is_no_noise(factor, ok):
    rule = with_tangent(beside_it_nan, lambda e, x: (0 * e, factor * 2 * x))
    report = check(lambda x: rule(jnp.ones((), x.dtype), x), X)
    assert report.ok is ok, str(report)
    both = check(rule, jnp.float32(1), X)
    assert ("fail" in {r.verdict for r in both.results}) is not ok, str(both)
    truths = {r.leaf: r.verdict for r in both.results if r.check in {"truth", "as given"}}
    assert truths["argument_1"] == ("pass" if ok else "fail")


def mean_of_exp(x):
    """(e^x - 1) / x, whose slope at zero is a half."""
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 1, jnp.expm1(safe) / safe)


def with_slope(f, slope):
    made = jax.custom_vjp(f)
    made.defvjp(lambda x: (f(x), x), lambda x, dy: (slope(x) * dy,))
    return made


def copied(f):
    """What autodiff says, element by element."""
    return lambda x: jax.vjp(f, x)[1](jnp.ones_like(x))[0]


@pytest.mark.parametrize("x", [[0.0, 1.0, -2.0], [0.0, 0.0], 0.0, list(np.arange(-20.0, 20.0))])
def test_a_copy_of_autodiff_is_wrong_where_autodiff_is(x):
    x = jnp.asarray(x, jnp.float32)
    report = check(with_slope(mean_of_exp, copied(mean_of_exp)), x)
    (found,) = (r for r in report.results if r.check == "truth")
    assert found.verdict == "fail", str(report)
    assert "80 digits say" in found.note

    def slope(x):
        return jnp.where(x == 0, 0.5, copied(mean_of_exp)(x))

    assert "fail" not in {r.verdict for r in check(with_slope(mean_of_exp, slope), x).results}


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.where(x == 0, 0, x * jnp.sign(x)),  # a kink
        lambda x: jnp.where(x == 0, 3, x),  # a jump
        lambda x: jnp.where(x == 0, 1, jnp.cos(x)),  # the slope of the branch is right
        lambda x: jnp.sinc(x),
        lambda x: jnp.where(x != 0, x * x, 0),
    ],
)
def test_a_branch_that_is_right_is_no_alarm(f):
    x = jnp.array([0.0, 1.0, -2.0])
    report = check(with_slope(f, copied(f)), x)
    assert "80 digits" not in str(report), str(report)


def weighted(x, w):
    """w log p, and 0 at w = 0 whatever p is."""
    logp = jax.nn.log_softmax(x)
    return jnp.where(w != 0, w * logp, 0)


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.01, False)])
def test_an_infinite_slope_is_one(factor, ok):
    """Where p is 0 the slope by w is infinite, and that of the others is what it is."""
    made = jax.custom_jvp(weighted)

    @made.defjvp
    def rule(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        by_x = jax.jvp(lambda x: weighted(x, w), (x,), (dx,))[1]
        return weighted(x, w), by_x + jax.nn.log_softmax(x) * (factor * dw)

    x, w = jnp.array([[10.0, 1.0, -jnp.inf], [1.0, 4.0, 0.2]]), jnp.array([[0.0, 1, 0], [1, 0, 0]])
    report = check(made, x, w)
    found = {r.verdict for r in report.results if r.leaf == "argument_1"}
    assert ("fail" not in found) is ok, str(report)


@pytest.mark.parametrize(("slope", "ok"), [(0.125, True), (0.13, False)])
def test_a_comparison_inside_a_loop_is_not_looked_at(slope, ok):
    def halved(x):
        """To zero, which the loop compares with in each step."""
        return jax.lax.while_loop(
            lambda state: state[1] < 3,
            lambda state: (jnp.where(state[0] == 0, 0, state[0] / 2), state[1] + 1),
            (jnp.where(x == 0, 0, x), 0),
        )[0]

    rule = with_slope(halved, lambda x: jnp.full_like(x, slope))
    report = check(rule, jnp.array([0.0, 1.0]))
    assert report.ok is ok, str(report)


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (2.0, False)])
def test_where_autodiff_is_nan_forward_mode_is_no_truth(factor, ok):
    """The branch that is not taken is NaN there, backwards."""

    def itself(x):
        return jnp.where(x == 0, 0, x * x / x)

    report = check(with_slope(itself, lambda x: jnp.full_like(x, factor)), jnp.array([0.0, 2]))
    assert ("fail" not in {r.verdict for r in report.results}) is ok, str(report)
