import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import witness
from jax import lax

from funcnn.rules.convolution import choice, forms, patches
from funcnn.rules.convolution.conv import conv
from funcnn.rules.convolution.phases import input_gradient_in_phases
from funcnn.rules.shared.windows import Windows

CASES = {case.name: case for case in conv.cases()}


def sizes():
    """(image, window, static): every window with every stride and padding, and the odd ones."""
    windows = [(1, 1), (2, 2), (3, 3), (4, 3)]
    strides = [1, 2, (3, 1), (1, 4)]
    paddings = ["SAME", "VALID", ((0, 2), (3, 1))]
    for i, (window, stride, padding) in enumerate(itertools.product(windows, strides, paddings)):
        image = [(3, 7, 5, 2), (2, 8, 6, 3), (1, 5, 11, 1)][i % 3]
        yield image, window, {"stride": stride, "padding": padding, "dilation": 1 + i % 2}
    yield (2, 9, 8, 2), (3, 2), {"dilation": (2, 3), "stride": (2, 3)}
    yield (2, 5, 3, 2), (2, 2), {"padding": ((5, 4), (3, 6)), "stride": 2}
    yield (2, 5, 3, 2), (1, 1), {"padding": ((2, 0), (0, 3))}
    yield (2, 7, 7, 2), (1, 1), {"stride": 3}
    yield (2, 11, 7, 1), (2, 2), {"stride": 5, "padding": "VALID"}
    # The first window lies in the padding, and the next one past the image.
    for side in ((4, 0), (0, 4), (5, 0)):
        yield (1, 5, 1), (3,), {"stride": 9, "padding": (side,)}
    yield (0, 5, 4, 3), (3, 3), {"stride": 2}
    yield (2, 5, 4, 0), (3, 3), {}
    for stride, (padding, k) in itertools.product(
        (1, 2, 5), (("SAME", 4), ("VALID", 3), (((4, 1),), 1))
    ):
        yield (3, 13, 2), (k,), {"stride": stride, "padding": padding, "dilation": 1 + k % 2}


SIZES = list(sizes())


