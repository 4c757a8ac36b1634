"""Normalisation against flax and NumPy, at large offsets, in bytes, and mistakes that are seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from witness import finite_difference_error, gradient_error, gradient_errors, pull, relative_error

import funcnn as fnn
from funcnn import rules
from funcnn.core.registry import Case
from funcnn.rules.normalization.rows import Moments, over_rows, projected

RANDOM = np.random.default_rng(0)


def draw(*shape):
    return RANDOM.standard_normal(shape)


# name -> (rule with static arguments, flax's module, shape of x)
PEERS = {
    "layer_norm": (rules.layer_norm, linen.LayerNorm, (3, 5, 7), {"epsilon": 1e-3}),
    "rms_norm": (rules.rms_norm, linen.RMSNorm, (3, 5, 7), {"epsilon": 1e-3}),
    "group_norm": (
        functools.partial(rules.group_norm, groups=2),
        functools.partial(linen.GroupNorm, 2),
        (3, 4, 5, 6),
        {"epsilon": 1e-3},
    ),
    "instance_norm": (rules.instance_norm, linen.InstanceNorm, (3, 4, 5, 6), {"epsilon": 1e-3}),
    "batch_norm": (
        lambda *a, **k: rules.batch_norm(*a, **k)[0],
        functools.partial(linen.BatchNorm, use_running_average=False),
        (3, 4, 5, 6),
        {"epsilon": 1e-3},
    ),
}


def flax_form(module, x, params):
    """flax's function of (x, scale, bias) in float64, by its two-pass variance."""
    options = {} if "RMSNorm" in repr(module) else {"use_fast_variance": False}
    made = module(epsilon=1e-3, dtype=jnp.float64, param_dtype=jnp.float64, **options)
    variables = made.init(jax.random.key(0), x)

    def f(x, *values):
        named = dict(zip(params, values, strict=True))
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            y = made.apply({**variables, "params": named}, x, mutable=["batch_stats"])
        return y[0]

    return f


@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_equal_those_of_flax(name):
    f, module, shape, static = PEERS[name]
    params = ("scale",) if name == "rms_norm" else ("scale", "bias")
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        x, dy = jnp.asarray(draw(*shape) + 3), jnp.asarray(draw(*shape))
        values = [jnp.asarray(draw(shape[-1])) for _ in params]
        peer = flax_form(module, x, params)

        @functools.partial(jax.jit, static_argnums=0)
        def both(f, *args):
            y, pullback = jax.vjp(f, *args)
            return y, pullback(dy)

        found = both(functools.partial(f, **static), x, *values)
        expected = both(peer, x, *values)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-10, atol=1e-11)


def standardized(x, axes, epsilon):
    x = np.asarray(x, np.float64)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_equal_those_of_numpy(dtype):
    x = jnp.asarray(draw(3, 4, 6), dtype)
    scale, bias = jnp.asarray(draw(6), dtype), jnp.asarray(draw(6), dtype)
    wide = [np.asarray(a).astype(np.float64) for a in (scale, bias)]
    tolerance = 2e-5 if dtype == "float32" else 2e-2
    close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    hat = functools.partial(standardized, epsilon=1e-5)
    groups = hat(np.asarray(x).astype(np.float64).reshape(3, 4, 2, 3), (1, 3)).reshape(x.shape)
    for y, expected in [
        (rules.layer_norm(x, scale, bias), hat(x, -1)),
        (rules.group_norm(x, scale, bias, groups=2), groups),
        (rules.instance_norm(x, scale, bias), hat(x, 1)),
        (rules.batch_norm(x, scale, bias)[0], hat(x, (0, 1))),
    ]:
        assert y.dtype == x.dtype
        close(np.asarray(y).astype(np.float64), expected * wide[0] + wide[1])
    square = np.square(np.asarray(x).astype(np.float64)).mean(-1, keepdims=True)
    expected = np.asarray(x).astype(np.float64) / np.sqrt(square + 1e-6) * wide[0]
    close(np.asarray(rules.rms_norm(x, scale)).astype(np.float64), expected)
    _, mean, variance = rules.batch_norm(x, scale, bias)
    assert mean.dtype == variance.dtype == jnp.float32
    rows = np.asarray(x).astype(np.float64).reshape(-1, 6)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-5)  # biased


