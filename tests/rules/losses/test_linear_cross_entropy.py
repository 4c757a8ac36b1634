"""Linear map and cross entropy in one: against optax, its options, memory and operations."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from witness import (
    cast,
    finite_difference_error,
    gradient_errors,
    is_tail,
    pull,
    relative_error,
    ulp_error,
)

from funcnn.bench.absent import described_device, figures, missing_wheels
from funcnn.gradient.cost.flops import count_operations
from funcnn.rules import linear_cross_entropy
from funcnn.rules import softmax_cross_entropy as per_row

CASES = {case.name: case for case in linear_cross_entropy.cases()}
ROWS = 23
OPTIONS = {"smoothing": 0.1, "z_loss": 0.3, "ignored": -1}


def problem(dtype="float64"):
    """x, w, labels, b, weights of 23 rows, 5 inputs, 7 classes; every fifth row is ignored."""
    random = np.random.default_rng(0)
    x, w, b = (random.normal(size=s) for s in ((ROWS, 5), (5, 7), (7,)))
    labels = np.where(np.arange(ROWS) % 5 == 3, -1, random.integers(0, 7, ROWS))
    v = random.uniform(0.5, 1.5, ROWS)
    x, w, b, v = (jnp.asarray(a, dtype) for a in (x, w, b, v))
    return x, w, jnp.asarray(labels, jnp.int32), b, v


def plain(x, w, labels, b, weights, *, smoothing=0.0, z_loss=0.0, ignored=None):
    """The same in optax's words, with boolean indexing in place of masks."""
    left = np.ones(labels.shape, bool) if ignored is None else np.asarray(labels) != ignored
    z = (x @ w)[left]
    z = z if b is None else z + jnp.broadcast_to(b, z.shape)
    one_hot = jax.nn.one_hot(labels[left], z.shape[-1], dtype=z.dtype)
    losses = optax.softmax_cross_entropy(z, optax.smooth_labels(one_hot, smoothing))
    losses = losses + z_loss * jnp.log(jnp.sum(jnp.exp(z), -1)) ** 2
    return jnp.mean(losses) if weights is None else jnp.sum(weights[left] * losses)


@pytest.mark.parametrize("chunk", [None, 1, 4, 16, 22, 23, 100])
@pytest.mark.parametrize("given", ["weights", "mean"])
def test_value_and_gradient_equal_those_of_optax(chunk, given):
    with jax.enable_x64(True):
        args = problem() if given == "weights" else (*problem()[:3], None, None)
        f = functools.partial(linear_cross_entropy, chunk=chunk, **OPTIONS)
        found = [f(*args), *pull(f, args, jnp.array(3.0))]
        truth_of = functools.partial(plain, **OPTIONS)
        truth = [truth_of(*args), *pull(truth_of, args, jnp.array(3.0))]
        for f, t in zip(found, truth, strict=True):
            np.testing.assert_allclose(f, t, rtol=1e-11, atol=1e-14)


def test_integer_labels_equal_those_of_optax_on_more_axes():
    with jax.enable_x64(True):
        x, w, labels, _, _ = problem()
        x, labels = x[:20].reshape(4, 5, 5), jnp.abs(labels[:20]).reshape(4, 5)
        optaxs = optax.softmax_cross_entropy_with_integer_labels
        found = jax.value_and_grad(linear_cross_entropy, (0, 1))(x, w, labels, chunk=3)
        truth = jax.value_and_grad(lambda x, w: optaxs(x @ w, labels).mean(), (0, 1))(x, w)
        jax.tree.map(lambda f, t: np.testing.assert_allclose(f, t, rtol=1e-11), found, truth)


def test_the_gradient_of_the_weights_is_the_loss_of_each_row():
    with jax.enable_x64(True):
        x, w, labels, b, v = problem()
        found = jax.grad(linear_cross_entropy, 4)(x, w, labels, b, v, ignored=-1)
        rows = per_row(x @ w + jnp.broadcast_to(b, (ROWS, 7)), jnp.maximum(labels, 0))
        np.testing.assert_allclose(found, jnp.where(labels < 0, 0, rows), rtol=1e-12)


