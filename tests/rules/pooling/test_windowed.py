import functools
import itertools
import math

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import witness
from jax import lax

from funcnn.rules.pooling import windowed as pooling
from funcnn.rules.pooling.whole_image import global_average_pool, global_max_pool
from funcnn.rules.pooling.windowed import average_pool, max_pool
from funcnn.rules.shared.windows import Windows, add_back, cut, tile

RULES = (max_pool, average_pool, global_max_pool, global_average_pool)
CASES = [(rule, case) for rule in RULES for case in rule.cases()]
NAMES = [f"{rule.name}-{case.name}" for rule, case in CASES]

SIZES = [
    ((3, 7, 5, 2), {"window": window, "stride": stride, "padding": padding})
    for window, stride, padding in itertools.product(
        ((2, 2), (3, 2), (1, 3)), (None, (1, 2), (4, 3)), ("SAME", "VALID")
    )
]
SIZES += [
    ((2, 5, 7, 2), {"window": (3, 3), "stride": (2, 2), "padding": ((1, 0), (2, 2))}),
    ((2, 11, 3), {"window": (3,), "stride": (2,), "padding": "SAME"}),
    ((2, 11, 3), {"window": (4,), "stride": (4,), "padding": ((3, 2),)}),
]


def foreign(rule, x, window, stride, padding):
    """The pooling of Flax."""
    stride = stride or window
    if rule.name == "max_pool":
        return flax.linen.max_pool(x, window, stride, padding)
    return flax.linen.avg_pool(x, window, stride, padding, count_include_pad=False)


def values(shape, ties=False):
    x = np.random.default_rng(len(shape)).normal(size=shape)
    return np.maximum(np.round(x), 0) if ties else x


def distances(rule, shape, static, ties=False):
    """Relative distance of value and gradient in float64 from Flax's pooling."""

    @jax.jit
    def both(x, weights):
        y, pull = jax.vjp(functools.partial(rule, **static), x)
        truth, pull_truth = jax.vjp(functools.partial(foreign, rule, **static), x)
        dy = weights[: y.size].reshape(y.shape)
        return (y, pull(dy)[0]), (truth, pull_truth(dy)[0])

    with jax.enable_x64(True):
        x = jnp.asarray(values(shape, ties))
        found, truth = both(x, jnp.asarray(values((4 * x.size,))))
    return [witness.relative_error(f, t) for f, t in zip(found, truth, strict=True)]


@pytest.mark.parametrize(("shape", "static"), SIZES)
@pytest.mark.parametrize("rule", [max_pool, average_pool], ids=lambda r: r.name)
def test_value_and_gradient_agree_with_flax(rule, shape, static):
    assert max(distances(rule, shape, static)) < 1e-13


@pytest.mark.parametrize(
    ("shape", "static"), [s for s in SIZES if s[1]["window"] in ((2, 2), (3, 3))]
)
def test_ties_go_where_flax_sends_them(shape, static):
    assert max(distances(max_pool, shape, static, ties=True)) < 1e-13


def last_of_ties(x, *, window, stride, padding):
    y, (place, windows) = max_pool.forward(x, window=window, stride=stride, padding=padding)
    for k, element in enumerate(cut(x, windows, -np.inf)):
        place = jnp.where(element == y, jnp.array(k, place.dtype), place)
    return y, (place, windows)


def next_place(res, dy, **static):
    place, windows = res
    return max_pool.backward((place ^ 1, windows), dy, **static)


def count_padding(windows, dy, *, window, stride, padding):
    n = math.prod(windows.window)
    parts = [dy / n] * n
    return (add_back(parts, windows),)


