"""Groups, depthwise convolution and three dimensions, against lax and differences."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import witness
from jax import lax

from funcnn.rules.convolution import choice, depthwise, forms, patches
from funcnn.rules.convolution.conv import conv
from funcnn.rules.shared.windows import Windows

# image, window, outputs, static
SHAPES = [
    ((2, 5, 4, 4), (3, 2), 6, {"groups": 2}),
    ((3, 6, 5, 6), (2, 3), 6, {"groups": 3, "stride": (2, 1), "padding": "VALID"}),
    ((2, 5, 4, 4), (1, 1), 8, {"groups": 2, "stride": 2}),
    ((2, 4, 4, 3), (2, 2), 15, {"groups": 3}),  # too many outputs for the sums of depthwise
    ((2, 6, 5, 3), (3, 3), 3, {"groups": 3}),
    ((3, 7, 5, 3), (2, 3), 6, {"groups": 3, "stride": (2, 3), "dilation": (2, 1)}),
    ((2, 5, 3, 2), (2, 2), 4, {"groups": 2, "padding": ((3, 0), (0, 4))}),
    ((3, 9, 4), (4,), 4, {"groups": 4, "stride": 2, "dilation": 2}),
    ((3, 9, 4), (3,), 2, {"groups": 2}),
    ((2, 4, 3, 5, 2), (2, 1, 3), 3, {"stride": (2, 1, 2)}),
    ((1, 3, 4, 3, 2), (2, 2, 2), 2, {"groups": 2, "padding": "VALID"}),
    ((2, 3, 2, 4, 4), (1, 1, 1), 2, {"groups": 2}),
    ((2, 7, 6, 9), (5, 5), 9, {"groups": 9}),  # dx of a large window as a convolution
    ((2, 5, 4, 6), (3, 2), 12, {"groups": 6}),
    ((2, 5, 4, 6), (3, 2), 18, {"groups": 6, "stride": (1, 2), "padding": "VALID"}),
    ((3, 9, 10), (4,), 10, {"groups": 10, "dilation": 2}),
    ((2, 5, 4, 32), (2, 3), 34, {"groups": 2}),  # group by group
    ((2, 5, 6, 34), (3, 2), 32, {"groups": 2, "stride": (1, 2), "padding": "VALID"}),
    ((1, 4, 5, 80), (2, 3), 85, {"groups": 5}),  # in a loop
    ((0, 5, 4, 4), (3, 2), 4, {"groups": 4}),
    ((0, 5, 4, 4), (3, 2), 4, {"groups": 2}),
]


def foreign(x, w, *, groups=1, stride=1, padding="SAME", dilation=1):
    axes = x.ndim - 2
    letters = "DHW"[-axes:]
    return lax.conv_general_dilated(
        x,
        w,
        np.broadcast_to(stride, axes).tolist(),
        padding,
        rhs_dilation=np.broadcast_to(dilation, axes).tolist(),
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=groups,
    )


def arrays(image, window, outputs, static, dtype):
    def draw(salt, shape):
        return jnp.asarray(np.random.default_rng(salt).normal(size=shape), dtype)

    x, w = draw(1, image), draw(2, (*window, image[-1] // static.get("groups", 1), outputs))
    return x, w, draw(3, jax.eval_shape(functools.partial(foreign, **static), x, w).shape)


def distances(rule, image, window, outputs, static):
    """Leaf -> relative distance in float64 from JAX's own convolution and its gradient."""

    @jax.jit
    def both(x, w, dy):
        y, pull = jax.vjp(functools.partial(rule, **static), x, w)
        truth, pull_truth = jax.vjp(functools.partial(foreign, **static), x, w)
        return (y, *pull(dy)), (truth, *pull_truth(dy))

    with jax.enable_x64(True):
        found, truth = both(*arrays(image, window, outputs, static, jnp.float64))
    pairs = zip(("y", "x", "w"), found, truth, strict=True)
    return {name: witness.relative_error(f, t) for name, f, t in pairs}


@pytest.mark.parametrize(("image", "window", "outputs", "static"), SHAPES)
def test_value_and_gradient_agree_with_lax(image, window, outputs, static):
    assert max(distances(conv, image, window, outputs, static).values()) < 1e-12


def groups_mixed_up(dx, dw):
    return jnp.roll(dx, 2, -1), dw


def groups_interleaved(dx, dw):
    return dx, dw.reshape(*dw.shape[:-1], -1, 3).swapaxes(-1, -2).reshape(dw.shape)


def window_not_flipped(dx, dw):
    return dx, dw[::-1]


