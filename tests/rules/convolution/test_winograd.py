"""The 3x3 convolution by Winograd's products, against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import witness
from jax import lax

import funcnn as fnn
from funcnn.rules.convolution import choice, winograd
from funcnn.rules.convolution.forms import convolve, filter_gradient_convolution
from funcnn.rules.shared.windows import Windows


def arrays(images, size, inputs, outputs, dtype="float32"):
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(images, *size, inputs)), dtype)
    return x, jnp.asarray(draw.normal(size=(3, 3, inputs, outputs)), dtype)


def distance(images, size, padding):
    """From lax's convolution, in float64."""
    with jax.enable_x64(True):
        x, w = arrays(images, size, 2, 3, "float64")
        windows = Windows.of("conv", size, (3, 3), 1, padding)
        found = jax.jit(lambda x, w: winograd.convolve_winograd(x, w, windows))(x, w)
        return witness.relative_error(found, convolve(x, w, windows))


def distance_of_dw(images, size, padding):
    """From the gradient of lax's convolution, in float64."""
    with jax.enable_x64(True):
        windows = Windows.of("conv", size, (3, 3), 1, padding)
        x, _ = arrays(images, size, 2, 3, "float64")
        dy = jnp.sin(jnp.arange(images * np.prod(windows.output) * 3.0, dtype="float64"))
        dy = dy.reshape(images, *windows.output, 3)
        found = jax.jit(lambda x, dy: winograd.filter_gradient_winograd(x, dy, windows))(x, dy)
        return witness.relative_error(found, filter_gradient_convolution(x, dy, windows))


SHAPES = [
    (3, (6, 8), "SAME"),
    (2, (5, 7), "SAME"),
    (4, (5, 4), "VALID"),
    (1, (3, 3), "VALID"),
    (2, (4, 5), ((2, 0), (0, 3))),
    (6, (1, 2), "SAME"),
]


@pytest.mark.parametrize(("images", "size", "padding"), SHAPES)
def test_it_is_the_convolution(images, size, padding):
    assert distance(images, size, padding) < 1e-14
    assert distance_of_dw(images, size, padding) < 1e-14


@pytest.mark.parametrize("limit", [1, 5_000, 10_000])
def test_chunks_of_images_stand_in_order(limit, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", limit)
    assert distance(6, (5, 6), "SAME") < 1e-14
    assert distance_of_dw(6, (5, 6), "SAME") < 1e-14


MISTAKES = [
    ("_of_x", lambda x: [x[0] - x[2], x[1] + x[2], x[1] - x[2], x[1] - x[3]]),
    ("_of_w", lambda w: [w[0], w[0] + w[1] + w[2], (w[0] - w[1] + w[2]) / 2, w[2]]),
    ("_of_m", lambda m: [m[0] + m[1] + m[2], m[1] - m[2] + m[3]]),
]


@pytest.mark.parametrize(("name", "wrong"), MISTAKES, ids=[name for name, _ in MISTAKES])
def test_a_wrong_transform_is_seen(name, wrong, monkeypatch):
    monkeypatch.setattr(winograd, name, wrong)
    assert distance(2, (6, 6), "SAME") > 0.01


MISTAKES_OF_DW = [
    ("_of_x", lambda x: [x[0] - x[2], x[1] + x[2], x[1] - x[2], x[1] - x[3]]),
    ("_of_dy", lambda dy: [dy[0], dy[0] + dy[1], dy[0] - dy[1], dy[1]]),
    (
        "_of_du",
        lambda du: [du[0] + du[1] + du[2], (du[1] - du[2]) / 2, (du[1] + du[2]) / 2 + du[3]],
    ),
]


@pytest.mark.parametrize(("name", "wrong"), MISTAKES_OF_DW, ids=[n for n, _ in MISTAKES_OF_DW])
def test_a_wrong_transform_is_seen_in_dw(name, wrong, monkeypatch):
    monkeypatch.setattr(winograd, name, wrong)
    assert distance_of_dw(2, (6, 6), "SAME") > 0.01


def test_the_rule_takes_it_and_stays_right():
    x, w = arrays(12, (16, 16), 32, 65)
    windows = Windows.of("conv", (16, 16), (3, 3), 1, "SAME")
    dy = jnp.zeros((12, 16, 16, 65))
    programs = (
        jax.make_jaxpr(lambda x, w: choice.convolve_fastest(x, w, windows))(x, w),
        jax.make_jaxpr(lambda dy, w: choice.input_gradient_fastest(dy, w, windows))(dy, w),
        jax.make_jaxpr(lambda x, dy: choice.filter_gradient_fastest(x, dy, windows))(x, dy),
    )
    assert str(programs[2]).count("dot_general") == 16
    for program in programs:
        assert "dot_general" in str(program)
        assert "conv_general_dilated" not in str(program)
    report = fnn.check(fnn.rules.conv, x, w, jnp.ones(65))
    assert report.ok, str(report)


def test_its_rounding_is_that_of_a_convolution():
    x, w = arrays(8, (16, 16), 64, 32)
    dy = jnp.asarray(np.random.default_rng(1).normal(size=(8, 16, 16, 32)), "float32")
    windows = Windows.of("conv", (16, 16), (3, 3), 1, "SAME")

    def error(f, reference, *args):
        with jax.enable_x64(True):
            exact = np.asarray(reference(*(a.astype("float64") for a in args), windows))
        return np.linalg.norm(np.asarray(f(*args, windows), "float64") - exact)

    assert error(winograd.convolve_winograd, convolve, x, w) < 3 * error(convolve, convolve, x, w)
    plain = filter_gradient_convolution
    by_products = error(winograd.filter_gradient_winograd, plain, x, dy)
    assert by_products < 3 * error(plain, plain, x, dy)


def test_the_same_bits_inside_and_outside_a_loop():
    x, w = arrays(8, (16, 16), 32, 64)

    def loop(x, w):
        return lax.scan(lambda c, _: (c, fnn.rules.conv(x, w)), 0, None, length=2)[1]

    np.testing.assert_array_equal(jax.jit(loop)(x, w)[1], jax.jit(fnn.rules.conv)(x, w))
