"""The activations against jax.nn, at their kinks, ties and ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from witness import gradient_error

from funcnn import rules

# rule -> the same function, written by somebody else.
PEERS = {
    "relu": (rules.relu, jax.nn.relu),
    "leaky_relu": (rules.leaky_relu, jax.nn.leaky_relu),
    "leaky_relu_third": (
        lambda x: rules.leaky_relu(x, slope=0.3),
        lambda x: jax.nn.leaky_relu(x, 0.3),
    ),
    "elu": (rules.elu, jax.nn.elu),
    "elu_third": (lambda x: rules.elu(x, alpha=0.3), lambda x: jax.nn.elu(x, 0.3)),
    "softplus": (rules.softplus, jax.nn.softplus),
    "sigmoid": (rules.sigmoid, jax.nn.sigmoid),
    "tanh": (rules.tanh, jnp.tanh),
    "silu": (rules.silu, jax.nn.silu),
    "gelu": (rules.gelu, jax.nn.gelu),
    "gelu_erf": (
        lambda x: rules.gelu(x, approximate=False),
        lambda x: jax.nn.gelu(x, approximate=False),
    ),
}
every_peer = pytest.mark.parametrize("name", PEERS)


def value_and_slope(f, x):
    y, pullback = jax.vjp(f, x)
    return np.asarray(y), np.asarray(pullback(jnp.ones_like(y))[0])


@every_peer
def test_value_and_gradient_equal_those_of_jax_nn_also_at_zero(name):
    ours, theirs = PEERS[name]
    with jax.enable_x64(True):
        x = jnp.concatenate([jnp.linspace(-6, 6, 49), jnp.array([0.0, -0.0])])
        for found, truth in zip(value_and_slope(ours, x), value_and_slope(theirs, x), strict=True):
            np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-14)


@every_peer
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_ends_give_the_limits_and_nan_stays_nan(name, dtype):
    ours, _ = PEERS[name]
    x = jnp.array([-jnp.inf, -1e4, 1e4, jnp.inf], dtype)
    y, slope = value_and_slope(ours, x)
    left = {"leaky_relu": 0.01, "leaky_relu_third": 0.3}.get(name, 0.0)
    right = 0.0 if name in ("sigmoid", "tanh") else 1.0
    np.testing.assert_allclose(slope.astype(float), [left, left, right, right], rtol=1e-2)
    ends = {
        "sigmoid": (0.0, 1.0),
        "tanh": (-1.0, 1.0),
        "elu": (-1.0, np.inf),
        "elu_third": (-0.3, np.inf),
        "leaky_relu": (-np.inf, np.inf),
        "leaky_relu_third": (-np.inf, np.inf),
    }.get(name, (0.0, np.inf))
    np.testing.assert_allclose(y[[0, -1]].astype(float), ends, rtol=1e-2)
    assert np.isnan(np.asarray(ours(jnp.array(jnp.nan, dtype))).astype(float))


@pytest.mark.parametrize("name", ["elu", "softplus", "sigmoid", "tanh", "silu", "gelu"])
def test_the_second_derivative_far_out_is_zero_and_not_nan(name):
    """An exponential that overflows on a branch that is not taken would be infinity times 0."""
    second = jax.grad(jax.grad(getattr(rules, name)))
    assert [float(second(x)) for x in (-200.0, 200.0)] == [0.0, 0.0]


def test_gelu_at_1e20_where_autodiff_gives_nan():
    x = jnp.array([-1e20, 1e20])
    for approximate in (True, False):
        y, slope = value_and_slope(lambda x, a=approximate: rules.gelu(x, approximate=a), x)
        np.testing.assert_array_equal(y, [0, np.float32(1e20)])
        np.testing.assert_array_equal(slope, [0, 1])
    assert np.isnan(value_and_slope(jax.nn.gelu, x)[1]).any()


def test_gelu_is_x_times_the_normal_distribution():
    x = np.linspace(-8, 8, 33)
    with jax.enable_x64(True):
        y = rules.gelu(jnp.asarray(x), approximate=False)
    np.testing.assert_allclose(y, x * scipy.special.ndtr(x), rtol=1e-11)


def test_sigmoid_and_softplus_equal_scipy():
    x = np.linspace(-30, 30, 61)
    with jax.enable_x64(True):
        np.testing.assert_allclose(rules.sigmoid(x), scipy.special.expit(x), rtol=1e-14)
        np.testing.assert_allclose(rules.softplus(x), np.logaddexp(x, 0), rtol=1e-14)


def test_relu_keeps_its_output_alone():
    x = jnp.array([-1.0, 2.0])
    y, res = rules.relu.forward(x)
    assert res is y


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1e-30])
def test_leaky_relu_takes_the_side_from_x_and_not_from_y(slope):
    x = jnp.array([-1e-20, -2.0, 3.0])
    _, found = value_and_slope(lambda x: rules.leaky_relu(x, slope=slope), x)
    np.testing.assert_array_equal(found, np.array([slope, slope, 1], "float32"))


def test_a_kink_on_the_wrong_side_is_rejected():
    kink = next(c for c in rules.relu.cases() if c.name == "kink")
    wrong = rules.relu.replace(backward=lambda y, dy: (jnp.where(y < 0, 0, dy),))
    assert gradient_error(wrong, kink)["x"] > 0.1
    kink = next(c for c in rules.leaky_relu.cases() if c.name == "kink")
    wrong = rules.leaky_relu.replace(
        forward=lambda x, *, slope: (rules.leaky_relu.reference(x, slope=slope), x > 0)
    )
    assert gradient_error(wrong, kink)["x"] > 0.1


def test_the_form_of_gelu_matters():
    case = rules.gelu.cases()[0]

    def other_form(x, dy, *, approximate):
        return rules.gelu.backward(x, dy, approximate=not approximate)

    assert gradient_error(rules.gelu.replace(backward=other_form), case)["x"] > 1e-5


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "silu", "gelu"]
)
def test_integers_are_refused(name):
    for f in (getattr(rules, name), getattr(rules, name).reference):
        with pytest.raises(TypeError, match=rf"^{name}: x must be floating point, found int32\[2"):
            f(jnp.array([1, 2]))


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_a_unit_with_a_gate_is_a_product(name):
    unit = {"silu": rules.swiglu, "gelu": rules.geglu}[name]
    x, gate = (jax.random.normal(jax.random.key(n), (5, 7)) for n in (0, 1))
    found, ours = jax.vjp(unit, x, gate)
    expected, theirs = jax.vjp(lambda x, gate: x * getattr(jax.nn, name)(gate), x, gate)
    for a, b in zip((found, *ours(x)), (expected, *theirs(x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
