"""A truth that a gradient contradicts is questioned; a wrong gradient stays wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census
from funcnn.gradient.truth.appeal import rounding_of


def custom(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda x: (f(x), x), backward)
    return made


def softplus_with_a_kink(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def relu(x):
    return jnp.maximum(x, 0)


AT_ZERO = jnp.array([0.0, -1.0, 2.0])


def all_three(rule, x):
    """Whether each tool calls the rule right; they must agree."""
    found = {
        check(rule, x).ok,
        census(rule, x).ok,
        compare(lambda x: rule(x).sum(), x, pairs=0, cost=False).ok,
    }
    assert len(found) == 1, found
    return found.pop()


@pytest.mark.parametrize(
    ("slope", "right"), [(0, True), (0.3, True), (1, True), (7, False), (-7, False)]
)
def test_at_a_kink_any_slope_between_the_sides_is_right(slope, right):
    def backward(x, dy):
        at_zero = jnp.asarray(slope, dy.dtype) * dy
        return (jnp.where(x > 0, dy, jnp.where(x == 0, at_zero, 0)),)

    assert all_three(custom(relu, backward), AT_ZERO) is right


def test_a_leaf_that_stands_on_kinks_alone_is_not_compared():
    def backward(x, dy):
        return (jnp.where(x == 0, jnp.asarray(0.3, dy.dtype) * dy, 0),)

    report = check(custom(relu, backward), jnp.zeros(3))
    assert {r.verdict for r in report.results if r.check == "truth"} == {"inconclusive"}
    assert not report.ok
    assert not report.failures


def test_a_kink_excuses_no_other_element():
    def backward(x, dy):
        return (jnp.where(x >= 0, dy, dy / 128),)

    assert not all_three(custom(relu, backward), AT_ZERO)


@pytest.mark.parametrize(("factor", "right"), [(1, True), (1.001, False), (0, False)])
def test_a_smooth_function_written_with_a_kink_has_the_slope_of_its_sides(factor, right):
    def backward(x, dy):
        return (jnp.asarray(factor, dy.dtype) * dy * jax.nn.sigmoid(x),)

    assert all_three(custom(softplus_with_a_kink, backward), AT_ZERO) is right


@pytest.mark.parametrize(("factor", "right"), [(1, True), (7, False)])
def test_digits_that_the_truth_has_lost_prove_nothing(factor, right):
    def backward(x, dy):
        slope = jax.nn.sigmoid(x) * jax.nn.sigmoid(-x)
        return (jnp.where(x > 39, slope, jnp.asarray(factor, dy.dtype) * slope) * dy,)

    x = jnp.array([-40.0, 0.0, 5.0, 40.0])
    assert check(custom(jax.nn.sigmoid, backward), x).ok is right


@pytest.mark.parametrize(
    ("x", "in_the_tail", "ok"),
    [
        ([-40, -3, 0, 5, 40], 1, True),
        ([39.5, 40], 1, True),  # many digits know what float64 has lost
        ([39.5, 40], 1.001, False),
        ([-40, -3, 0, 5, 40], 1e6, False),
    ],
)
def test_what_is_lost_is_left_out_beside_what_was_compared(x, in_the_tail, ok):
    def backward(x, dy):
        slope = dy * jax.nn.sigmoid(x) * jax.nn.sigmoid(-x)
        return (jnp.where(x > 39, jnp.asarray(in_the_tail, dy.dtype) * slope, slope),)

    rule = custom(jax.nn.sigmoid, backward)
    reports = [check(rule, np.array(x, np.float32), seed=seed) for seed in range(3)]
    assert [report.ok for report in reports] == [ok] * 3, "\n".join(map(str, reports))


def test_a_side_that_rounding_has_chosen_is_no_rounding():
    with jax.enable_x64(True):
        f = lambda x: [jnp.abs(3.0 * x - 3.0)]  # noqa: E731, at its kink but for rounding
        one = Subject(("x",), (np.array([1.0]),), f, f, False)
        (noise,) = rounding_of(one, one.x, [np.ones(1)], 2.0**-52)
    assert noise[0] < 1e-14  # a turned sign would be 6


def attention(b):
    q, k, v = np.random.default_rng(9).normal(size=(3, 4, 3)).astype("float32")
    return jax.nn.softmax(q @ (k + b).T) @ v


def test_a_gradient_that_is_zero_by_symmetry_is_zero():
    report = check(attention, np.zeros((1, 3), np.float32))
    assert report.ok, str(report)
    assert all(r.zero for r in report.results if r.check == "truth")


def test_a_rule_that_gives_what_cancels_another_value_is_wrong():
    def backward(x, dy):
        return (dy.sum() * jnp.full_like(x, 1e-3),)

    assert not check(custom(attention, backward), np.zeros((1, 3), np.float32)).ok


def until_settled(z):
    def off(s):
        return jnp.any(abs(jnp.cos(z * s) - s) > 1e-6)

    return jax.lax.while_loop(off, lambda s: jnp.cos(z * s), z)


@pytest.mark.parametrize(("factor", "right"), [(1, True), (1.01, False), (7, False)])
def test_a_loop_is_known_as_far_as_it_has_settled(factor, right):
    def forward(z):
        y = until_settled(z)
        return y, (z, y)

    def backward(res, dy):
        z, y = res
        slope = -y * jnp.sin(z * y) / (1 + z * jnp.sin(z * y))
        return (jnp.asarray(factor, dy.dtype) * slope * dy,)

    rule = jax.custom_vjp(until_settled)
    rule.defvjp(forward, backward)
    assert check(rule, jnp.float32(0.7)).ok is right


def test_what_a_loop_hides_is_stopped_and_counted(monkeypatch):
    monkeypatch.setattr("funcnn.gradient.program.compiling.SECONDS", 0.3)

    def settle(x):
        # In bfloat16 the steps are too coarse for the tolerance.
        return jax.lax.while_loop(
            lambda s: jnp.any(abs(s * s - x) > 1e-5), lambda s: (s + x / s) / 2, x
        )

    rule = jax.custom_vjp(settle)
    rule.defvjp(lambda x: (settle(x), settle(x)), lambda y, dy: (dy / (2 * y),))
    report = check(rule, jnp.array([2.0, 3.0]), level="full")
    assert report.ok, str(report)
    stopped = [r for r in report.results if "stopped: a loop had not ended after 0.3 s" in r.note]
    assert {r.check for r in stopped} >= {"rounding"}


def fixed_point(factor, of_start):
    """z = cos(a z) by iteration, with its implicit derivative; the start has none."""

    def solve(a, start):
        def off(s):
            return jnp.any(jnp.abs(s[0] - s[1]) > 1e-7)

        return jax.lax.while_loop(off, lambda s: (jnp.cos(a * s[0]), s[0]), (start, start + 1))[0]

    def backward(res, dz):
        a, z = res
        slope = -jnp.sin(a * z)
        return factor * dz * slope * z / (1 - slope * a), of_start * jnp.ones_like(z)

    rule = jax.custom_vjp(solve)
    rule.defvjp(lambda a, start: ((z := solve(a, start)), (a, z)), backward)
    return rule


@pytest.mark.parametrize(
    ("factor", "of_start", "ok"),
    [
        (1.0, 0.0, True),
        pytest.param(1.1, 0.0, False, marks=pytest.mark.slow),
        pytest.param(1.0, 1e-3, False, marks=pytest.mark.slow),
    ],
)
def test_what_a_tolerance_leaves_of_the_start_is_no_gradient(factor, of_start, ok):
    f, a, start = fixed_point(factor, of_start), jnp.array([0.5, 0.8]), jnp.ones(2)
    for report in (check(f, a, start), census(f, a, start)):
        assert report.ok is ok, str(report)


# Where autodiff is NaN


def safe_root(factor, at_zero=0.0):
    """sqrt(x) where x > 0, else 0: autodiff multiplies 0 by infinity behind the where."""
    made = jax.custom_vjp(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0))

    def backward(x, dy):
        slope = 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0))
        return (dy * jnp.where(x > 0, factor * slope, jnp.where(x == 0, at_zero, 0.0)),)

    made.defvjp(lambda x: (jnp.where(x > 0, jnp.sqrt(x), 0.0), x), backward)
    return made


def sinc(factor, at_zero=0.0):
    """sin x / x, 1 at 0: smooth there, and autodiff is NaN."""
    made = jax.custom_vjp(lambda x: jnp.where(x != 0, jnp.sin(x) / x, 1.0))

    def backward(x, dy):
        z = jnp.where(x != 0, x, 1.0)
        return (dy * jnp.where(x != 0, factor * (jnp.cos(z) - jnp.sin(z) / z) / z, at_zero),)

    made.defvjp(lambda x: (jnp.where(x != 0, jnp.sin(x) / x, 1.0), x), backward)
    return made


@pytest.mark.parametrize("make", [safe_root, pytest.param(sinc, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("factor", "at_zero", "ok"), [(1.0, 0.0, True), (7.0, 0.0, False), (1.0, -3.0, False)]
)
def test_a_rule_that_is_finite_where_autodiff_is_not(make, factor, at_zero, ok):
    f, x = make(factor, at_zero), jnp.array([0.0, 0.5, 2.0])
    reports = [
        *(check(f, x, level=level) for level in ("fast", "full")),
        census(f, x),
        compare(lambda x: f(x).sum(), x, pairs=0, cost=False),
    ]
    for report in reports:
        assert report.ok is ok, str(report)
        assert (factor == 7.0) <= report.conclusion().startswith("FAILED"), str(report)


def test_a_negative_number_behind_the_where_is_no_alarm():
    assert check(safe_root(1.0), jnp.array([-1.0, 0.0, 0.5])).ok


@pytest.mark.parametrize("at_zero", [5.0, np.nan])
def test_a_number_in_the_place_of_an_infinite_derivative_is_not_called_right(at_zero):
    made = jax.custom_vjp(jnp.sqrt)

    def backward(x, dy):
        return (dy * jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), at_zero),)

    made.defvjp(lambda x: (jnp.sqrt(x), x), backward)
    x = jnp.array([0.0, 0.5, 2.0])
    for report in (
        check(made, x),
        census(made, x),
        compare(lambda x: made(x).sum(), x, pairs=0, cost=False),
    ):
        assert not report.ok, str(report)


def test_nan_where_the_truth_is_a_number_fails():
    made = jax.custom_vjp(jnp.sqrt)
    made.defvjp(lambda x: (jnp.sqrt(x), x), lambda x, dy: (jnp.where(x > 1, jnp.nan, dy / 2),))
    report = check(made, jnp.array([0.0, 4.0]))
    assert any("not finite where the truth is" in r.note for r in report.failures), str(report)


# A cotangent, a sample, a step that does not reach


def row_norm(at_zero):
    made = jax.custom_vjp(lambda x: jnp.sqrt(jnp.sum(x * x, 1)))

    def backward(res, dy):
        x, y = res
        slope = x / jnp.where(y > 0, y, 1.0)[:, None]
        return (jnp.where(y[:, None] > 0, slope, at_zero) * dy[:, None],)

    made.defvjp(lambda x: (jnp.sqrt(jnp.sum(x * x, 1)), (x, jnp.sqrt(jnp.sum(x * x, 1)))), backward)
    return made


@pytest.mark.parametrize("level", ["fast", pytest.param("full", marks=pytest.mark.slow)])
def test_one_cotangent_that_misses_an_element_proves_nothing_of_it(level):
    x = jnp.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [3.0, 1.0]])
    assert check(row_norm(0.0), x, level=level).ok
    assert not check(row_norm(1e6), x, level=level).ok


@pytest.mark.parametrize("slope", [1.0, 0.5])
@pytest.mark.parametrize("n", [198, pytest.param(1990, marks=pytest.mark.slow)])
def test_wrong_elements_among_many_at_kinks(n, slope):
    """1 at 0 is right there; a half far above it is not."""
    f = custom(relu, lambda x, dy: (dy * jnp.where(x > 5, slope, jnp.where(x >= 0, 1.0, 0.0)),))
    x = jnp.concatenate([jnp.zeros(n), jnp.array([6.0, 1.0])])
    for report in (check(f, x), census(f, x), compare(lambda x: f(x).sum(), x, pairs=0)):
        assert report.ok is (slope == 1.0), str(report)


@pytest.mark.parametrize(("at", "factor"), [(1e-7, 1.8), (1e-7, 0.0), (1e9, 3.0)])
def test_secants_that_say_nothing_excuse_nothing(at, factor):
    def f(x):
        return jnp.where(x > 0, jnp.sqrt(x), -jnp.sqrt(-x)) + (1e9 if at == 1e9 else 0.0)

    def backward(x, dy):
        return (factor * dy * 0.5 / jnp.sqrt(jnp.abs(x)),)

    made, x = custom(f, backward), jnp.array([1e-7 if at == 1e9 else at])
    for report in (census(made, x), compare(lambda x: made(x).sum(), x, pairs=0, cost=False)):
        assert not report.ok, str(report)


# Where rounding in the rule's own arithmetic meets a kink


def added_in_logarithms(first, second):
    """log(e^x + e^y): smooth, but written with a maximum; its rule rounds what it subtracts."""
    made = jax.custom_vjp(lambda x, y: jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y))))

    def backward(res, dy):
        x, y, z = res
        return first * dy * jnp.exp(x - z), second * dy * jnp.exp(y - z)

    made.defvjp(lambda x, y: (made(x, y), (x, y, made(x, y))), backward)
    return made


@pytest.mark.parametrize(
    ("factors", "right"),
    [((1, 1), True), ((1.1, 1.1), False), ((0.6, 1.4), False), ((7, 1), False), ((2, 0), False)],
)
@pytest.mark.parametrize("size", [1e5, 2e5])
def test_the_algebra_of_a_rule_shows_where_its_numbers_are_rounded(factors, right, size):
    x = jnp.full(3, -size, jnp.float32)
    assert census(added_in_logarithms(*factors), x, x).ok is right


def test_what_jax_adds_in_logarithms():
    x = jnp.full(3, -1e5, jnp.float32)
    assert census(jnp.logaddexp, x, x).ok