@pytest.mark.parametrize("outputs", [6, 18])
@pytest.mark.parametrize(
    ("mistake", "leaf"),
    [(groups_mixed_up, "x"), (groups_interleaved, "w"), (window_not_flipped, "w")],
)
def test_a_planted_mistake_is_seen(mistake, leaf, outputs):
    def backward(res, dy, **static):
        dx, dw, db = conv.backward(res, dy, **static)
        return *mistake(dx, dw), db

    wrong = conv.replace(backward=backward)
    found = distances(wrong, (2, 5, 4, 3), (3, 2), outputs, {"groups": 3})
    assert found.pop(leaf) > 0.01
    assert max(found.values()) < 1e-12


def test_the_order_of_the_outputs_of_a_channel():
    x = jnp.array([[[1.0, 10.0]]])
    w = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4)
    np.testing.assert_array_equal(conv(x, w, groups=2)[0, 0], [1.0, 2.0, 30.0, 40.0])


@pytest.mark.parametrize("name", ["groups", "depthwise", "3-D"])
def test_cases_agree_with_differences(name):
    (case,) = [case for case in conv.cases() if case.name == name]
    f = jax.jit(functools.partial(conv.reference, **case.static))
    errors = witness.finite_difference_error(f, case.args, jax.random.key(1), directions=1)
    assert max(errors.values()) < 1e-7


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["groups", "depthwise"])
def test_low_precision_is_rounded_once(name, dtype):
    (case,) = [case for case in conv.cases() if case.name == name]
    errors = witness.gradient_error(conv, case, dtype, through="jit")
    assert max(errors.values()) < jnp.finfo(dtype).eps * (4 if dtype == "float32" else 0.75)


@pytest.mark.parametrize(("image", "window", "outputs", "static"), [SHAPES[1], SHAPES[5]])
def test_the_forms_of_all_platforms_agree(image, window, outputs, static):
    with jax.enable_x64(True):
        x, w, dy = arrays(image, window, outputs, static, jnp.float64)
        options = {"stride": 1, "padding": "SAME", **static}
        groups = options.pop("groups")
        windows = Windows.of("conv", image[1:-1], window, **options)
        dx = choice.input_gradient_fastest(dy, w, windows, groups)
        written_out = functools.partial(forms.input_gradient_forward_form, choice.convolve_fastest)
        for form in (forms.input_gradient_transposed_form, written_out):
            assert witness.relative_error(form(dy, w, windows, groups), dx) < 1e-12
        dw = choice.filter_gradient_fastest(x, dy, windows, groups)
        other = forms.filter_gradient_convolution(x, dy, windows, groups)
        assert witness.relative_error(other, dw) < 1e-12


@pytest.mark.parametrize("wide", [0, 64])
@pytest.mark.parametrize("block", [1, 6 * 20, 6 * 60, 6 * 120, 10**9])
def test_blocks_of_a_depthwise_gradient_add_up(block, wide, monkeypatch):
    monkeypatch.setattr(depthwise, "BLOCK", block)
    monkeypatch.setattr(depthwise, "WIDE", wide)
    image, window, outputs, static = (4, 6, 5, 2), (3, 2), 4, {"groups": 2}
    with jax.enable_x64(True):
        x, _, dy = arrays(image, window, outputs, static, jnp.float64)
        windows = Windows.of("conv", image[1:-1], window, 1, "SAME")
        dw = depthwise.filter_gradient_depthwise(x, dy, windows)
        whole = forms.filter_gradient_convolution(x, dy, windows, 2)
        assert witness.relative_error(dw, whole) < 1e-14


def test_blocks_cover_every_row_of_every_image():
    for shape in ((16, 8, 8, 32), (4, 6, 5, 2), (7, 11, 3, 3), (1, 1, 9, 4)):
        for block in (1, 50, 500, 10**9):
            images, rows = depthwise._block(shape, block)
            assert shape[0] % images == shape[1] % rows == 0
            assert images == 1 or rows == shape[1]


# The rule takes the sums above suits.FEW_CHANNELS channels only, which are many for a small test.
@pytest.mark.parametrize(
    ("size", "window", "static"),
    [
        ((7, 6), (3, 2), {"stride": (2, 1), "padding": "SAME"}),
        ((9, 5), (2, 3), {"stride": 1, "padding": ((3, 0), (1, 2)), "dilation": (2, 1)}),
        ((11,), (4,), {"stride": 3, "padding": "VALID"}),
        ((4, 5, 3), (2, 3, 2), {"stride": (1, 2, 1), "padding": "SAME"}),
    ],
)
def test_both_forms_of_a_depthwise_weight_gradient_agree(size, window, static):
    with jax.enable_x64(True):
        x, _, dy = arrays((3, *size, 2), window, 4, {**static, "groups": 2}, jnp.float64)
        windows = Windows.of("conv", size, window, **static)
        truth = forms.filter_gradient_convolution(x, dy, windows, 2)
        by_sums = depthwise.filter_gradient_depthwise(x, dy, windows)
        of_dense = choice.filter_gradient_fastest(x, dy, windows, 2)
    assert witness.relative_error(by_sums, truth) < 1e-14
    assert witness.relative_error(of_dense, truth) < 1e-12
    assert witness.relative_error(by_sums[..., ::-1], truth) > 0.01


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_chunks_of_grouped_products_stand_in_order(limit, monkeypatch):
    monkeypatch.setattr(patches, "images_per_chunk", lambda *_: limit)
    monkeypatch.setattr(patches, "CHUNK_ROWS", 1)
    image, window, outputs, static = (6, 5, 4, 4), (3, 2), 6, {"groups": 2, "stride": 2}
    assert max(distances(conv, image, window, outputs, static).values()) < 1e-12