@pytest.mark.parametrize(
    ("rule", "static"),
    [
        (max_pool.replace(forward=last_of_ties), {"window": (2, 2), "stride": None}),
        (max_pool.replace(forward=last_of_ties), {"window": (3, 3), "stride": (1, 1)}),
        (max_pool.replace(backward=next_place), {"window": (2, 2), "stride": None}),
        (average_pool.replace(backward=count_padding), {"window": (3, 3), "stride": (2, 2)}),
    ],
)
def test_a_planted_mistake_is_seen(rule, static):
    static = static | {"padding": "SAME"}
    value, gradient = distances(rule, (3, 7, 5, 2), static, ties=True)
    assert value < 1e-13
    assert gradient > 0.01


@pytest.mark.parametrize(("rule", "case"), CASES, ids=NAMES)
def test_cases_agree_with_the_reference(rule, case):
    @jax.jit
    def both(x, weights):
        y, pull = jax.vjp(functools.partial(rule, **case.static), x)
        truth, pull_truth = jax.vjp(functools.partial(rule.reference, **case.static), x)
        dy = weights[: y.size].reshape(y.shape)
        return (y, pull(dy)[0]), (truth, pull_truth(dy)[0])

    with jax.enable_x64(True):
        (x,) = witness.float64_args(case)
        found, truth = both(x, jnp.asarray(values((4 * x.size,))))
    for f, t in zip(found, truth, strict=True):
        assert witness.relative_error(f, t) < 1e-13


OVERLAPPING = [(r, c) for r, c in CASES if c.name == "overlapping"]
SOME = [
    *OVERLAPPING,
    *((r, c) for r, c in CASES if r is max_pool and c.name == "tiles, same"),
    *((r, c) for r, c in CASES if c.name == "images"),
]


@pytest.mark.parametrize("through", ["vmap", "scan"])
@pytest.mark.parametrize(("rule", "case"), SOME, ids=lambda v: getattr(v, "name", ""))
def test_cases_agree_through_transformations(rule, case, through):
    assert max(witness.gradient_error(rule, case, through=through).values()) < 1e-13


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("rule", "case"), OVERLAPPING, ids=lambda v: getattr(v, "name", ""))
def test_low_precision_is_rounded_once(rule, case, dtype):
    errors = witness.gradient_error(rule, case, dtype, through="jit")
    assert max(errors.values()) < 0.75 * jnp.finfo(dtype).eps


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_the_reference_agrees_with_differences(rule):
    # No two elements are closer than 1, so that no difference steps over a kink.
    x = jax.random.permutation(jax.random.key(1), 60).reshape(2, 5, 3, 2).astype("float32") - 30
    static = {} if "global" in rule.name else {"window": 3, "stride": 2, "padding": "SAME"}
    f = jax.jit(functools.partial(rule.reference, **static))
    errors = witness.finite_difference_error(f, (x,), jax.random.key(1), directions=1)
    assert max(errors.values()) < 1e-7


# Values at the edges


def window_of(values, **static):
    return jnp.array(values).reshape(1, -1, 1), {"window": len(values), **static}


def place_of_one(values):
    """Where the gradient of max_pool over one window of these values stands."""
    x, static = window_of(values)
    return jax.grad(lambda x: max_pool(x, **static).sum())(x).ravel().tolist()


@pytest.mark.parametrize(
    "values", [[0.0, -0.0, 0.0], [-0.0, 0.0], [-0.0, -0.0], [-jnp.inf, 1.0], [2.0, jnp.nan, 3.0]]
)
def test_the_value_is_that_of_reduce_window_bit_for_bit(values):
    x, static = window_of(values)
    expected = np.asarray(lax.reduce_window(x, -jnp.inf, lax.max, x.shape, x.shape, "VALID"))
    for found in (
        max_pool(x, **static),
        max_pool.forward(x, stride=None, padding="VALID", **static)[0],
    ):
        np.testing.assert_array_equal(found, expected)
        assert bool(jnp.signbit(found)[0, 0, 0]) == bool(np.signbit(expected)[0, 0, 0])


