"""Transposed convolution against lax.conv_transpose and differences."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import witness
from jax import lax

from funcnn.rules.convolution.transposed import conv_transposed

# image, window, static
SHAPES = [
    ((2, 3, 4, 2), (3, 3), {}),
    ((2, 3, 4, 2), (3, 2), {"stride": 2}),
    ((2, 3, 2, 2), (2, 3), {"stride": (3, 1), "padding": "VALID"}),
    ((2, 3, 4, 2), (2, 2), {"stride": (2, 4)}),  # a stride beyond the window
    ((2, 3, 4, 2), (1, 2), {"stride": (2, 3), "padding": "VALID"}),
    ((1, 4, 3, 3), (3, 2), {"dilation": (2, 3), "stride": (1, 2)}),
    ((2, 3, 4, 2), (2, 2), {"padding": ((3, 0), (0, 4)), "stride": 2}),
    ((2, 5, 4, 2), (3, 3), {"padding": ((0, 0), (1, 0))}),
    ((3, 5, 2), (4,), {"stride": 3}),
    ((3, 5, 2), (4,), {"padding": "VALID", "dilation": 2}),
    ((1, 2, 3, 2, 2), (2, 1, 3), {"stride": (2, 1, 2)}),
    ((2, 3, 4, 2), (1, 1), {}),
    ((0, 3, 4, 2), (3, 3), {}),
]


def foreign(x, w, b, *, stride=1, padding="SAME", dilation=1):
    axes = x.ndim - 2
    letters = "DHW"[-axes:]
    y = lax.conv_transpose(
        x,
        w,
        np.broadcast_to(stride, axes).tolist(),
        padding,
        rhs_dilation=np.broadcast_to(dilation, axes).tolist(),
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
    return y + jnp.broadcast_to(b, y.shape)


def distances(rule, image, window, static):
    """Leaf -> relative distance in float64 from JAX's own function and its gradient."""

    def draw(salt, shape):
        return jnp.asarray(np.random.default_rng(salt).normal(size=shape))

    @jax.jit
    def both(x, w, b, dy):
        y, pull = jax.vjp(functools.partial(rule, **static), x, w, b)
        truth, pull_truth = jax.vjp(functools.partial(foreign, **static), x, w, b)
        return (y, *pull(dy)), (truth, *pull_truth(dy))

    with jax.enable_x64(True):
        args = draw(1, image), draw(2, (*window, image[-1], 3)), draw(3, (3,))
        shape = jax.eval_shape(functools.partial(foreign, **static), *args).shape
        found, truth = both(*args, draw(4, shape))
    pairs = zip(("y", "x", "w", "b"), found, truth, strict=True)
    return {name: witness.relative_error(f, t) for name, f, t in pairs}


@pytest.mark.parametrize(("image", "window", "static"), SHAPES)
def test_value_and_gradient_agree_with_lax(image, window, static):
    assert max(distances(conv_transposed, image, window, static).values()) < 1e-12


@pytest.mark.parametrize(("image", "window", "static"), SHAPES[:7:3])
def test_the_reference_agrees_with_lax(image, window, static):
    assert max(distances(conv_transposed.reference, image, window, static).values()) < 1e-12


def window_not_flipped(dx, dw, db):
    return dx, dw[::-1], db


def channels_exchanged(dx, dw, db):
    return dx, dw[..., :2].swapaxes(-1, -2).repeat(2, -1)[..., :3], db


def offset_by_one(dx, dw, db):
    return jnp.roll(dx, 1, 1), dw, db


@pytest.mark.parametrize(
    ("mistake", "leaf"),
    [(window_not_flipped, "w"), (channels_exchanged, "w"), (offset_by_one, "x")],
)
def test_a_planted_mistake_is_seen(mistake, leaf):
    def backward(res, dy, **static):
        return mistake(*conv_transposed.backward(res, dy, **static))

    found = distances(conv_transposed.replace(backward=backward), *SHAPES[1])
    assert found.pop(leaf) > 0.01
    assert max(found.values()) < 1e-12


def test_the_reference_agrees_with_differences():
    case = conv_transposed.cases()[0]
    f = jax.jit(functools.partial(conv_transposed.reference, **case.static))
    errors = witness.finite_difference_error(f, case.args, jax.random.key(1), directions=1)
    assert max(errors.values()) < 1e-7


@pytest.mark.parametrize("through", witness.THROUGH)
def test_the_rule_agrees_with_its_reference(through):
    errors = witness.gradient_error(conv_transposed, conv_transposed.cases()[1], through=through)
    assert max(errors.values()) < 1e-10


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_low_precision_is_rounded_once(dtype):
    errors = witness.gradient_error(conv_transposed, conv_transposed.cases()[0], dtype)
    assert max(errors.values()) < jnp.finfo(dtype).eps * (4 if dtype == "float32" else 0.75)


def test_all_convolutions_on_a_cpu_are_of_forward_form():
    def loop(f):
        def step(carry, xs):
            y, pull = jax.vjp(functools.partial(f, stride=2), *xs, None)
            return carry, (y, pull(jnp.sin(y))[:2])

        args = jnp.zeros((2, 4, 6, 6, 8)), jnp.zeros((2, 3, 3, 8, 4))
        text = jax.jit(lambda *xs: lax.scan(step, 0, xs)).lower(*args).compile().as_text() or ""
        lines = [line for line in text.splitlines() if re.search(r"[ =]convolution\(", line)]
        slow = ("lhs_dilate", "rhs_reversal")
        plain = "dim_labels=b01f_01io->b01f"
        return [line for line in lines if plain not in line or any(s in line for s in slow)]

    assert not loop(conv_transposed)
    assert loop(conv_transposed.reference)


X, W = jnp.zeros((2, 5, 4, 3)), jnp.zeros((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("args", "static", "message"),
    [
        ((X[0], W), {}, r"add one with x\[None\]"),
        ((X, jnp.zeros((3, 2))), {}, "w must have shape"),
        ((X, jnp.zeros((3, 3, 5, 2))), {}, "w takes 5 channels and x has 3"),
        ((X, W, jnp.zeros(3)), {}, r"b must have shape \(2,\)"),
        ((X, W), {"padding": ((0, -1), (0, 0))}, "padding must be"),
        ((X, W), {"padding": "same"}, "padding must be"),
        ((X, W), {"stride": 0}, "stride must be a positive integer"),
        ((X, W), {"dilation": (1, 2, 3)}, "dilation must be"),
        ((X[:, :2], W), {"padding": ((0, 0), (0, 0))}, "nothing comes out"),
        ((X[:, :0], W), {}, "a spatial axis is empty"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(args, static, message):
    with pytest.raises(ValueError, match=message) as caught:
        conv_transposed(*args, **static)
    assert str(caught.value).startswith("conv_transposed: ")
    assert "\n" not in str(caught.value)