def test_evaluation_is_training_with_the_batch_s_own_statistics():
    x, scale, bias = (jnp.asarray(draw(*s), jnp.float32) for s in ((9, 4), (4,), (4,)))
    y, mean, variance = rules.batch_norm(x, scale, bias)
    given = rules.batch_norm_evaluation(x, scale, bias, mean, variance)
    np.testing.assert_allclose(given, y, rtol=1e-5, atol=1e-6)
    low = x.astype(jnp.bfloat16), scale.astype(jnp.bfloat16), bias.astype(jnp.bfloat16)
    assert rules.batch_norm_evaluation(*low, mean, variance).dtype == jnp.bfloat16


NAMES = ("layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm")
OURS = (*NAMES, "batch_norm_evaluation")


@pytest.mark.parametrize("name", OURS)
def test_the_reference_has_the_gradient_that_differences_have(name):
    rule = getattr(rules, name)
    for case in rule.cases()[:2]:
        f = functools.partial(rule.reference, **case.static)
        errors = finite_difference_error(f, case.args, jax.random.key(3))
        assert max(errors.values()) < 1e-9, (case.name, errors)


@pytest.mark.parametrize(
    "through", ["jit", *(pytest.param(t, marks=pytest.mark.slow) for t in ("vmap", "scan"))]
)
@pytest.mark.parametrize("name", OURS)
def test_the_rule_has_the_gradient_of_its_reference(name, through):
    rule = getattr(rules, name)
    errors = gradient_errors(rule, rule.cases()[:4], through=through)
    assert max(errors.values()) < 1e-11, errors


def test_one_column_has_the_gradient_that_epsilon_leaves():
    x, scale = jnp.array([[0.5], [-2.0]]), jnp.array([1.5])
    case = Case("one column", (x, scale), {"epsilon": 0.1})
    assert max(gradient_error(rules.rms_norm, case).values()) < 1e-14
    dx = jax.grad(lambda x: rules.layer_norm(x, scale, scale).sum())(x)
    np.testing.assert_array_equal(dx, 0)


# A mean that is large against the deviation


def one_pass(x, scale, bias, *, epsilon):
    mean = jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(x * x, -1, keepdims=True) - mean * mean
    r = jax.lax.rsqrt(jnp.maximum(variance, 0) + epsilon)
    y = (x - mean) * r * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)
    return y, (x, Moments(mean, jnp.zeros_like(mean), r), scale)


def offset_errors(rule, offset):
    """Relative errors of y and dx in float32 against float64, at a mean of `offset` deviations."""
    random = np.random.default_rng(1)
    x = jnp.asarray(random.standard_normal((16, 100)) + offset, jnp.float32)
    dy, scale = (jnp.asarray(random.standard_normal(s), jnp.float32) for s in ((16, 100), 100))
    y, dx = jax.jit(lambda *a: (rule(*a), pull(rule, a, dy)[0]))(x, scale, scale)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in (x, scale, scale)]
        reference, dy64 = functools.partial(rule.reference, epsilon=1e-5), dy.astype(jnp.float64)
        return (
            relative_error(y, jax.jit(reference)(*wide)),
            relative_error(dx, jax.jit(pull, static_argnums=0)(reference, tuple(wide), dy64)[0]),
        )


def test_a_large_mean_costs_no_digits():
    # x itself is rounded to 1e-3 deviations there; what is computed from it is not.
    assert max(offset_errors(rules.layer_norm, 1e4)) < 1e-6
    automatic = rules.layer_norm.replace(
        forward=lambda x, s, b, *, epsilon: (
            rules.layer_norm.reference(x, s, b, epsilon=epsilon),
            rules.layer_norm.forward(x, s, b, epsilon=epsilon)[1],
        )
    )
    assert offset_errors(automatic, 1e4)[0] > 1e-5  # without the correction of the mean
    wrong = rules.layer_norm.replace(forward=one_pass)
    assert min(offset_errors(wrong, 1e4)) > 1e-1
    assert max(offset_errors(wrong, 0)) < 1e-5


def test_batch_statistics_at_a_large_mean():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((200, 3)) + 1e4, jnp.float32)
    y, mean, variance = rules.batch_norm(x, jnp.ones(3), jnp.zeros(3))
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(variance, wide.var(0), rtol=2e-6)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-7)
    assert relative_error(y, standardized(x, 0, 1e-5)) < 1e-6


def test_sums_are_taken_in_float32():
    x = jnp.asarray(draw(4096, 1), jnp.bfloat16)
    one = jnp.ones(1, jnp.bfloat16)
    *_, dbias = jax.grad(lambda *a: rules.layer_norm(*a).sum(), (0, 1, 2))(x, one, one)
    assert float(dbias[0]) == 4096  # in bfloat16 the sum stops at 256


# Bytes