def foreign(x, w, b, *, stride=1, padding="SAME", dilation=1):
    """The convolution as JAX has it, with its own reading of the padding and its own gradient."""
    axes = x.ndim - 2
    letters = "DHW"[-axes:]
    y = lax.conv_general_dilated(
        x,
        w,
        np.broadcast_to(stride, axes).tolist(),
        padding,
        rhs_dilation=np.broadcast_to(dilation, axes).tolist(),
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def arrays(image, window, static, dtype):
    def draw(salt, shape):
        return jnp.asarray(np.random.default_rng(salt).normal(size=shape), dtype)

    x, w, b = draw(1, image), draw(2, (*window, image[-1], 3)), draw(3, (3,))
    return x, w, b, draw(4, jax.eval_shape(functools.partial(foreign, **static), x, w, b).shape)


def distances(rule, image, window, static):
    """Leaf -> relative distance in float64 from JAX's own convolution and its gradient."""

    @jax.jit
    def both(x, w, b, dy):
        y, pull = jax.vjp(functools.partial(rule, **static), x, w, b)
        truth, pull_truth = jax.vjp(functools.partial(foreign, **static), x, w, b)
        return (y, *pull(dy)), (truth, *pull_truth(dy))

    with jax.enable_x64(True):
        found, truth = both(*arrays(image, window, static, jnp.float64))
    names = ("y", "x", "w", "b")
    pairs = zip(names, found, truth, strict=True)
    return {name: witness.relative_error(f, t) for name, f, t in pairs}


def test_the_sweep_is_large_enough():
    assert len(SIZES) >= 60


@pytest.mark.parametrize(("image", "window", "static"), SIZES)
def test_value_and_gradient_agree_with_lax(image, window, static):
    assert max(distances(conv, image, window, static).values()) < 1e-12


def backward_of(change):
    def backward(res, dy, **static):
        return change(res, dy, static)

    return conv.replace(backward=backward)


def no_flip(res, dy, static):
    x, w, b = res
    return conv.backward((x, w[::-1], b), dy, **static)[0], *conv.backward(res, dy, **static)[1:]


def offset_by_one(res, dy, static):
    dx, dw, db = conv.backward(res, dy, **static)
    return jnp.roll(dx, 1, axis=1), dw, db


def no_dilation(res, dy, static):
    dx, _, db = conv.backward(res, dy, **static)
    return dx, conv.backward(res, dy, **(static | {"dilation": 1}))[1], db


def no_bias(res, dy, static):
    dx, dw, db = conv.backward(res, dy, **static)
    return dx, dw, 0 * db


@pytest.mark.parametrize(
    ("mistake", "leaf"),
    [(no_flip, "x"), (offset_by_one, "x"), (no_dilation, "w"), (no_bias, "b")],
)
def test_a_planted_mistake_is_seen(mistake, leaf):
    static = {"stride": (2, 1), "dilation": 2}
    found = distances(backward_of(mistake), (2, 7, 5, 2), (3, 2), static)
    assert found.pop(leaf) > 0.01
    assert max(found.values()) < 1e-12


@pytest.mark.parametrize("static", [{}, {"stride": (2, 3)}, {"padding": "VALID"}])
def test_against_scipy(static):
    x, w, b, _ = arrays((2, 7, 8, 2), (3, 2), static, "float32")
    images, kernel = np.asarray(x), np.asarray(w)

    def channel(n, o):
        planes = [
            scipy.signal.correlate(images[n, :, :, i], kernel[:, :, i, o], "full")
            for i in range(images.shape[-1])
        ]
        return np.sum(planes, axis=0)

    full = np.stack([np.stack([channel(n, o) for o in range(3)], -1) for n in range(2)])
    y = conv(x, w, b, **static)
    height, width = y.shape[1:3]
    # "full" starts where the last row of the window meets the first of x: padding k-1.
    windows = Windows.of("conv", (7, 8), (3, 2), **({"stride": 1, "padding": "SAME"} | static))
    (top, _), (left, _) = windows.padding
    rows = 2 - top + windows.stride[0] * np.arange(height)
    columns = 1 - left + windows.stride[1] * np.arange(width)
    expected = full[:, rows][:, :, columns] + np.asarray(b)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "through"),
    [(name, "jit") for name in ("no bias", "1x1", "no images", "no outputs")]
    + [("uncovered rows, dilated", t) for t in witness.THROUGH if t != "jit"],
)
def test_cases_agree_with_the_reference(name, through):
    errors = witness.gradient_error(conv, CASES[name], through=through)
    assert errors
    assert max(errors.values()) < 1e-10


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", ["uncovered rows, dilated", "1-D"])
def test_low_precision_is_rounded_once(name, dtype):
    errors = witness.gradient_error(conv, CASES[name], dtype, through="jit")
    # One rounding of each element, and in float32 those of the sums.
    limit = jnp.finfo(dtype).eps * (4 if dtype == "float32" else 0.75)
    assert max(errors.values()) < limit


def test_the_reference_agrees_with_differences():
    case = CASES["uncovered rows, dilated"]
    f = jax.jit(functools.partial(conv.reference, **case.static))
    errors = witness.finite_difference_error(f, case.args, jax.random.key(1), directions=1)
    assert max(errors.values()) < 1e-7


def test_every_argument_has_a_gradient_somewhere():
    x, w, b, dy = arrays((2, 5, 4, 3), (3, 3), {}, "float32")
    for cotangent in jax.vjp(conv, x, w, b)[1](dy):
        assert float(jnp.abs(cotangent).min()) > 0


def test_rows_that_no_window_covers_get_zero():
    x = jnp.ones((2, 7, 7, 1))
    dx = jax.grad(lambda x: conv(x, jnp.ones((2, 2, 1, 1)), stride=3, padding="VALID").sum())(x)
    covered = jnp.array([True, True, False, True, True, False, False])
    expected = (covered[:, None] & covered[None, :]).astype(dx.dtype)
    np.testing.assert_array_equal(dx[0, :, :, 0], expected)


# The two forms of each gradient, and the chunks


FORMS = [
    ((3, 7, 5, 2), (3, 2), {"stride": (2, 1), "padding": "SAME"}),
    ((3, 7, 5, 2), (2, 2), {"stride": 1, "padding": ((3, 0), (0, 4)), "dilation": 2}),
    ((3, 11, 5, 2), (2, 3), {"stride": 3, "padding": "VALID"}),
    ((5, 11, 2), (4,), {"stride": 2, "padding": "SAME"}),
]


