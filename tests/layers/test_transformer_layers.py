"""The block of a transformer: gradients by every way, what is kept, and what is computed again."""

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

import funcnn as fnn
from funcnn.core.sorting import Sorting
from funcnn.gradient.cost.flops import compiled_expense, count_products

B, T, D, H = 2, 6, 16, 4
SETTINGS = {
    "gpt": {"causal": True},
    "llama": {
        "causal": True,
        "norm": "rms",
        "activation": "swiglu",
        "bias": False,
        "key_heads": 2,
        "rotary": 100.0,
        "hidden": 24,
    },
    "encoder": {"activation": "relu", "dropout": 0.2},
    "alibi": {"causal": True, "alibi": True},
    "wide window": {"activation": "geglu", "window": 2, "soft_cap": 5.0, "key_heads": 1},
}


def setting(name, wrap=lambda block: block):
    model = wrap(fnn.transformer_block(D, H, **SETTINGS[name]))
    x, dy = (jax.random.normal(jax.random.key(n), (B, T, D)) for n in (1, 2))
    drawn = model.init(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    noise = [
        0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return model, jax.tree.unflatten(tree, map(jnp.add, leaves, noise)), x, dy


OTHER: Any = "other"
WRAPS = {
    "alone": lambda block: block,
    "inputs": lambda block: fnn.repeat(block, 3),
    "residuals": lambda block: fnn.repeat(block, 3, keep="residuals"),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_gradient_is_that_without_rules(name, wrap):
    model, params, x, dy = setting(name, WRAPS[wrap])
    key = jax.random.key(7)

    def of(params, x):
        return model(params, x, key=key)

    y, pullback = jax.vjp(fnn.without_rules(of), params, x)
    found, hand = jax.vjp(of, params, x)
    near = {"rtol": 2e-4, "atol": 2e-5}
    chex.assert_trees_all_close(found, y, **near)
    chex.assert_trees_all_close(hand(dy), pullback(dy), **near)
    by_recursion = fnn.backprop(model, params, x, dy, key=key)
    chex.assert_trees_all_close(by_recursion[:2], pullback(dy), **near)


def numbers_kept(block, x):
    """How many numbers the block's own passes keep of x (B, T, D), its params left out."""
    params = jax.eval_shape(block.init, jax.random.key(0), x)
    res = jax.eval_shape(lambda p, x: block.forward(p, x, None)[1], params, x)
    found = []

    def forward(params, x):
        _, res = block.forward(params, x, None)
        found.extend(Sorting.of(res, params, None).kept(res))
        return res

    jax.eval_shape(forward, params, x)
    assert len(found) < len(jax.tree.leaves(res))
    return sum(math.prod(a.shape) for a in found)


def test_ten_numbers_are_kept_for_each_of_x():
    block = fnn.transformer_block(64, 2, causal=True)
    x = jax.ShapeDtypeStruct((4, 32, 64), jnp.bfloat16)
    of_rows = 2 * 4 * 32 * 2  # of each query and head the two numbers of its softmax
    assert numbers_kept(block, x) == 10 * 4 * 32 * 64 + of_rows


def test_no_product_is_computed_again_but_that_of_queries_and_keys():
    block = fnn.transformer_block(64, 2, causal=False)
    x = jnp.zeros((1, 32, 64))
    params = block.init(jax.random.key(0), x)

    def loss(params, x):
        return jnp.sum(fnn.repeat(block, 2, keep="residuals")(params, x) ** 2)

    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), params)
    of_weights, of_scores = 2 * 32 * 12 * 64 * 64, 2 * 32 * 32 * 64
    wanted = 2 * (3 * of_weights + 7 * of_scores)
    program = jax.make_jaxpr(jax.grad(loss, (0, 1)))(stacked, x)
    assert sum(count_products(program).values()) == wanted


def test_a_stack_keeps_what_it_says():
    def temporary_bytes(keep):
        model = fnn.repeat(fnn.transformer_block(64, 2, causal=True), 8, keep=keep)
        x = jax.ShapeDtypeStruct((4, 128, 64), jnp.float32)
        params = jax.eval_shape(model.init, jax.random.key(0), x)
        step = jax.jit(jax.grad(lambda p, x: jnp.sum(model(p, x) ** 2)))
        return compiled_expense(step.lower(params, x).compile()).temporary_bytes

    unit = 4 * 128 * 64 * 4 * 8
    assert 8 * unit < temporary_bytes("residuals") - temporary_bytes("inputs") < 10 * unit


def test_a_residual_that_is_lost_is_found():
    """With the mlp's input in the place of the activation's the gradient is another one."""
    block, params, x, dy = setting("gpt")
    forward = block.forward

    def careless(params, x, key):
        y, res = forward(params, x, key)
        return y, jax.tree.map(lambda a: jnp.zeros_like(a) if a.shape[-1:] == (64,) else a, res)

    wrong = fnn.repeat(dataclasses.replace(block, forward=careless), 1, keep="residuals")
    stacked = jax.tree.map(lambda a: a[None], params)
    found = fnn.backprop(wrong, stacked, x, dy)[1]
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(found, fnn.backprop(block, params, x, dy)[1], rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fnn.transformer_block(16, 3), "heads divide width"),
        (lambda: fnn.transformer_block(16, 4, key_heads=3), "key_heads divide heads"),
        (lambda: fnn.attend(2, alibi=True), "give causal=True"),
        (lambda: fnn.attend(2, dropout=1.0), "dropout is the probability"),
        (lambda: fnn.attend(2, window=-1), "window is"),
        (lambda: fnn.attend(2, soft_cap=0.0), "soft_cap is"),
        (lambda: fnn.transformer_block(16, 4, norm=OTHER), "norm is one of"),
        (lambda: fnn.transformer_block(16, 4, activation=OTHER), "activation is one of"),
        (lambda: fnn.repeat(fnn.relu, 2, keep=OTHER), "keep is 'inputs' or 'residuals'"),
        (lambda: fnn.places(3)({"table": jnp.zeros((3, 4))}, jnp.zeros((1, 4, 4))), "at most 3"),
    ],
)
def test_a_wrong_option_is_one_line(make, said):
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_self_attention_is_its_parts():
    layer, x = fnn.self_attention(8, 2, key_heads=1, causal=True), jnp.ones((2, 3, 4))
    params = layer.init(jax.random.key(0), x)
    q, k, v = (x @ params["heads"][n]["w"] + params["heads"][n]["b"][None, None] for n in "qkv")
    q, k, v = (a.reshape(2, 3, -1, 4) for a in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(2, 3, 8)
    expected = y @ params["out"]["w"] + params["out"]["b"][None, None]
    chex.assert_trees_all_close(layer(params, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [fnn.models.gpt, fnn.models.llama])
def test_backprop_of_a_whole_model_is_jax_grad(make):
    model = make(11, width=8, depth=2, heads=2)
    x = jnp.array([[1, 2, 3, 3], [10, 0, 3, 1]])
    params = model.init(jax.random.key(0), x)
    dy = jax.random.normal(jax.random.key(1), (2, 4, 11))
    _, pullback = jax.vjp(fnn.without_rules(lambda params: model(params, x)), params)
    found, dx, _ = fnn.backprop(model, params, x, dy)
    assert dx is None
    chex.assert_trees_all_close(found, pullback(dy)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_alibi_takes_away_the_distance_times_a_slope(dtype):
    places = 600
    qkv = [jax.random.normal(jax.random.key(n), (1, places, 8)).astype(dtype) for n in range(3)]
    found = fnn.attend(2, causal=True, alibi=True)({}, tuple(qkv))
    t = jnp.arange(float(places))
    slopes = jnp.array([2.0**-4, 2.0**-8])[None, :, None, None]
    bias = -slopes * (t[:, None] - t[None])[None, None]
    apart = [a.astype(jnp.float32).reshape(1, places, 2, 4) for a in qkv]
    expected = jax.nn.dot_product_attention(*apart, bias=bias, is_causal=True)
    near = 1e-5 if dtype == jnp.float32 else 2e-2
    expected = expected.reshape(1, places, 8)
    chex.assert_trees_all_close(found.astype(jnp.float32), expected, rtol=near, atol=near)