ROWS, WIDTH, DEPTH = 256, 64, 6


def temporaries(norm, removed, parameters):
    """Bytes of a scan over blocks, norm and dense, in arrays of the size of x for each block."""
    x, w = jnp.ones((ROWS, WIDTH)), jnp.ones((DEPTH, WIDTH, WIDTH))
    values = [jnp.ones((DEPTH, WIDTH))] * parameters

    def loss(w, *values):
        def block(h, p):
            return jnp.tanh(norm(h, *p[1:]) @ p[0]) + h, None

        h, _ = jax.lax.scan(block, x, (w, *values))
        return jnp.sum(h * h)

    places = tuple(range(1 + parameters))
    f = jax.value_and_grad(fnn.without_rules(loss) if removed else loss, places)
    analysis = jax.jit(f).lower(w, *values).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / (x.nbytes * DEPTH)


IN_BLOCKS = {
    "layer_norm": rules.layer_norm,
    "rms_norm": rules.rms_norm,
    "group_norm": functools.partial(rules.group_norm, groups=4),
    "batch_norm": lambda *args: rules.batch_norm(*args)[0],
}


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_two_arrays_a_block_less_than_autodiff_in_a_loop(name):
    parameters = 1 if name == "rms_norm" else 2
    manual, automatic = (temporaries(IN_BLOCKS[name], r, parameters) for r in (False, True))
    assert automatic - manual > 1.9, (manual, automatic)


@pytest.mark.parametrize("name", NAMES)
def test_kept_are_x_and_three_numbers_a_row(name):
    rule = getattr(rules, name)
    case = rule.cases()[0]
    _, res = rule.forward(*case.args, **rule.static_arguments(**case.static))
    x, rows, scale = res
    assert x is case.args[0]
    assert scale is case.args[1]
    kept = {"layer_norm": 5, "rms_norm": 5, "group_norm": 4, "instance_norm": 6, "batch_norm": 3}
    assert {r.size for r in jax.tree.leaves(rows)} == {kept[name]}
    assert len(jax.tree.leaves(rows)) == (1 if name == "rms_norm" else 3)


@pytest.mark.parametrize("name", OURS)
def test_arrays_of_the_size_of_x_that_are_kept(name):
    rule = getattr(rules, name)
    x, values = jnp.ones((4, 8, 16)), [jnp.ones(16)] * (len(rule.parameters) - 1)
    static = {"groups": 4} if name == "group_norm" else {}
    kept = [
        sum(leaf.size == x.size for leaf in jax.tree.leaves(jax.vjp(f, x, *values)[1]))
        for f in (functools.partial(rule, **static), functools.partial(rule.reference, **static))
    ]
    assert kept == [1, 4 if name.startswith("batch") else 3]


# Planted mistakes


def without_epsilon(res, dy, *, epsilon):
    x, rows, scale = res
    r = jax.lax.rsqrt(1 / rows.rstd**2 - epsilon)
    return rules.layer_norm.backward((x, rows._replace(rstd=r), scale), dy, epsilon=epsilon)


def backward_of_layer_norm(project, rstd=lambda rows, width: rows.rstd):
    """The backward pass of layer norm with another projection, or another 1 / deviation."""

    def backward(res, dy, *, epsilon):
        x, rows, scale = res
        rows = rows._replace(rstd=rstd(rows, x.shape[-1]))
        hat = rows.standardized(x)
        dx = rows.rstd * project(dy * jnp.broadcast_to(scale, dy.shape), hat)
        return dx, over_rows(dy * hat), over_rows(dy)

    return backward


def unbiased(rows, width):
    variance = 1 / rows.rstd**2 - 0.5
    return jax.lax.rsqrt(variance * width / (width - 1) + 0.5)


def mean(a):
    return jnp.mean(a, -1, keepdims=True)


