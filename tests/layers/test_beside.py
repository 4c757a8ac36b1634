"""Lengths and masks beside x: padding has no part in anything, and every gradient says so."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

B, T, D, H = 3, 6, 8, 2
LENGTHS = jnp.array([6, 2, 4])
THERE = jnp.arange(T)[None] < LENGTHS[:, None]  # (B, T)
SETTINGS: dict[str, dict[str, Any]] = {
    "norms before": {},
    "norms behind": {"post_norm": True, "dropout": 0.2},
    "gated": {"post_norm": True, "norm": "rms", "activation": "swiglu", "bias": False},
    "every option": {"key_heads": 1, "rotary": 100.0, "window": 2, "soft_cap": 4.0},
    "causal": {"causal": True, "alibi": True},
}
WRAPS = {
    "alone": lambda block: block,
    "chain": lambda block: fnn.chain(fnn.pass_beside(fnn.dense(D)), block, block),
    "inputs": lambda block: fnn.repeat(block, 2),
    "residuals": lambda block: fnn.repeat(block, 2, keep="residuals"),
    "remat": lambda block: fnn.remat(fnn.repeat(block, 2, keep="residuals"), "*/attention"),
}


def setting(name, wrap, beside=LENGTHS):
    model = WRAPS[wrap](fnn.transformer_block(D, H, **SETTINGS[name]))
    x = jax.random.normal(jax.random.key(1), (B, T, D))
    params = model.init(jax.random.key(0), (x, beside))
    return model, jax.tree.map(lambda a: 8 * a if a.ndim > 1 else a, params), x


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        *(("norms before", "alone"), ("norms before", "residuals"), ("norms behind", "chain")),
        *(("norms behind", "inputs"), ("norms behind", "remat"), ("gated", "residuals")),
        *(("every option", "residuals"), ("causal", "inputs")),
    ],
)
def test_the_gradient_is_that_without_rules_in_float64(name, wrap):
    model, params, x = setting(name, wrap)
    key = jax.random.key(7)
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x))

        def of(params, x):
            return model(params, (x, LENGTHS), key=key)[0]

        @jax.jit
        def three_ways(params, x, dy):
            y, pullback = jax.vjp(fnn.without_rules(of), params, x)
            found, by_rules = jax.vjp(of, params, x)
            dparams, (dx, none), deltas = fnn.backprop(model, params, (x, LENGTHS), (dy, None), key)
            assert none is None
            assert all(jax.tree.leaves(delta) for delta in deltas.values())
            return (y, *pullback(dy)), (found, *by_rules(dy)), (y, dparams, dx)

        dy = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
        expected, *others = three_ways(params, x, dy)
        for found in others:
            chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("norms before", LENGTHS),
        ("norms behind", THERE),
        ("every option", LENGTHS.astype("uint8")),
    ],
    ids=lambda a: a if isinstance(a, str) else a.dtype.name,
)
def test_padding_has_no_part_in_what_is_there(name, seen):
    model, params, x = setting(name, "residuals", seen)
    there = THERE[:, :, None]

    def loss(params, x):
        y, beside = model(params, (x, seen))
        assert beside.dtype == seen.dtype
        return jnp.sum(jnp.where(there, jnp.sin(y), 0)), y

    @jax.jit
    def found(x):
        gradients, y = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return gradients, jnp.where(there, y, 0)

    (dparams, dx), y = found(x)
    np.testing.assert_array_equal(jnp.where(there, 0, dx), 0)
    assert bool(jnp.all(jnp.where(there, dx, 1) != 0))
    chex.assert_trees_all_equal(found(jnp.where(there, x, 1e3 * x[::-1])), ((dparams, dx), y))
    # Each row alone, as long as it is, and nothing beside it.
    near = {"rtol": 1e-4, "atol": 1e-5}

    def loss_alone(params):
        rows = [model(params, x[b : b + 1, :n])[0] for b, n in enumerate(LENGTHS.tolist())]
        return sum(jnp.sum(jnp.sin(row)) for row in rows), rows

    dalone, rows = jax.jit(jax.grad(loss_alone, has_aux=True))(params)
    for b, row in enumerate(rows):
        chex.assert_trees_all_close(y[b, : len(row)], row, **near)
    chex.assert_trees_all_close(dparams, dalone, **near)


@pytest.mark.parametrize("shape", [(B, T), (B, 1, T, T), (1, H, 1, T)])
def test_a_mask_is_that_of_attention(shape):
    layer, x = fnn.self_attention(D, H), jax.random.normal(jax.random.key(1), (B, T, D))
    mask = jax.random.bernoulli(jax.random.key(2), 0.6, shape).at[..., 0].set(True)
    params = layer.init(jax.random.key(0), (x, mask))
    y, beside = layer(params, (x, mask))
    assert beside is mask
    q, k, v = (x @ params["heads"][n]["w"] + params["heads"][n]["b"][None, None] for n in "qkv")
    q, k, v = (a.reshape(B, T, H, -1) for a in (q, k, v))
    theirs = mask[:, None, None] if mask.ndim == 2 else mask
    expected = jax.nn.dot_product_attention(q, k, v, mask=jnp.broadcast_to(theirs, (B, H, T, T)))
    expected = expected.reshape(B, T, D) @ params["out"]["w"]
    chex.assert_trees_all_close(y, expected, rtol=1e-5, atol=1e-6)


def test_a_row_of_length_0_sees_nothing():
    layer, x = fnn.self_attention(D, H, bias=False), jnp.ones((1, T, D))
    params = layer.init(jax.random.key(0), x)
    y, pullback = jax.vjp(lambda x: layer(params, (x, jnp.array([0])))[0], x)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(pullback(y + 1)[0], 0)


def kept(model, x, seen):
    """The shapes and dtypes of what a stack keeps, its params left out."""
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    _, res = jax.eval_shape(lambda p, x: model.forward(p, x, None), params, (x, seen))
    return jax.tree.leaves(res)


@pytest.mark.parametrize("seen", [LENGTHS, THERE], ids=["lengths", "mask"])
@pytest.mark.parametrize(("post_norm", "units"), [(False, 10), (True, 12)])
def test_a_stack_keeps_as_many_numbers_as_without_lengths(post_norm, units, seen):
    n, block = 5, fnn.transformer_block(16, H, post_norm=post_norm)
    x = jax.ShapeDtypeStruct((B, T, 16), jnp.float32)
    of_x, of_softmax = B * T * 16, 2 * B * T * H
    of_blocks: dict[Any, int] = {"inputs": of_x, "residuals": units * of_x + of_softmax}
    for keep, of_block in of_blocks.items():
        found = kept(fnn.repeat(block, n, keep=keep), x, seen)
        of_ints = [a.shape for a in found if a.dtype != jnp.float32]
        assert of_ints == [seen.shape]  # once, and not for each block
        assert sum(math.prod(a.shape) for a in found) == n * of_block + seen.size


def test_a_plain_x_is_given_and_returned_as_before():
    model, params, x = setting("norms behind", "residuals")
    all_there = jnp.full(B, T)
    y, (full, _) = model(params, x), model(params, (x, all_there))
    np.testing.assert_allclose(y, full, rtol=1e-5, atol=1e-6)
    backprop = jax.jit(lambda x, dy: fnn.backprop(model, params, x, dy))
    dparams, dx, deltas = backprop(x, jnp.cos(y))
    of_full, (dfull, _), deltas_of_full = backprop((x, all_there), (jnp.cos(y), None))
    chex.assert_trees_all_close((dparams, dx), (of_full, dfull), rtol=1e-4, atol=1e-5)
    assert deltas.keys() == deltas_of_full.keys()


def test_numbers_of_half_the_width_leave_lengths_as_they_are():
    model, params, x = setting("norms behind", "residuals")
    narrow = fnn.compute_in(model, "bfloat16")
    y, lengths = narrow(params, (x, LENGTHS))
    assert (y.dtype, lengths.dtype) == (x.dtype, LENGTHS.dtype)
    np.testing.assert_allclose(y, model(params, (x, LENGTHS))[0], rtol=0.1, atol=0.1)
    dparams, (dx, none), _ = fnn.backprop(narrow, params, (x, LENGTHS), (y, None))
    chex.assert_trees_all_equal_shapes_and_dtypes((dparams, dx), (params, x))
    assert none is None


def statistics_of(layer, x):
    return layer.statistics({"scale": jnp.ones(D), "bias": jnp.zeros(D)}, x, jax.random.key(0))


def test_outputs_and_statistics_go_past_what_stands_beside():
    x = jax.random.normal(jax.random.key(1), (B, T, D))
    plain, passing = fnn.batch_norm(), fnn.pass_beside(fnn.batch_norm())
    chex.assert_trees_all_equal(statistics_of(passing, (x, LENGTHS)), statistics_of(plain, x))
    block = fnn.transformer_block(D, H)
    text = fnn.summary(block, block.init(jax.random.key(0), x), (x, LENGTHS))
    assert "attention/body/attend" in text


@pytest.mark.parametrize(
    ("layer", "x", "said"),
    [
        (fnn.pass_beside(fnn.relu), (jnp.ones(3), jnp.ones(3)), "relu: expected a pair"),
        (fnn.pass_beside(fnn.relu), (jnp.ones(3), None), "relu: expected a pair"),
        (fnn.residual(fnn.attend(1)), (jnp.ones((1, 2, 3)), jnp.ones(1)), "attend: x is"),
        (
            fnn.residual(lambda params, x: x[0]),
            (jnp.ones((1, 2, 3)), jnp.array([1])),
            "residual: expected a pair",
        ),
        (fnn.transformer_block(4, 2), (jnp.ones((1, 2, 4)), jnp.ones(1)), "expected a pair"),
        (fnn.attend(1), (3 * (jnp.ones((1, 2, 4)),), jnp.ones((1, 2))), "attend: x is"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_line(layer, x, said):
    with pytest.raises(TypeError, match=said) as error:
        layer({}, x)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (jnp.array([1, 2]), r"lengths are integers \(1,\)"),
        (jnp.ones((1, 3), bool), r"attend: a mask .* is \(B, S\), here \(1, 2\), .* bool\[1, 3\]"),
        (jnp.ones((2, 3, 4), bool), r"mask has the axes"),
    ],
)
def test_lengths_and_masks_of_another_shape_are_refused(seen, said):
    with pytest.raises(ValueError, match=said):
        fnn.attend(1)({}, (3 * (jnp.ones((1, 2, 4)),), seen))


def test_dy_of_lengths_is_none():
    model, params, x = setting("norms before", "alone")
    with pytest.raises(ValueError, match=r"dy has shape .* the output .*None"):
        fnn.backprop(model, params, (x, LENGTHS), x)


def test_a_function_in_a_stack_may_count_beside_x():
    def counting(params, x):
        return 2 * x[0], x[1] + 1

    y, count = fnn.repeat(counting, 3)({}, (jnp.ones(2), jnp.array(0)))
    assert (y.tolist(), int(count)) == ([8.0, 8.0], 3)