@pytest.mark.parametrize(("image", "window", "static"), FORMS)
def test_the_forms_of_other_platforms_agree(image, window, static):
    with jax.enable_x64(True):
        x, w, _, dy = arrays(image, window, static, jnp.float64)
        windows = Windows.of("conv", image[1:-1], window, **static)
        ours = (
            forms.input_gradient_forward_form(choice.convolve_fastest, dy, w, windows),
            choice.input_gradient_fastest(dy, w, windows),
            patches.filter_gradient_products(x, dy, windows),
            forms.filter_gradient_forward_form(x, dy, windows),
        )
        others = (
            *[forms.input_gradient_transposed_form(dy, w, windows)] * 2,
            *[forms.filter_gradient_convolution(x, dy, windows)] * 2,
        )
        for mine, other in zip(ours, others, strict=True):
            assert witness.relative_error(other, mine) < 1e-12


PHASES = [
    ((2, 9, 8, 2), (5, 5), {"stride": 2, "padding": "SAME"}),
    ((1, 11, 12, 1), (7, 5), {"stride": (3, 1), "padding": "VALID"}),
    ((2, 9, 11, 2), (5, 6), {"stride": (2, 4), "padding": ((3, 0), (0, 4))}),
    ((2, 6, 7, 2), (2, 3), {"stride": 4, "padding": ((0, 5), (1, 1))}),
    ((2, 10, 2), (4,), {"stride": 3, "padding": "SAME"}),
]


@pytest.mark.parametrize(("image", "window", "static"), PHASES)
def test_the_phases_of_a_strided_gradient_agree(image, window, static):
    with jax.enable_x64(True):
        _, w, _, dy = arrays(image, window, static, jnp.float64)
        windows = Windows.of("conv", image[1:-1], window, **static)
        found = input_gradient_in_phases(dy, w, windows)
        other = forms.input_gradient_transposed_form(dy, w, windows)
        assert witness.relative_error(other, found) < 1e-12
        turned = input_gradient_in_phases(dy, w[::-1], windows)
        assert witness.relative_error(other, turned) > 0.01


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks_of_images_add_up(chunk, monkeypatch):
    with jax.enable_x64(True):
        static = {"stride": 2, "padding": "SAME"}
        x, _, _, dy = arrays((7, 5, 4, 2), (3, 3), static, jnp.float64)
        windows = Windows.of("conv", (5, 4), (3, 3), **static)
        whole = forms.filter_gradient_convolution(x, dy, windows)
        monkeypatch.setattr(patches, "images_per_chunk", lambda *_: chunk)
        by_chunks = jax.jit(lambda x, dy: patches.filter_gradient_products(x, dy, windows))
        assert ("scan" in str(jax.make_jaxpr(by_chunks)(x, dy))) == (chunk < 7)
        chunked = by_chunks(x, dy)
    assert witness.relative_error(chunked, whole) < 1e-14


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_of_input_gradients_stand_in_order(chunk, monkeypatch):
    with jax.enable_x64(True):
        static = {"stride": 2, "padding": "SAME"}
        _, w, _, dy = arrays((10, 33, 32, 2), (3, 3), static, jnp.float64)
        windows = Windows.of("conv", (33, 32), (3, 3), **static)
        monkeypatch.setattr(patches, "images_per_chunk", lambda *_: chunk)
        by_chunks = jax.jit(lambda dy, w: patches.input_gradient_products(dy, w, windows))
        assert "scan" in str(jax.make_jaxpr(by_chunks)(dy, w))
        whole = forms.input_gradient_transposed_form(dy, w, windows)
        assert witness.relative_error(by_chunks(dy, w), whole) < 1e-14