def test_the_program_of_many_groups_is_that_of_one():
    def size(groups):
        x, w = jnp.zeros((1, 4, 4, 16 * groups)), jnp.zeros((2, 2, 16, 16 * groups))
        f = jax.vjp(functools.partial(conv, groups=groups), x, w)[1]
        return str(jax.make_jaxpr(f)(jnp.zeros((1, 4, 4, 16 * groups)))).count("\n")

    assert size(32) == size(5)


# In a loop XLA:CPU runs a convolution slowly unless it is of forward form with a single group.
@pytest.mark.parametrize("static", [{}, {"stride": 2}])
@pytest.mark.parametrize("outputs", [12, 24, 96])
@pytest.mark.parametrize("groups", [12, 4])
def test_all_convolutions_of_groups_are_of_forward_form(groups, outputs, static):
    def loop(f):
        def step(carry, xs):
            x, w = xs
            y, pull = jax.vjp(functools.partial(f, groups=groups, **static), x, w)
            return carry, pull(jnp.sin(y))

        args = jnp.zeros((2, 4, 6, 6, 12)), jnp.zeros((2, 3, 3, 12 // groups, outputs))
        text = jax.jit(lambda *xs: lax.scan(step, 0, xs)).lower(*args).compile().as_text() or ""
        found = [line for line in text.splitlines() if re.search(r"[ =]convolution\(", line)]
        odd = ("group_count", "lhs_dilate", "rhs_reversal")
        plain = "dim_labels=b01f_01io->b01f"
        return [line for line in found if plain not in line or any(o in line for o in odd)]

    assert not loop(conv)
    if static and outputs == 12 and groups == 12:
        assert loop(conv.reference)


def test_the_form_follows_the_platform():
    def gradient(x, w):
        return jax.vjp(functools.partial(conv, groups=4), x, w)[1](jnp.ones((2, 5, 5, 8)))

    traced = jax.jit(gradient).trace(jnp.zeros((2, 5, 5, 8)), jnp.zeros((3, 3, 2, 8)))
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "group_count = 4" not in texts["cpu"]
    assert "batch_group_count = 4" in texts["cuda"]
    assert "feature_group_count = 4" in texts["cuda"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (0, "groups must be a positive integer, found 0"),
        (True, "groups must be a positive integer, found True"),
        (1.0, "groups must be a positive integer"),
        (4, "groups=4 must divide the 6 input and the 4 output channels"),
        (3, "groups=3 must divide the 6 input and the 4 output channels"),
        (1, "w takes 3 channels and x has 6; found"),
    ],
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(ValueError, match=f"conv: {message}"):
        conv(jnp.zeros((1, 4, 4, 6)), jnp.zeros((2, 2, 3, 4)), groups=groups)


def test_a_window_that_does_not_fit_its_group():
    with pytest.raises(ValueError, match="w takes 3 channels and x has 4 / 2 in each group"):
        conv(jnp.zeros((1, 4, 4)), jnp.zeros((2, 3, 4)), groups=2)


# In float32, where XLA:CPU takes its fast path: what is cut off at the border must not be read.
def test_a_cut_border_is_not_read_in_float32():
    x, w, _ = arrays((2, 9, 8, 3), (5, 5), 4, {}, jnp.float32)
    windows = Windows((9, 8), (5, 5), (1, 1), (1, 1), ((-2, 1), (0, -3)))
    found = forms.convolve(x, w, windows)
    padded = jnp.pad(x[:, 2:, :5], ((0, 0), (0, 1), (0, 0), (0, 0)))
    expected = foreign(padded, w, padding="VALID")
    assert witness.relative_error(found, expected) < 1e-6
    windows = Windows.of("conv", (9, 8), (5, 5), 3, "VALID")  # rows that no window covers
    dy = jnp.ones((2, *windows.output, 4))
    dw = choice.filter_gradient_fastest(x, dy, windows)
    by_products = patches.filter_gradient_products(x, dy, windows)
    assert witness.relative_error(dw, by_products) < 1e-6
