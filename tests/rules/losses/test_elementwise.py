"""The losses against optax, their labels, targets and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from witness import gradient_error

from funcnn.rules import logistic, softmax_cross_entropy, squared_error


def gradients(f, *args):
    y, pullback = jax.vjp(f, *args)
    return y, pullback(jnp.cos(jnp.arange(float(y.size)).astype(y.dtype)).reshape(y.shape))


def assert_same(ours, theirs, *args):
    y, found = gradients(ours, *args)
    truth, expected = gradients(theirs, *args)
    np.testing.assert_allclose(y, truth, rtol=1e-12)
    for f, t, a in zip(found, expected, args, strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(f, t, rtol=1e-11, atol=1e-14)


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape))


def test_squared_error_equals_optax():
    with jax.enable_x64(True):
        y, target = numbers(5, 3), numbers(3, 5).T
        assert_same(squared_error, lambda y, t: optax.l2_loss(y, t).sum(-1), y, target)


def test_logistic_equals_optax():
    with jax.enable_x64(True):
        z = 3 * numbers(7, 2)
        soft = jax.nn.sigmoid(numbers(2, 7).T)
        hard = (numbers(7, 2) > 0).astype(float)
        for target in (soft, hard):
            with jax.numpy_dtype_promotion("standard"):
                assert_same(logistic, optax.sigmoid_binary_cross_entropy, z, target)


@pytest.mark.parametrize("dtype", [int, bool, "uint8"])
def test_logistic_takes_integers_and_bools_as_numbers(dtype):
    z, target = jnp.array([-2.0, 0.0, 3.0, 40.0]), jnp.array([0, 1, 1, 0])
    y, (dz, *_) = gradients(logistic, z, target.astype(dtype))
    truth, (dz_truth, _) = gradients(logistic, z, target.astype(float))
    np.testing.assert_array_equal(y, truth)
    np.testing.assert_array_equal(dz, dz_truth)


def test_logistic_at_infinity_is_its_limit():
    z, target = jnp.array([jnp.inf, jnp.inf, -jnp.inf, -jnp.inf]), jnp.array([1, 0, 0, 1])
    y, pullback = jax.vjp(lambda z: logistic(z, target), z)
    np.testing.assert_array_equal(y, [0, np.inf, 0, np.inf])
    np.testing.assert_array_equal(pullback(jnp.ones(4))[0], [0, 1, 0, -1])
    assert np.isnan(logistic(jnp.array(jnp.nan), jnp.array(1)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_optax(smoothing):
    with jax.enable_x64(True):
        z, labels = 2 * numbers(7, 5), jnp.array([0, 4, 2, 2, 1, 3, 0])

        def smoothed(z):
            target = optax.smooth_labels(jax.nn.one_hot(labels, 5, dtype=z.dtype), smoothing)
            return optax.softmax_cross_entropy(z, target)

        assert_same(lambda z: softmax_cross_entropy(z, labels, smoothing=smoothing), smoothed, z)


def test_cross_entropy_with_integer_labels_equals_optax():
    with jax.enable_x64(True):
        z, labels = numbers(2, 3, 11), jnp.array([[0, 5, 10], [7, 7, 1]])
        assert_same(
            lambda z: softmax_cross_entropy(z, labels),
            lambda z: optax.softmax_cross_entropy_with_integer_labels(z, labels),
            z,
        )


@pytest.mark.parametrize("label", [-1, 3, 100, -100])
@pytest.mark.parametrize("f", [softmax_cross_entropy, softmax_cross_entropy.reference])
def test_a_label_outside_the_classes_is_nan_and_never_clipped(f, label):
    z = jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    y = np.asarray(f(z, jnp.array([label, 2])))
    np.testing.assert_array_equal(np.isnan(y), [True, False])


def test_a_row_with_such_a_label_can_be_masked_afterwards():
    z, labels = jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), jnp.array([-1, 2])

    def masked(z):
        return jnp.sum(jnp.where(labels >= 0, softmax_cross_entropy(z, labels), 0))

    dz = np.asarray(jax.grad(masked)(z))
    np.testing.assert_array_equal(dz[0], 0)
    assert np.all(np.isfinite(dz[1]))
    used = np.asarray(jax.grad(lambda z: jnp.sum(softmax_cross_entropy(z, labels)))(z))
    assert np.all(np.isnan(used[0]))
    assert np.all(np.isfinite(used[1]))


def test_narrow_labels_count_beyond_their_range():
    """300 classes do not fit into the 256 numbers of a uint8: 44 must not match 44 + 256."""
    z = jnp.zeros((1, 300)).at[0, 44].set(3.0).at[0, 300 - 1].set(5.0)
    narrow = gradients(lambda z: softmax_cross_entropy(z, jnp.array([44], jnp.uint8)), z)
    wide = gradients(lambda z: softmax_cross_entropy(z, jnp.array([44])), z)
    np.testing.assert_array_equal(narrow[0], wide[0])
    np.testing.assert_array_equal(narrow[1][0], wide[1][0])
    assert np.sum(np.asarray(narrow[1][0]) < 0) == 1


def test_masked_logits():
    z = jnp.array([[0.5, -jnp.inf, 1.5], [0.5, -jnp.inf, 1.5]])
    y, pullback = jax.vjp(lambda z: softmax_cross_entropy(z, jnp.array([2, 1])), z)
    np.testing.assert_array_equal(np.isinf(y), [False, True])
    dz = np.asarray(pullback(jnp.ones(2))[0])
    assert np.all(np.isfinite(dz))
    assert dz[0, 1] == 0


# Rows that weigh more than others, or nothing


def test_weights_and_ignored_labels_equal_those_of_optax():
    with jax.enable_x64(True):
        z, v = 2 * numbers(7, 5), jnp.abs(numbers(3, 4)).ravel()[:7]
        labels = jnp.array([0, -100, 2, 2, -100, 3, 0])

        def theirs(z, v):
            inside = jnp.where(labels == -100, 0, labels)
            losses = optax.softmax_cross_entropy_with_integer_labels(z, inside)
            return jnp.where(labels == -100, 0, v * losses)

        assert_same(lambda z, v: softmax_cross_entropy(z, labels, v, ignored=-100), theirs, z, v)
        unweighted = lambda z: theirs(z, jnp.ones(7))  # noqa: E731
        assert_same(lambda z: softmax_cross_entropy(z, labels, ignored=-100), unweighted, z)

        target = jnp.array([[0, 1, 255], [1, 255, 1]])
        z, v = z[:2, :3], jnp.abs(z[2:4, :3])

        def binary(z, v):
            losses = optax.sigmoid_binary_cross_entropy(z, (target == 1).astype(z.dtype))
            return jnp.where(target == 255, 0, v * losses)

        with jax.numpy_dtype_promotion("standard"):
            assert_same(lambda z, v: logistic(z, target, v, ignored=255), binary, z, v)
            soft = jax.nn.sigmoid(v)
            assert_same(
                lambda z, t, v: logistic(z, t, v),
                lambda z, t, v: v * optax.sigmoid_binary_cross_entropy(z, t),
                *(z, soft, v),
            )


@pytest.mark.parametrize("of", [lambda f: f, lambda f: f.reference], ids=["rule", "reference"])
def test_an_ignored_row_may_hold_anything(of):
    z = jnp.array([[jnp.nan, 1.0], [jnp.inf, -jnp.inf], [0.0, 1.0]])
    labels, v = jnp.array([7, 7, 1]), jnp.array([jnp.nan, jnp.inf, 2.0])
    cross, binary = of(softmax_cross_entropy), of(logistic)
    for f, args in (
        (lambda z, v: cross(z, labels, v, ignored=7), (z, v)),
        (lambda z: cross(z, labels, ignored=7), (z,)),
        (lambda z, v: binary(z, labels, v, ignored=7), (z[:, 0], v)),
    ):
        y, cotangents = gradients(f, *args)
        np.testing.assert_array_equal(y[:2], 0)
        assert y[2] > 0
        for cotangent in cotangents:
            np.testing.assert_array_equal(cotangent[:2], 0)
            assert np.all(cotangent[2] != 0)


def test_weights_keep_their_own_dtype_and_a_row_taken_out_moves_none():
    z, v = jnp.zeros((2, 3), jnp.bfloat16), jnp.ones(2)
    labels = jnp.array([-1, 2])
    loss = lambda v: jnp.sum(jnp.where(labels < 0, 0, softmax_cross_entropy(z, labels, v)))  # noqa: E731
    dv = jax.grad(loss)(v)
    assert (dv.dtype, dv[0]) == (v.dtype, 0)
    np.testing.assert_allclose(dv[1], np.log(3), rtol=1e-2)


def test_without_weights_nothing_more_is_kept():
    z, labels = jnp.zeros((5, 7)), jnp.arange(5)
    kept = softmax_cross_entropy.forward(z, labels, None, smoothing=0.0, ignored=3)[1]
    assert [a.shape for a in jax.tree.leaves(kept)] == [(5, 7), (5,), (5,), (5,)]


def test_the_backward_pass_of_cross_entropy_has_neither_exponential_nor_scatter():
    z, labels = jnp.zeros((5, 7)), jnp.arange(5)
    y, pullback = jax.vjp(lambda z: softmax_cross_entropy(z, labels), z)
    text = str(jax.make_jaxpr(pullback)(y))
    assert "exp" not in text
    assert "scatter" not in text
    assert "reduce_sum" not in text


def test_planted_mistakes_are_rejected():
    case = next(c for c in softmax_cross_entropy.cases() if c.name == "smoothing")

    def smoothing_forgotten(res, dl, *, smoothing, ignored):
        return softmax_cross_entropy.backward(res, dl, smoothing=0.0, ignored=ignored)

    wrong = softmax_cross_entropy.replace(backward=smoothing_forgotten)
    assert gradient_error(wrong, case)["logits"] > 0.05

    def half_lost(r, dl):
        dy, dt = squared_error.backward(r, dl)
        return 2 * dy, dt

    errors = gradient_error(squared_error.replace(backward=half_lost), squared_error.cases()[0])
    assert [n for n, e in errors.items() if e > 0.1] == ["y"]

    def target_forgotten(res, dl, **static):
        z, t, weights = res
        return logistic.backward((z, jnp.zeros_like(t), weights), dl, **static)

    errors = gradient_error(logistic.replace(backward=target_forgotten), logistic.cases()[0])
    assert [n for n, e in errors.items() if e > 0.1] == ["z"]


CROSS = "softmax_cross_entropy"
BAD = {
    "shapes": (squared_error, (jnp.ones((2, 3)), jnp.ones((3, 2))), "must have one shape"),
    "scalar": (squared_error, (jnp.ones(()), jnp.ones(())), "must have one shape (..., D)"),
    "integers": (squared_error, (jnp.ones(3), jnp.ones(3, int)), "target must be floating point"),
    "row target": (logistic, (jnp.ones((2, 1)), jnp.ones(2)), "must have one shape"),
    "integer logit": (logistic, (jnp.ones(2, int), jnp.ones(2)), "z must be floating point"),
    "one-hot": (softmax_cross_entropy, (jnp.ones((2, 3)), jnp.ones((2, 3))), "must be integers"),
    "columns": (softmax_cross_entropy, (jnp.ones((2, 3)), jnp.ones(3, int)), "need labels (...)"),
    "no class": (softmax_cross_entropy, (jnp.ones((2, 0)), jnp.ones(2, int)), "C at least 1"),
    "weights": (
        softmax_cross_entropy,
        (jnp.ones((2, 3)), jnp.ones(2, int), jnp.ones((2, 3))),
        "weights must have the shape of labels int32[2], found float32[2, 3]",
    ),
    "integer weights": (logistic, (jnp.ones(2), jnp.ones(2), jnp.ones(2, int)), "weights must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_one_clear_line(name):
    rule, args, message = BAD[name]
    for f in (rule, rule.reference):
        with pytest.raises((TypeError, ValueError)) as caught:
            f(*args)
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"{rule.name}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ValueError, match="smoothing must be between 0 and 1"):
        softmax_cross_entropy(jnp.ones((2, 3)), jnp.zeros(2, int), smoothing=smoothing)


@pytest.mark.parametrize(
    ("rule", "labels", "ignored", "message"),
    [
        (softmax_cross_entropy, jnp.zeros(2, int), 1.0, "ignored is an integer or None, found 1.0"),
        (softmax_cross_entropy, jnp.zeros(2, int), True, "ignored is an integer or None"),
        (softmax_cross_entropy, jnp.zeros(2, int), 2**40, "no label of int32 is 1099511627776"),
        (logistic, jnp.zeros((2, 3)), -1, "ignored=-1 is for integer labels, found float32"),
        (logistic, jnp.zeros((2, 3), bool), -1, "ignored=-1 is for integer labels, found bool"),
        (logistic, jnp.zeros((2, 3), jnp.uint8), -1, "no label of uint8 is -1"),
    ],
)
def test_what_cannot_be_ignored_is_refused(rule, labels, ignored, message):
    with pytest.raises(ValueError, match=f"^{rule.name}: {message}"):
        rule(jnp.ones((2, 3)), labels, ignored=ignored)