def test_every_case_in_float64():
    assert max(gradient_errors(linear_cross_entropy, list(CASES.values())).values()) < 1e-10


@pytest.mark.parametrize("through", ["eager", "vmap", "scan"])
def test_through_transformations(through):
    errors = gradient_errors(linear_cross_entropy, [CASES["every option"]], through=through)
    assert max(errors.values()) < 1e-10


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("name", ["rows", "every option", "mean of chunks"])
def test_low_precision(name, dtype, bound):
    with jax.enable_x64(True):
        args, static = cast(CASES[name].args, dtype), CASES[name].static
        y = linear_cross_entropy(*args, **static)
        assert y.dtype == np.float32  # a sum over all rows, as it was accumulated
        found = pull(functools.partial(linear_cross_entropy, **static), args, jnp.ones_like(y))
        exact = functools.partial(linear_cross_entropy.reference, **static)
        truth = pull(exact, cast(args, jnp.float64), jnp.ones((), jnp.float64))
        for f, t in zip(found, truth, strict=True):
            assert f.dtype == dtype
            assert relative_error(f.astype(jnp.float64), t) < bound


def test_the_reference_agrees_with_finite_differences(key):
    for case in CASES.values():
        if not is_tail(case) and case.args[0].size and case.name != "nothing left":
            reference = functools.partial(linear_cross_entropy.reference, **case.static)
            assert max(finite_difference_error(reference, case.args, key).values()) < 1e-7


@pytest.mark.slow
def test_second_derivative_equals_that_of_the_reference():
    case = CASES["every option"]
    with jax.enable_x64(True):
        x, *others = cast(case.args, jnp.float64)

        def second(f):
            def gradient(x):
                return jax.grad(lambda x: jnp.sin(f(x, *others, **case.static)))(x)

            return jax.vjp(gradient, x)[1](jnp.cos(x))[0]

        found, truth = jax.jit(
            lambda: (second(linear_cross_entropy), second(linear_cross_entropy.reference))
        )()
        assert relative_error(found, truth) < 1e-10


# Ignored rows, odd labels, NaN


def test_ignored_rows_may_hold_anything_and_get_nothing():
    x, w, labels, b, v = problem("float32")
    odd = x.at[3].set(jnp.nan).at[8].set(jnp.inf)
    f = functools.partial(linear_cross_entropy, ignored=-1, chunk=4)
    clean, found = (jax.value_and_grad(f, (0, 1, 3, 4))(a, w, labels, b, v) for a in (x, odd))
    jax.tree.map(np.testing.assert_array_equal, found, clean)
    for g in (found[1][0], found[1][3]):
        np.testing.assert_array_equal(g[labels < 0], 0)
        assert np.all(np.any(np.asarray(g[labels >= 0]).reshape(int((labels >= 0).sum()), -1), 1))


def test_the_mean_of_no_rows_is_zero():
    x, w, labels, *_ = problem("float32")
    for f in (linear_cross_entropy, linear_cross_entropy.reference):
        y, (dx, dw) = jax.value_and_grad(f, (0, 1))(x, w, 0 * labels - 1, ignored=-1)
        assert float(y) == 0
        assert not np.any(dx)
        assert not np.any(dw)


@pytest.mark.parametrize("label", [-1, 7, -100, 100])
def test_a_label_outside_the_classes_is_nan(label):
    x, w, labels, *_ = problem("float32")
    labels = labels.at[4].set(label)
    for f in (linear_cross_entropy, linear_cross_entropy.reference):
        y, dx = jax.value_and_grad(f)(x, w, labels, ignored=-3)
        assert np.isnan(y)
        # Autodiff of the reference sees a constant there.
        assert np.isnan(dx[4]).all() == (f is linear_cross_entropy)
    assert np.isfinite(linear_cross_entropy(x, w, labels.at[4].set(-1), ignored=-1))


