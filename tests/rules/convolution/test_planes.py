"""Convolutions of volumes plane by plane, against lax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import witness

from funcnn.rules.convolution import choice, planes
from funcnn.rules.convolution.forms import convolve, filter_gradient_convolution
from funcnn.rules.convolution.patches import filter_gradient_products
from funcnn.rules.shared.windows import Windows

# images, size, window, options
SHAPES = [
    (2, (4, 3, 5), (3, 3, 3), {}),
    (1, (5, 4, 4), (2, 3, 2), {"padding": "VALID"}),
    (2, (6, 5, 4), (3, 2, 2), {"dilation": (2, 1, 2)}),
    (2, (3, 5, 6), (2, 2, 3), {"stride": (1, 2, 3)}),
    (1, (3, 4, 5), (2, 2, 2), {"padding": ((2, 0), (0, 1), (1, 3))}),
    (3, (4, 3, 3), (1, 2, 2), {}),
    (0, (4, 3, 3), (3, 2, 2), {}),
]


def distances(images, size, window, options):
    """Of y and dw from lax's convolution and its gradient, in float64."""
    static = {"stride": 1, "padding": "SAME", "dilation": 1, **options}
    windows = Windows.of("conv", size, window, **static)
    draw = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(draw.normal(size=(images, *size, 2)))
        w = jnp.asarray(draw.normal(size=(*window, 2, 3)))
        dy = jnp.asarray(draw.normal(size=(images, *windows.output, 3)))
        y = planes.convolve_by_planes(convolve, x, w, windows)
        dw = planes.filter_gradient_by_planes(filter_gradient_products, x, dy, windows)
        truth = convolve(x, w, windows), filter_gradient_convolution(x, dy, windows)
        pairs = zip((y, dw), truth, strict=True)
        return tuple(witness.relative_error(found, true) for found, true in pairs)


@pytest.mark.parametrize(("images", "size", "window", "options"), SHAPES)
def test_both_are_those_of_the_volume(images, size, window, options):
    assert max(distances(images, size, window, options)) < 1e-14


def test_planes_out_of_order_are_seen(monkeypatch):
    elements = planes._elements
    monkeypatch.setattr(planes, "_elements", lambda *args: elements(*args)[::-1])
    of_y, of_dw = distances(*SHAPES[0])
    assert of_y > 0.01
    assert of_dw < 1e-14


def test_windows_one_too_low_are_seen(monkeypatch):
    along_depth = planes._along_depth

    def lowered(windows, depth):
        ((lo, hi), plane) = along_depth(windows, depth).padding
        return Windows(*_fields(along_depth(windows, depth)), ((lo + 1, hi - 1), plane))

    monkeypatch.setattr(planes, "_along_depth", lowered)
    assert min(distances(*SHAPES[0])) > 0.01


def _fields(windows):
    return windows.size, windows.window, windows.stride, windows.dilation


def taken(size, window, stride=(1, 1, 1), inputs=8):
    """Whether y, dx and dw are made of planes: no convolution in three dimensions is left."""
    windows = Windows.of("conv", size, window, stride, "SAME")
    x, w = jnp.zeros((1, *size, inputs)), jnp.zeros((*window, inputs, 8))
    dy = jnp.zeros((1, *windows.output, 8))
    counts = []
    for f, args in (
        (choice.convolve_fastest, (x, w)),
        (choice.input_gradient_fastest, (dy, w)),
        (choice.filter_gradient_fastest, (x, dy)),
    ):
        text = str(jax.make_jaxpr(lambda a, b, f=f: f(a, b, windows))(*args))
        assert "lhs_spec=(0, 4, 1, 2, 3)" not in text
        counts.append("conv_general_dilated" in text)
    return tuple(counts)


def test_planes_are_taken_where_they_pay():
    assert taken((3, 8, 8), (3, 3, 3)) == (True, True, True)
    assert taken((3, 7, 8), (3, 3, 3)) == (True, True, False)  # dw of small planes: products
    assert taken((3, 8, 8), (3, 3, 3), inputs=2) == (True, False, True)
    assert taken((3, 8, 8), (3, 3, 3), stride=(2, 2, 2)) == (False, False, False)
    assert taken((3, 8, 8), (3, 3, 3), stride=(1, 2, 2)) == (True, False, False)
    assert taken((3, 8, 8), (1, 1, 1)) == (False, False, False)