@pytest.mark.parametrize("static", [{}, {"stride": 2, "padding": "VALID"}, {"dilation": (2, 1, 1)}])
@pytest.mark.parametrize("limit", [1, 4, 12])
def test_the_convolution_by_products_is_the_convolution(limit, static, monkeypatch):
    monkeypatch.setattr(patches, "images_per_chunk", lambda *_: limit)
    monkeypatch.setattr(patches, "CHUNK_ROWS", 1)
    with jax.enable_x64(True):
        x, w, _, _ = arrays((12, 5, 4, 6, 2), (3, 2, 3), static, jnp.float64)
        options = {"stride": 1, "padding": "SAME", **static}
        windows = Windows.of("conv", (5, 4, 6), (3, 2, 3), **options)
        by_products = jax.jit(lambda x, w: patches.convolve_products(x, w, windows))
        program = str(jax.make_jaxpr(by_products)(x, w))
        assert "dot_general" in program
        assert ("scan" in program) == (limit < 12)
        assert witness.relative_error(by_products(x, w), forms.convolve(x, w, windows)) < 1e-14


@pytest.mark.parametrize(
    ("image", "window", "stride", "product"),
    [
        ((4, 28, 28, 16), (3, 3), 1, False),
        ((4, 28, 16), (3,), 1, False),
        ((4, 8, 8, 16), (1, 1), 1, True),
        ((4, 8, 8, 8), (1, 1), 1, False),
        ((4, 8, 8, 16), (1, 1), 2, False),
        ((4, 8, 8, 8, 1), (3, 3, 3), 2, True),
    ],
)
def test_the_form_of_the_convolution_follows_its_shape(image, window, stride, product):
    windows = Windows.of("conv", image[1:-1], window, stride, "SAME")
    args = jnp.zeros(image), jnp.zeros((*window, image[-1], 8))
    program = str(jax.make_jaxpr(lambda x, w: choice.convolve_fastest(x, w, windows))(*args))
    assert ("dot_general" in program) == product
    assert ("conv_general_dilated" in program) != product


@pytest.mark.parametrize(("stride", "of_dy"), [(1, True), (2, False), ((1, 3), False)])
def test_patches_of_the_narrow_side_give_the_same_weight_gradient(stride, of_dy):
    static = {"stride": stride, "padding": ((3, 0), (0, 1)), "dilation": (2, 1)}
    with jax.enable_x64(True):
        x, _, _, dy = arrays((2, 5, 4, 6), (2, 3), static, jnp.float64)  # 6 inputs, 3 outputs
        windows = Windows.of("conv", (5, 4), (2, 3), **static)
        assert patches.is_exchanged(windows, 6, 3) == of_dy
        dw = patches.filter_gradient_products(x, dy, windows)
        other = forms.filter_gradient_convolution(x, dy, windows)
    assert witness.relative_error(dw, other) < 1e-14


def test_a_chunk_keeps_to_its_limits():
    for rows, columns in itertools.product((1, 49, 784, 50176), (9, 576, 4608)):
        chunk = patches.images_per_chunk(64, rows, columns, 4)
        assert 1 <= chunk <= 64
        fits = chunk * rows * columns * 4 <= patches.CHUNK_BYTES
        needed = chunk == 1 or (chunk - 1) * rows < patches.CHUNK_ROWS
        assert fits or needed
    assert patches.images_per_chunk(0, 4, 9, 4) == 1


CHUNKED = ((5, 64, 64, 16), (3, 3), 64)


def gradient(f, **static):
    def of(x, w, b):
        y, pull = jax.vjp(functools.partial(f, **static), x, w, b)
        return pull(jnp.sin(y))

    return of


def chunked_arguments():
    image, window, outputs = CHUNKED
    kx, kw, kb = jax.random.split(jax.random.key(3), 3)
    w = jax.random.normal(kw, (*window, image[-1], outputs))
    return jax.random.normal(kx, image), w, jax.random.normal(kb, (outputs,))


def test_the_same_bits_inside_and_outside_a_loop():
    of, args = gradient(conv), chunked_arguments()

    def loop(*args):
        return lax.scan(lambda carry, _: (carry, of(*args)), 0, None, length=2)[1]

    eager, compiled, looped = of(*args), jax.jit(of)(*args), jax.jit(loop)(*args)
    for e, c, s in zip(eager, compiled, looped, strict=True):
        np.testing.assert_array_equal(c, e)
        np.testing.assert_array_equal(c, s[1])