def test_narrow_labels_count_beyond_their_range():
    x, w = jnp.ones((1, 1)), jnp.zeros((1, 300)).at[0, 44].set(3.0).at[0, 299].set(5.0)
    narrow, wide = (
        jax.value_and_grad(linear_cross_entropy, 1)(x, w, jnp.array([44], d), ignored=-100)
        for d in (jnp.uint8, jnp.int32)
    )
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


# Tails


def tail_ulps(rule):
    """The worst error of dx for logits (s, 0), label 0, whose truth is ∓1 / (1 + e^s)."""
    spreads = np.arange(1.0, 31.0, dtype=np.float32)
    x = jnp.asarray(np.stack([spreads, 0 * spreads], 1))
    f = functools.partial(rule, chunk=16)
    weights = jnp.ones(len(spreads))
    dx = jax.grad(f)(x, jnp.eye(2), jnp.zeros(len(spreads), int), None, weights)
    p = 1 / (1 + np.exp(spreads.astype(np.float64)))
    if np.any(np.asarray(dx) == 0):
        return np.inf
    return ulp_error(dx, np.stack([-p, p], 1), "float32").max()


def test_confident_rows_keep_their_gradient():
    assert tail_ulps(linear_cross_entropy) < 4
    assert tail_ulps(lambda *a, chunk: linear_cross_entropy.reference(*a)) == np.inf


def test_a_scaled_loss_keeps_small_numbers_in_float16():
    """1/n is not in what is kept: with it, p / n would be below the smallest float16."""
    n = 4096
    x, w = jnp.ones((n, 1), "float16"), jnp.zeros((1, 1000), "float16")
    dx = jax.grad(lambda x: n * linear_cross_entropy(x, w + 0.125, jnp.zeros(n, int)))(x)
    assert np.all(np.isfinite(dx))
    dw = jax.grad(lambda w: linear_cross_entropy(x, w, jnp.zeros(n, int)))(w)
    np.testing.assert_allclose(dw[0, 1:].astype("float32"), 1e-3, rtol=1e-3)


# Wrong rules


def wrong(change):
    """The rule with its forward pass changed."""
    return linear_cross_entropy.replace(forward=functools.partial(change))


def counted_in_the_mean(*args, ignored, **static):
    y, (gradient, _) = linear_cross_entropy.forward(*args, ignored=ignored, **static)
    return y, (gradient, jnp.asarray(1 / args[2].size, y.dtype))


def weights_forgotten(x, w, labels, b, v, **static):
    y, (gradient, share) = linear_cross_entropy.forward(x, w, labels, b, v, **static)
    _, (unweighted, _) = linear_cross_entropy.forward(x, w, labels, b, jnp.ones_like(v), **static)
    return y, ((gradient[0], unweighted[1], *gradient[2:]), share)


def last_chunk_counted_twice(x, w, labels, b, v, *, chunk, **static):
    """What comes of reaching back over rows that are done."""
    more = (len(labels) + chunk - 1) // chunk * chunk
    rows = np.minimum(np.arange(more), len(labels) - 1)
    y, (gradient, share) = linear_cross_entropy.forward(
        x[rows], w, labels[rows], b, v[rows], chunk=chunk, **static
    )
    dx, dw, none, db, dv = gradient
    return y, ((dx[: len(x)], dw, none, db, dv[: len(v)]), share)


def cotangent_ignored(res, dl, **static):
    return linear_cross_entropy.backward(res, jnp.ones_like(dl), **static)