def test_the_first_nan_takes_the_gradient():
    nan = jnp.nan
    assert place_of_one([1.0, nan, 5.0, nan]) == [0.0, 1.0, 0.0, 0.0]
    assert place_of_one([nan, 1.0]) == [1.0, 0.0]
    x = jnp.array([1.0, nan, 5.0]).reshape(1, 3, 1)
    assert bool(jnp.isnan(global_max_pool(x))[0, 0])
    assert jax.grad(lambda x: global_max_pool(x).sum())(x).ravel().tolist() == [0.0, 1.0, 0.0]


def test_the_first_of_several_largest_takes_the_gradient():
    assert place_of_one([1.0, 3.0, 3.0, 2.0]) == [0.0, 1.0, 0.0, 0.0]
    x = jnp.array([1.0, 3.0, 3.0]).reshape(1, 3, 1)
    assert jax.grad(lambda x: global_max_pool(x).sum())(x).ravel().tolist() == [0.0, 1.0, 0.0]


def test_a_large_window_numbers_its_elements_in_two_bytes():
    def place(n):
        forward = functools.partial(max_pool.forward, window=n, stride=None, padding="VALID")
        return jax.eval_shape(forward, jax.ShapeDtypeStruct((1, n, 1), "float32"))[1][0]

    assert place(256).dtype == jnp.uint8
    assert place(257).dtype == jnp.uint16
    windows = Windows.of("max_pool", (300,), 300, 300, "VALID")
    res = jnp.full((1, 1, 1), 299, jnp.uint16), windows
    static = {"window": 300, "stride": None, "padding": "VALID"}
    (dx,) = max_pool.backward(res, jnp.ones((1, 1, 1)), **static)
    np.testing.assert_array_equal(jnp.flatnonzero(dx), [299])


# What is computed, and what is not


@pytest.mark.parametrize("static", [{"window": 2}, {"window": 3, "stride": 2}])
def test_no_select_and_scatter(static):
    def text(f):
        gradient = jax.grad(lambda x: jnp.sum(f(x, **static) ** 2))
        x = jnp.ones((2, 6, 5, 3))
        return jax.jit(gradient).lower(x).as_text(), str(jax.make_jaxpr(gradient)(x))

    assert not any("scatter" in t for t in text(max_pool))
    # XLA's own gradient, which the test must recognise.
    assert all("scatter" in t for t in text(max_pool.reference))


def test_the_value_alone_computes_no_places():
    x = jnp.ones((2, 6, 5, 3))
    compiled = jax.jit(lambda x: max_pool(x, window=2)).lower(x).compile().as_text()
    both = jax.jit(lambda x: max_pool.forward(x, window=2, stride=None, padding="VALID"))
    assert compiled is not None
    assert "u8[" not in compiled
    assert "u8[" in str(both.lower(x).compile().as_text())


def test_the_residual_is_one_byte_an_output():
    y, res = max_pool.forward(jnp.ones((2, 6, 4, 3)), window=2, stride=None, padding="VALID")
    assert [leaf.nbytes for leaf in jax.tree.leaves(res)] == [y.size]
    assert not jax.tree.leaves(average_pool.forward(y, window=2, stride=None, padding="VALID")[1])