MISTAKES = {
    "epsilon forgotten": without_epsilon,
    "mean of g missing": backward_of_layer_norm(lambda g, hat: g - hat * mean(g * hat)),
    "radial term missing": backward_of_layer_norm(lambda g, hat: g - mean(g)),
    "divided by D - 1": backward_of_layer_norm(lambda g, hat: projected(g, hat, (-1,)), unbiased),
    "sum for mean": backward_of_layer_norm(
        lambda g, hat: g - mean(g) - hat * jnp.sum(g * hat, -1, keepdims=True)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_rejected(mistake):
    (case,) = (c for c in rules.layer_norm.cases() if c.name == "large epsilon")
    assert max(gradient_error(rules.layer_norm, case).values()) < 1e-14
    right = backward_of_layer_norm(lambda g, hat: projected(g, hat, (-1,)))
    assert max(gradient_error(rules.layer_norm.replace(backward=right), case).values()) < 1e-14
    errors = gradient_error(rules.layer_norm.replace(backward=MISTAKES[mistake]), case)
    assert errors["x"] > 1e-2


def test_batch_norm_with_given_statistics_in_the_backward_pass_is_rejected():
    """The mistake of equinox#659 turned round: the gradient does not go through the statistics."""
    batch_norm = rules.batch_norm

    def backward(res, cotangents, *, epsilon):
        dx, dscale, dbias = batch_norm.backward(res, cotangents, epsilon=epsilon)
        _, columns, scale = res
        return columns.rstd * scale[None] * cotangents[0] + 0 * dx, dscale, dbias

    case = batch_norm.cases()[0]
    assert gradient_error(batch_norm.replace(backward=backward), case)["x"] > 1e-1


@pytest.mark.parametrize("place", [1, 2])
def test_the_cotangents_of_the_statistics_are_not_forgotten(place):
    batch_norm = rules.batch_norm

    def backward(res, cotangents, *, epsilon):
        lost = [c * float(i != place) for i, c in enumerate(cotangents)]
        return batch_norm.backward(res, tuple(lost), epsilon=epsilon)

    case = batch_norm.cases()[0]
    assert gradient_error(batch_norm.replace(backward=backward), case)["x"] > 1e-2


@pytest.mark.parametrize("over", [1, 2])
def test_a_vmap_over_a_parameter_counts_the_statistics_once(over):
    """JAX counts the cotangent of an unbatched output of a custom_vjp once for each element."""
    x, scale, bias = rules.batch_norm.cases()[0].args

    def loss(f, x):
        axes = [None, 0 if over == 1 else None, 0 if over == 2 else None]
        stacked = [
            jnp.stack([a, 2 * a]) if i == 0 else a
            for a, i in zip((x, scale, bias), axes, strict=True)
        ]
        return sum(jnp.sum(a * a) for a in jax.vmap(f, axes)(*stacked))

    found, expected = (
        jax.jit(jax.grad(functools.partial(loss, f)))(x)
        for f in (rules.batch_norm, rules.batch_norm.reference)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# Second derivatives and errors


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "batch_norm"])
def test_second_derivatives(name):
    rule = getattr(rules, name)
    case = rule.cases()[0]

    def loss(f, x):
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(f(x, *case.args[1:])))

    with jax.enable_x64(True):
        case = rule.cases()[0]
        found, expected = (
            jax.jit(jax.hessian(functools.partial(loss, f)))(case.args[0])
            for f in (rule, rule.reference)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda: rules.layer_norm(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(3)),
            "scale must have shape (3,), the last axis of x, found float32[2]",
        ),
        (
            lambda: rules.layer_norm(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(1)),
            "bias must have shape (3,)",
        ),
        (lambda: rules.rms_norm(jnp.ones(()), jnp.ones(1)), "x must have at least one axis"),
        (
            lambda: rules.rms_norm(jnp.ones(3), jnp.ones(3), epsilon=0.0),
            "epsilon must be positive, found 0.0",
        ),
        (
            lambda: rules.group_norm(jnp.ones((2, 6)), jnp.ones(6), jnp.ones(6), groups=4),
            "6 channels cannot be divided into 4 groups",
        ),
        (
            lambda: rules.group_norm(jnp.ones(6), jnp.ones(6), jnp.ones(6), groups=2),
            "x must have shape (N, ..., C)",
        ),
        (
            lambda: rules.batch_norm(jnp.ones((0, 3)), jnp.ones(3), jnp.ones(3)),
            "at least one row to take the mean of, found float32[0, 3]",
        ),
        (
            lambda: rules.batch_norm_evaluation(*[jnp.ones(s) for s in ((2, 3), 3, 3, 2, 3)]),
            "mean must be float32[3], found float32[2]",
        ),
    ],
)
def test_bad_arguments_are_one_clear_line(f, message):
    with pytest.raises(ValueError, match=r"^\w+_norm\w*: ") as caught:
        f()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_dtypes_and_integers_are_refused():
    with pytest.raises(TypeError, match="layer_norm: x and scale must have one dtype"):
        rules.layer_norm(jnp.ones((2, 3), jnp.bfloat16), jnp.ones(3), jnp.ones(3))
    with pytest.raises(TypeError, match="rms_norm: x must be floating point, found int32"):
        rules.rms_norm(jnp.ones((2, 3), int), jnp.ones(3))