@pytest.mark.parametrize(
    ("rule", "case", "leaves"),
    [
        (linear_cross_entropy.replace(backward=cotangent_ignored), "rows", "x w b weights"),
        (linear_cross_entropy.replace(forward=counted_in_the_mean), "mean of chunks", "x w"),
        (linear_cross_entropy.replace(forward=weights_forgotten), "rows", "w"),
        (linear_cross_entropy.replace(forward=last_chunk_counted_twice), "every option", "w b"),
    ],
    ids=["cotangent ignored", "ignored rows counted", "weights forgotten", "rows twice"],
)
def test_planted_mistakes_are_rejected(rule, case, leaves):
    errors = gradient_errors(rule, [CASES[case]])
    assert {leaf for (_, leaf), e in errors.items() if e > 1e-3} == set(leaves.split())


# What it costs


def shapes(rows, width, classes, dtype):
    struct = jax.ShapeDtypeStruct
    return struct((rows, width), dtype), struct((width, classes), dtype), struct((rows,), "int32")


def automatic(x, w, labels):
    z = (x @ w).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def checkpointed(x, w, labels, size=128):
    """What a user writes without the rule: a scan over chunks, its body behind a checkpoint."""

    @jax.checkpoint
    def body(total, rows):
        return total + automatic(rows[0], w, rows[1]) * size, None

    cut = x.reshape(-1, size, x.shape[-1]), labels.reshape(-1, size)
    return jax.lax.scan(body, jnp.zeros(()), cut)[0] / len(labels)


def gradient_of(f):
    return jax.value_and_grad(f, (0, 1))


LARGE = shapes(2048, 512, 32000, "float32")


def test_a_sixth_of_the_memory_of_autodiff_on_a_cpu():
    device = jax.devices("cpu")[0]
    ours = figures(gradient_of(linear_cross_entropy), *LARGE, device=device)
    theirs = figures(gradient_of(automatic), *LARGE, device=device)
    assert theirs.temporary_bytes > 2 * 2048 * 32000 * 4
    assert 6 * ours.temporary_bytes <= theirs.temporary_bytes
    # No row of logits stands longer than its chunk.
    assert ours.temporary_bytes < 2048 * 32000 * 4 / 3


def test_three_products_where_a_checkpoint_takes_four():
    ours, theirs = (
        count_operations(jax.make_jaxpr(gradient_of(f))(*LARGE))
        for f in (linear_cross_entropy, checkpointed)
    )
    assert ours.notes == theirs.notes == ()
    assert ours.flops <= 0.76 * theirs.flops


def test_the_value_alone_computes_no_gradient():
    """One product in the loop that is compiled, and nothing of the size of w but w."""
    size = (100, 24, 300)
    compiled = jax.jit(functools.partial(linear_cross_entropy, chunk=16)).lower(
        *shapes(*size, "float32")
    )
    text = compiled.compile().as_text() or ""
    assert len(re.findall(r" dot\(", text)) == 1
    of_w = [line for line in text.splitlines() if re.search(r"= f32\[24,300\]", line)]
    assert all("parameter" in line or "get-tuple-element" in line for line in of_w)
    assert len(re.findall(r"f32\[100,24\]\S* (?:add|dynamic-update-slice|fusion)\(", text)) == 0
    plain_flops = 2 * np.prod(size)
    program = jax.make_jaxpr(linear_cross_entropy)(*shapes(*size, "float32"))
    assert count_operations(program).flops < 2 * plain_flops


def test_the_value_alone_inside_a_scan_computes_no_gradient():
    def evaluation(x, w, labels):
        def body(total, rows):
            return total + linear_cross_entropy(rows[0], w, rows[1], chunk=16), None

        return jax.lax.scan(body, jnp.zeros(()), (x, labels))[0]

    struct = jax.ShapeDtypeStruct
    x, w, labels = struct((3, 40, 24), "float32"), struct((24, 300), "float32"), (3, 40)
    text = jax.jit(evaluation).lower(x, w, struct(labels, "int32")).compile().as_text() or ""
    assert len(re.findall(r" dot\(", text)) == 1