@pytest.mark.parametrize("images", [0, 1, 2, 5, 6])
def test_the_places_of_all_images_stand_in_order(images):
    x = jnp.asarray(np.random.default_rng(images).normal(size=(images, 7, 6, 2)), "float32")
    windows = Windows.of("max_pool", (7, 6), 3, 2, "VALID")
    found = pooling._places(x, windows)
    np.testing.assert_array_equal(found, pooling._largest(x, windows)[1])
    if images > 2:
        assert not np.array_equal(found, np.roll(found, images // 2, 0))
        assert "scan" in str(jax.make_jaxpr(lambda x: pooling._places(x, windows))(x))


def test_the_same_bits_inside_and_outside_a_loop():
    x = jax.random.normal(jax.random.key(2), (3, 17, 13, 5))

    def of(x):
        total = jnp.sum(max_pool(x, window=3, stride=2) ** 2)
        return total + jnp.sum(average_pool(x, window=3, stride=2) ** 2)

    gradient = jax.grad(of)
    looped = jax.jit(lambda x: lax.scan(lambda c, _: (c, gradient(x)), 0, None, length=2)[1])(x)
    np.testing.assert_array_equal(jax.jit(gradient)(x), looped[1])


@pytest.mark.parametrize("static", [{"stride": 2, "dilation": 2}, {"stride": 1}, {"stride": 5}])
def test_add_back_is_the_transpose_of_cut(static):
    windows = Windows.of("test", (9, 7), 2, padding=((1, 2), (0, 1)), **static)
    x = jnp.asarray(values((2, 9, 7, 3)), "float32")
    parts = [
        jnp.asarray(values((4, *p.shape))[k], "float32") for k, p in enumerate(cut(x, windows, 0))
    ]
    left = sum(jnp.vdot(c, p) for c, p in zip(cut(x, windows, 0), parts, strict=True))
    back = add_back(parts, windows)
    np.testing.assert_allclose(jnp.vdot(x, back), left, rtol=1e-4)
    if not windows.overlapping:
        joined = tile(
            windows, lambda k, *ps: sum(jnp.where(k == i, p, 0) for i, p in enumerate(ps)), *parts
        )
        np.testing.assert_array_equal(joined, back)


X = jnp.zeros((2, 5, 4, 3))


@pytest.mark.parametrize(
    ("x", "static", "message"),
    [
        (X[0, 0], {"window": 2}, r"x must have shape \(N, W, C\) or \(N, H, W, C\), found float32"),
        (X[0], {"window": (2, 2)}, "has x a batch axis"),
        (X, {"window": 6}, "larger than the padded input"),
        (X, {"window": 0}, "window must be a positive integer"),
        (X, {"window": (2,)}, "window must be a positive integer or a tuple of 2"),
        (X, {"window": 2, "stride": -1}, "stride must be a positive integer"),
        (X, {"window": 2, "padding": "full"}, "padding must be"),
        (X, {"window": 2, "padding": ((2, 0), (0, 0))}, "padding must be smaller than the window"),
        (X[:, :0], {"window": 2}, "a spatial axis of x is empty"),
    ],
)
@pytest.mark.parametrize("rule", [max_pool, average_pool], ids=lambda r: r.name)
def test_what_does_not_fit_is_one_clear_line(rule, x, static, message):
    for f in (rule, functools.partial(rule.reference)):
        with pytest.raises(ValueError, match=message) as caught:
            f(x, **static)
        assert str(caught.value).startswith(f"{rule.name}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_integers_are_refused(rule):
    static = {"window": 2} if "global" not in rule.name else {}
    with pytest.raises(TypeError, match=f"{rule.name}: x must be floating point"):
        rule(jnp.zeros((1, 2, 2, 1), int), **static)


@pytest.mark.parametrize("rule", [global_max_pool, global_average_pool], ids=lambda r: r.name)
def test_global_pooling_needs_a_pixel(rule):
    with pytest.raises(ValueError, match=f"{rule.name}: a spatial axis of x is empty"):
        rule(X[:, :0])
    with pytest.raises(ValueError, match=f"{rule.name}: x must have shape"):
        rule(X[0, 0])


def test_global_pooling_against_numpy():
    x = values((3, 5, 2, 7))
    np.testing.assert_allclose(global_max_pool(jnp.asarray(x, "float32")), x.max((1, 2)), rtol=1e-6)
    mean = global_average_pool(jnp.asarray(x, "float32"))
    np.testing.assert_allclose(mean, x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    dx = jax.grad(lambda x: global_average_pool(x).sum())(jnp.asarray(x, "float32"))
    np.testing.assert_allclose(dx, np.full(x.shape, 0.1), rtol=1e-6)
