"""The Vision Transformer: its places, its class token, and its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

OTHER: Any = "zeros"
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 3)), jnp.float32)
SMALL: dict[str, Any] = {"patch": 2, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "classes": 5}


def drawn(model):
    params = model.init(jax.random.key(0), X)
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda a: a + 0.3 * noise.normal(size=a.shape).astype(a.dtype), params)


def test_the_shapes_of_what_it_draws():
    shapes = jax.tree.map(jnp.shape, fnn.vit(**SMALL).init(jax.random.key(0), X))
    assert shapes["patches"] == {"w": (2, 2, 3, 8), "b": (8,)}
    assert shapes["class_token"] == {"token": (8,)}
    assert shapes["places"] == {"table": (7, 8)}
    assert shapes["blocks"]["attention"]["body"]["inputs"]["heads"]["q"]["w"] == (2, 8, 8)
    assert shapes["head"] == {"w": (8, 5), "b": (5,)}
    waves = fnn.vit(**SMALL, places="sinusoids").init(jax.random.key(0), X)
    assert set(waves) == shapes.keys() - {"places"}


def test_the_logits_are_the_formula():
    """Patches cut out and multiplied, token and places, the blocks, and the head on the token."""
    model = fnn.vit(**SMALL)
    params = drawn(model)
    rows = X.reshape(2, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 12)
    rows = rows @ params["patches"]["w"].reshape(12, 8) + params["patches"]["b"][None, None]
    token = jnp.tile(params["class_token"]["token"], (2, 1, 1))
    x = jnp.concatenate([token, rows], 1) + params["places"]["table"][None]
    block = fnn.transformer_block(8, 2, hidden=12, activation="gelu_erf", epsilon=1e-6)
    for i in range(2):
        x = block(jax.tree.map(lambda a, i=i: a[i], params["blocks"]), x)
    x = x[:, 0]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * params["norm"]["scale"][None] + params["norm"]["bias"][None]
    expected = x @ params["head"]["w"] + params["head"]["b"][None]
    np.testing.assert_allclose(model(params, X), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_without_rules_in_float64():
    model = fnn.vit(**SMALL, dropout=0.2)
    params, key = drawn(model), jax.random.key(4)
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, X))
        dy = jnp.cos(jnp.arange(10.0)).reshape(2, 5)

        @jax.jit
        def three_ways(params, x):
            def of(params, x):
                return model(params, x, key=key)

            by_hand = fnn.backprop(model, params, x, dy, key)[:2]
            pullback = jax.vjp(fnn.without_rules(of), params, x)[1]
            return pullback(dy), jax.vjp(of, params, x)[1](dy), by_hand

        expected, *others = three_ways(params, x)
        for found in others:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11),
                found,
                expected,
            )


def test_places_tell_patches_apart_and_the_token_sees_them_all():
    for places in ("learnt", "sinusoids"):
        model = fnn.vit(**SMALL, places=places)
        params = drawn(model)
        y, dx = jax.jit(lambda p, x, m=model: jax.vjp(lambda x: m(p, x), x))(params, X)
        assert bool(jnp.all(dx(jnp.ones_like(y))[0] != 0))
        swapped = model(params, jnp.roll(X, 2, axis=2))  # the same patches in another order
        assert float(jnp.abs(swapped - y).max()) > 1e-3


def test_sinusoids_are_waves_of_growing_length():
    t, width = np.arange(5)[:, None], 6
    angle = t / 100.0 ** (2 * np.arange(3) / width)
    expected = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(5, width)
    x = jnp.ones((2, 5, width))
    np.testing.assert_allclose(
        fnn.sinusoids(base=100.0)({}, x) - 1, expected[None].repeat(2, 0), 1e-5, 1e-6
    )
    odd = fnn.sinusoids(base=100.0)({}, jnp.zeros((1, 5, 5)))
    angle = t / 100.0 ** (2 * np.arange(3) / 5)
    expected = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(5, 6)[:, :5]
    np.testing.assert_allclose(odd[0], expected, rtol=1e-5, atol=1e-6)


def test_sinusoids_go_on_from_where_they_were():
    model = fnn.chain(fnn.embedding(7, 8), fnn.sinusoids(), fnn.self_attention(8, 2, causal=True))
    tokens = jnp.array([[3, 1, 4, 1], [5, 2, 6, 5]])
    params = model.init(jax.random.key(0), tokens)
    cache = fnn.start_cache(model, params, 2, 4)
    first, cache = fnn.apply_cached(model, params, cache, tokens[:, :3])
    last, _ = fnn.apply_cached(model, params, cache, tokens[:, 3:])
    together = jnp.concatenate([first, last], 1)
    np.testing.assert_allclose(together, model(params, tokens), rtol=1e-5, atol=1e-6)


def test_in_bfloat16_the_angle_is_known():
    y = fnn.sinusoids()({}, jnp.zeros((1, 1001, 4), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y[0, 1000, 0]), np.sin(1000.0), atol=0.01)


def test_wrong_options_and_images_are_one_line():
    for make, said in (
        (lambda: fnn.vit(patch=0), "vit: patch is a positive integer"),
        (lambda: fnn.vit(places="none"), "vit: places is 'learnt' or 'sinusoids', found 'none'"),
        (lambda: fnn.vit(width=6, heads=4), "heads divide width"),
        (lambda: fnn.sinusoids(base=1.0), "base is a number above 1"),
        (lambda: fnn.sinusoids()({}, jnp.ones((2, 3))), r"sinusoids: x has shape \(B, T, D\)"),
        (lambda: fnn.vit(**SMALL).init(jax.random.key(0), X[:, :3]), "patch=2 divides H and W"),
        (lambda: fnn.vit(**SMALL).init(jax.random.key(0), X[0]), "vit: x has shape"),
        (
            lambda: fnn.class_token()({"token": jnp.ones(3)}, jnp.ones((2, 3))),
            "class_token: x has shape",
        ),
    ):
        with pytest.raises(ValueError, match=said) as error:
            make()
        assert "\n" not in str(error.value).split("\n\n")[0]
    with pytest.raises(ValueError, match="function, such as those"):
        fnn.class_token(initializer=OTHER)
