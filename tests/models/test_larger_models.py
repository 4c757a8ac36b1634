"""The models of the literature: their number of parameters, their shapes, a step of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.chosen import chosen_model
from funcnn.config import Config, ModelConfig
from funcnn.core.layer import parameter_count
from funcnn.data.known import Known


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 5, (2, 6)))
SMALL = {
    "resnet18": (lambda: fnn.resnet18(3, width=2), drawn(0, 4, 16, 16, 1)),
    "resnet50": (lambda: fnn.resnet50(3, width=1), drawn(0, 2, 32, 32, 1)),
    "unet": (lambda: fnn.unet(2, width=2, depth=2), drawn(0, 2, 8, 8, 1)),
    "autoencoder": (lambda: fnn.autoencoder((4, 4, 1), [8], 2), drawn(0, 2, 4, 4, 1)),
    "vae": (lambda: fnn.vae((4, 4, 1), [8], 2), drawn(0, 2, 4, 4, 1)),
    "char_rnn": (lambda: fnn.char_rnn(5, 3, [4, 6], cell="gru", dropout=0.5), TOKENS),
}
SHAPES = {
    "resnet18": (4, 3),
    "resnet50": (2, 3),
    "unet": (2, 8, 8, 2),
    "autoencoder": (2, 4, 4, 1),
    "vae": ((2, 4, 4, 1), (2, 2), (2, 2)),
    "char_rnn": (2, 6, 5),
}


def dense(inputs, outputs):
    return (inputs + 1) * outputs


def lstm(inputs, hidden):
    return 4 * hidden * (inputs + hidden + 1)


# torchvision's resnet50, and pytorch-cifar's resnet18; the others are summed here.
COUNTS = {
    "resnet18": ((1, 32, 32, 3), 11_173_962),
    "resnet50": ((1, 224, 224, 3), 25_557_032),
    "unet": ((1, 32, 32, 1), 31_030_658),
    "autoencoder": (
        (1, 28, 28, 1),
        dense(784, 256)
        + dense(256, 64)
        + dense(64, 16)
        + dense(16, 64)
        + dense(64, 256)
        + dense(256, 784),
    ),
    "vae": (
        (1, 28, 28, 1),
        dense(784, 512)
        + dense(512, 256)
        + 2 * dense(256, 20)
        + dense(20, 256)
        + dense(256, 512)
        + dense(512, 784),
    ),
    "char_rnn": ((1, 9), 128 * 64 + lstm(64, 256) + lstm(256, 256) + dense(256, 128)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters(name, key):
    shape, count = COUNTS[name]
    x = jax.ShapeDtypeStruct(shape, "int32" if name == "char_rnn" else "float32")
    params = jax.eval_shape(getattr(fnn, name)().init, key, x)
    assert parameter_count(params) == count


def test_the_number_of_parameters_of_the_u_net_is_the_sum_of_its_convolutions():
    twice = lambda c, w: (9 * c + 1) * w + (9 * w + 1) * w  # noqa: E731
    widths = [64, 128, 256, 512, 1024]
    down = sum(twice(c, w) for c, w in zip([1, *widths], widths, strict=False))
    up = sum((4 * 2 * w + 1) * w + twice(2 * w, w) for w in widths[:-1])
    assert down + up + (64 + 1) * 2 == COUNTS["unet"][1]


LONG = {"resnet50", "resnet18"}
TIERS = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SMALL]


@pytest.mark.parametrize("name", [name for name in SMALL if name != "resnet50"])
def test_the_shapes_of_what_it_returns_and_of_its_gradient(name, key):
    make, x = SMALL[name]
    model = make()
    params = jax.eval_shape(model.init, key, x)
    y = jax.eval_shape(lambda p: model(p, x, key=key), params)
    assert jax.tree.map(jnp.shape, y) == SHAPES[name]
    total = lambda p: sum(a.sum() for a in jax.tree.leaves(model(p, x, key=key)))  # noqa: E731
    gradient = jax.eval_shape(jax.grad(total), params)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


# In float64: a batch norm over the few rows of these small images magnifies what rounding leaves.
@pytest.mark.parametrize("name", TIERS)
def test_a_step_against_the_gradient_makes_the_loss_smaller(name, key):
    with jax.enable_x64(True):
        make, x = SMALL[name]
        model = make()
        x = x if name == "char_rnn" else x.astype("float64")
        params = jax.tree.map(lambda p: p.astype("float64"), model.init(key, x))

        def loss(params):
            y = model(params, x, key=key)
            return sum(jnp.square(a - 1).mean() for a in jax.tree.leaves(y))

        before, gradient = jax.jit(jax.value_and_grad(loss))(params)
        # No parameter is idle: a convolution before a batch norm has no bias.
        assert all(np.any(g) for g in jax.tree.leaves(gradient))
        squares = sum(float(jnp.vdot(g, g)) for g in jax.tree.leaves(gradient))
        step = 1e-4 / squares  # the loss becomes smaller by 1e-4, and by no more than that
        moved = jax.tree.map(lambda p, g: p - step * g, params, gradient)
        np.testing.assert_allclose(before - jax.jit(loss)(moved), 1e-4, rtol=0.05)


@pytest.mark.parametrize("name", TIERS)
def test_backprop_goes_through_it(name, key):
    make, x = SMALL[name]
    model = make()
    params = model.init(key, x)
    y = jax.eval_shape(lambda p: model(p, x, key=key), params)
    dy = jax.tree.map(lambda a: drawn(1, *a.shape), y)
    dparams = jax.jit(lambda p: fnn.backprop(model, p, x, dy, key=key)[0])(params)

    def loss(params):
        ys = zip(jax.tree.leaves(model(params, x, key=key)), jax.tree.leaves(dy), strict=True)
        return sum(jnp.vdot(a, b) for a, b in ys)

    expected = jax.jit(jax.grad(loss))(params)
    for found, leaf in zip(jax.tree.leaves(dparams), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, leaf, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_config_finds_it_by_name(name):
    assert list(chosen_model(Config(model=ModelConfig(name=name)), Known({})).parts)


def test_a_residual_network_is_evaluated_with_folded_statistics(key):
    make, x = SMALL["resnet18"]
    model = make()
    params = jax.eval_shape(model.init, key, x)
    with pytest.raises(ValueError, match="stem/batch_norm_0: no statistics"):
        jax.eval_shape(model, params, x)
    statistics = jax.eval_shape(model.statistics, params, x, key)
    assert len(statistics) == 20
    ones = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), (params, statistics))
    folded = fnn.fold_statistics(*ones)
    assert jax.eval_shape(model, folded, x).shape == (4, 3)


def test_a_text_in_pieces_is_the_whole(key):
    model = fnn.char_rnn(5, 3, [4, 6], cell="gru")
    params = model.init(key, TOKENS)
    carries, first = model(params, (None, TOKENS[:, :4]))
    _, second = model(params, (carries, TOKENS[:, 4:]))
    whole = model(params, TOKENS)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=1e-5, atol=1e-6)
    _, short = model(params, (None, TOKENS, jnp.array([6, 2])))
    np.testing.assert_allclose(short[1, :2], whole[1, :2], rtol=1e-5, atol=1e-6)


def test_a_drawn_code_and_the_mean(key):
    make, x = SMALL["vae"]
    model = make()
    params = model.init(key, x)
    decode = lambda z: model.parts["decoder"](params["decoder"], z).reshape(x.shape)  # noqa: E731
    logits, mean, log_variance = model(params, x)
    np.testing.assert_allclose(logits, decode(mean), rtol=1e-5, atol=1e-6)
    some, other = (model(params, x, key=jax.random.key(i)) for i in (1, 2))
    assert not np.array_equal(some[0], other[0])
    for found in (some, other):
        np.testing.assert_array_equal(found[1], mean)
        np.testing.assert_array_equal(found[2], log_variance)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fnn.char_rnn(cell="elman"), "char_rnn: cell is 'lstm', 'gru' or 'rnn'"),
        (lambda: fnn.char_rnn(hidden="8"), "char_rnn: hidden is several sizes"),  # pyright: ignore
        (lambda: fnn.vae(hidden=[0]), "vae: hidden is a positive integer, found 0"),
        (lambda: fnn.autoencoder(code=0), "autoencoder: code is a positive integer, found 0"),
        (lambda: fnn.autoencoder("28"), "autoencoder: shape is several sizes"),  # pyright: ignore
        (lambda: fnn.unet(depth=0), "unet: depth is a positive integer, found 0"),
        (lambda: fnn.resnet18(width=0), "conv: features is a positive integer, found 0"),
    ],
)
def test_wrong_options_are_one_line(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_image_that_cannot_be_halved_so_often_is_refused(key):
    with pytest.raises(ValueError, match="unet: height and width are multiples of 4, found"):
        fnn.unet(width=2, depth=2).init(key, drawn(0, 1, 6, 8, 1))