def test_a_twelfth_of_the_memory_of_autodiff_on_an_absent_gpu():
    if reason := missing_wheels():
        pytest.skip(reason)
    args = shapes(8192, 768, 50304, "bfloat16")
    device = described_device("h200")
    ours = figures(gradient_of(linear_cross_entropy), *args, device=device)
    theirs = figures(gradient_of(automatic), *args, device=device)
    assert theirs.temporary_bytes > 8192 * 50304 * 6
    assert 12 * ours.temporary_bytes <= theirs.temporary_bytes


# Bad arguments

X, W, L = jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.zeros(2, int)
BAD = {
    "x of integers": ((X.astype(int), W, L), {}, "x must be floating point"),
    "dtypes": ((X.astype("bfloat16"), W, L), {}, "x and w must have one dtype"),
    "b of another dtype": ((X, W, L, jnp.ones(4, "bfloat16")), {}, "x and b must have one dtype"),
    "float labels": ((X, W, jnp.zeros(2)), {}, "labels must be integers"),
    "columns of labels": ((X, W, jnp.zeros((2, 1), int)), {}, "labels must have one number for"),
    "weights": ((X, W, L, None, jnp.ones(3)), {}, "weights must have one number for each row"),
    "w": ((X, jnp.ones((4, 3)), L), {}, "x (..., D) needs w (D, V) with V at least 1"),
    "no class": ((X, jnp.ones((3, 0)), L), {}, "with V at least 1"),
    "b": ((X, W, L, jnp.ones(3)), {}, "b must have shape (4,), found float32[3]"),
    "smoothing": ((X, W, L), {"smoothing": 1.5}, "smoothing must be between 0 and 1"),
    "z_loss": ((X, W, L), {"z_loss": -1.0}, "z_loss must be at least 0 and finite, found -1.0"),
    "chunk": ((X, W, L), {"chunk": 0}, "chunk is a positive number of rows or None, found 0"),
    "bool chunk": ((X, W, L), {"chunk": True}, "chunk is a positive number of rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_one_clear_line(name):
    args, static, message = BAD[name]
    for f in (linear_cross_entropy, linear_cross_entropy.reference):
        with pytest.raises((TypeError, ValueError)) as caught:
            f(*args, **static)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_rows_stay_on_the_devices_where_they_lie():
    """A chunk of rows that lie together would be gathered on all devices, and computed by each."""
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    in_rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["rows"], []))
    x = jax.device_put(jax.random.normal(jax.random.key(0), (128, 4)), in_rows)
    w = jax.device_put(jax.random.normal(jax.random.key(1), (4, 6)), whole)
    labels = jax.device_put(jnp.arange(128) % 6, in_rows)
    loss = functools.partial(linear_cross_entropy, labels=labels, chunk=16)
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    text = gradient.lower(x, w).compile().as_text()
    assert text
    assert "all-gather" not in text
    dx, dw = gradient(x, w)
    assert dx.sharding.is_equivalent_to(in_rows, 2)
    plain = functools.partial(linear_cross_entropy.reference, labels=labels)
    truth = jax.grad(plain, (0, 1))(x, w)
    np.testing.assert_allclose(dx, truth[0], atol=1e-7)
    np.testing.assert_allclose(dw, truth[1], atol=1e-6)


def test_a_chunk_is_as_large_on_each_device_as_on_one(monkeypatch):
    """Of so many rows in all, a device among many would have none or one of each chunk."""
    monkeypatch.setitem(linear_cross_entropy.forward.__globals__, "CHUNK_BYTES", 16 * 6 * 4)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    x, w, labels = jnp.ones((1024, 4)), jnp.ones((4, 6)), jnp.zeros(1024, int)
    lengths = {}
    for devices, rows in ((1, x), (8, jax.device_put(x, NamedSharding(mesh, PartitionSpec())))):
        program = str(jax.make_jaxpr(jax.grad(linear_cross_entropy, 1))(rows, w, labels))
        lengths[devices] = re.findall(r"\blength=(\d+)", program)
    assert lengths == {1: ["64"], 8: ["8"]}