def convolutions(f, **static):
    """The convolutions in the compiled gradient, in a loop; and those XLA:CPU runs slowly there."""
    x, w, b = chunked_arguments()
    args = x, w[..., :1], b[:1]  # one output for several inputs: dx is a convolution, too

    def loop(*args):
        return lax.scan(lambda carry, _: (carry, gradient(f, **static)(*args)), 0, None, length=2)

    text = jax.jit(loop).lower(*args).compile().as_text()
    assert text is not None
    lines = [line for line in text.splitlines() if re.search(r"[ =]convolution\(", line)]
    plain = "dim_labels=b01f_01io->b01f"
    slow = ("lhs_dilate", "rhs_reversal")
    return lines, [line for line in lines if plain not in line or any(s in line for s in slow)]


def test_all_convolutions_on_a_cpu_are_of_forward_form():
    some, odd = convolutions(conv)
    assert some
    assert not odd
    assert not convolutions(conv, stride=2)[1]
    assert all(convolutions(conv.reference, stride=s)[1] for s in (1, 2))


def test_the_form_follows_the_platform():
    traced = jax.jit(gradient(conv)).trace(*chunked_arguments())
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "stablehlo.while" in texts["cpu"]
    assert "stablehlo.while" not in texts["cuda"]


def test_a_second_eager_call_traces_nothing(monkeypatch):
    calls = []
    chosen = choice.chosen
    monkeypatch.setattr(choice, "chosen", lambda *a: calls.append(a) or chosen(*a))
    x, w, b, dy = arrays((2, 13, 3, 1), (2, 2), {}, "float32")
    jax.vjp(conv, x, w, b)[1](dy)
    once = len(calls)
    assert once
    jax.vjp(conv, x, w, b)[1](dy)
    assert len(calls) == once


def test_second_derivatives():
    x, w, _, _ = arrays((1, 3, 3, 1), (2, 2), {}, "float32")

    def energy(f):
        return lambda x, w: jnp.sum(jnp.sin(f(x, w, None)))

    truth = jax.jit(jax.hessian(energy(conv.reference), (0, 1)))(x, w)
    for outer in (jax.jacfwd, jax.jacrev):
        found = jax.jit(outer(jax.grad(energy(conv), (0, 1)), (0, 1)))(x, w)
        for f, t in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
            np.testing.assert_allclose(f, t, rtol=1e-5, atol=1e-5)


X, W = jnp.zeros((2, 5, 4, 3)), jnp.zeros((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("args", "static", "message"),
    [
        ((jnp.zeros((1, 2, 2, 2, 2, 2)), jnp.zeros((2, 2, 2, 2, 2, 1))), {}, "w must have shape"),
        ((X[0], W), {}, r"add one with x\[None\]"),
        ((jnp.zeros((5, 3)), W), {}, r"x must have shape \(N, H, W, I\)"),
        ((X, jnp.zeros((3, 2))), {}, "w must have shape"),
        ((X, jnp.zeros((3, 3, 5, 2))), {}, "w takes 5 channels and x has 3"),
        ((X, W, jnp.zeros(3)), {}, r"b must have shape \(2,\).*found float32\[3\]"),
        ((X, W), {"padding": ((0, -1), (0, 0))}, "padding must be"),
        ((X, W), {"padding": "same"}, "padding must be"),
        ((X, W), {"padding": 1}, "padding must be"),
        ((X, W), {"padding": ((1, 1),)}, "each of the 2 spatial axes"),
        ((X, W), {"stride": 0}, "stride must be a positive integer or a tuple of 2, found 0"),
        ((X, W), {"stride": 1.5}, "stride must be a positive integer"),
        ((X, W), {"dilation": (1, 2, 3)}, "dilation must be"),
        ((X, W), {"padding": "VALID", "dilation": 3}, "larger than the padded input"),
        ((jnp.zeros((2, 0, 4, 3)), W), {}, "a spatial axis of x is empty"),
    ],
)
@pytest.mark.parametrize("f", [conv, conv.reference])
def test_what_does_not_fit_is_one_clear_line(f, args, static, message):
    with pytest.raises(ValueError, match=message) as caught:
        f(*args, **static)
    assert str(caught.value).startswith("conv: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("args", [(X.astype(int), W), (X, W.astype("bfloat16"))])
def test_a_dtype_that_does_not_fit(args):
    with pytest.raises(TypeError, match="conv: "):
        conv(*args)
