"""Attention in blocks against jax.nn, its memory, and what is at the edges of each argument."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.gradient.cost.flops import compiled_expense
from funcnn.rules import attention
from funcnn.rules.attention.sight import Grid, Sight

B, T, S, H, W = 2, 9, 7, 4, 8


def drawn(keys=H, queries=T, places=S, dtype=jnp.float32, width=W):
    random = np.random.default_rng(0)
    of_queries, of_keys = (B, queries, H, width), (B, places, keys, width)
    shapes = [of_queries, of_keys, of_keys, of_queries]
    return [jnp.asarray(random.standard_normal(shape), dtype) for shape in shapes]


def both(f, *args, do):
    y, pullback = jax.vjp(f, *args)
    return [y, *pullback(do)]


SETTINGS = {
    "plain": ({}, {}, H, S),
    "causal": ({"causal": True}, {"is_causal": True}, H, T),
    "grouped": ({}, {}, 2, S),
    "one key head": ({"causal": True}, {"is_causal": True}, 1, T),
    "window": ({"window": (2, 1)}, {"local_window_size": (2, 1)}, H, S),
    "scale": ({"scale": 0.3}, {"scale": 0.3}, H, S),
    "causal window": (
        {"causal": True, "window": 3},
        {"is_causal": True, "local_window_size": (3, 0)},
        2,
        T,
    ),
}


@pytest.mark.parametrize("block", [None, 1, (4, 3), (2, 100)])
@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_that_of_jax_nn(name, block):
    ours, theirs, keys, places = SETTINGS[name]
    q, k, v, do = drawn(keys, T, places)
    found = both(functools.partial(attention, block=block, **ours), q, k, v, do=do)
    wanted = both(functools.partial(jax.nn.dot_product_attention, **theirs), q, k, v, do=do)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6)


def test_bias_mask_and_lengths_are_those_of_jax_nn():
    q, k, v, do = drawn(keys=2)
    random = np.random.default_rng(1)
    bias = jnp.asarray(random.standard_normal((1, H, T, S)), jnp.float32)
    mask = jnp.asarray(random.random((B, 1, T, S)) > 0.3).at[..., 0].set(True)
    lengths = jnp.array([3, 7])

    def ours(q, k, v, bias):
        return attention(q, k, v, bias, mask, lengths, block=(4, 3))

    def theirs(q, k, v, bias):
        return jax.nn.dot_product_attention(
            q, k, v, bias=bias, mask=mask, key_value_seq_lengths=lengths
        )

    for a, b in zip(
        both(ours, q, k, v, bias, do=do), both(theirs, q, k, v, bias, do=do), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6)


def test_a_query_that_sees_nothing_is_zero_and_moves_nothing():
    q, k, v, do = drawn()
    mask = jnp.ones((B, 1, 1, S), bool).at[1].set(False)
    y, dq, dk, dv = both(lambda q, k, v: attention(q, k, v, None, mask, block=3), q, k, v, do=do)
    for a in (y, dq, dk, dv):
        assert bool(jnp.all(jnp.isfinite(a)))
        np.testing.assert_array_equal(a[1], 0)
        assert bool(jnp.any(a[0] != 0))


@pytest.mark.parametrize("transform", ["vmap", "scan", "checkpoint", "jit"])
def test_transformations_leave_the_gradient(transform):
    q, k, v, do = drawn()

    def loss(q, k, v):
        return jnp.sum(attention(q, k, v, causal=True, block=3) * do)

    gradient = jax.grad(loss, (0, 1, 2))
    wanted = gradient(q, k, v)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), (q, k, v))
    if transform == "vmap":
        found = jax.tree.map(lambda a: a[1], jax.vmap(gradient)(*twice))
    elif transform == "scan":
        _, found = jax.lax.scan(lambda c, args: (c, gradient(*args)), None, twice)
        found = jax.tree.map(lambda a: a[1], found)
    elif transform == "checkpoint":
        found = jax.grad(jax.checkpoint(loss), (0, 1, 2))(q, k, v)
    else:
        found = jax.jit(gradient)(q, k, v)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_hessian_product_is_that_of_the_reference():
    with jax.enable_x64(True):
        q, k, v, do = (a.astype(jnp.float64) for a in drawn())

        def product(f):
            def loss(q):
                return jnp.sum(f(q, k, v, causal=True, block=3) ** 2 * do)

            return jax.grad(lambda q: jnp.sum(jax.grad(loss)(q) * do))(q)

        # The first query sees one key: its row is zero, and rounding is left of it in blocks.
        wanted = product(attention.reference)
        np.testing.assert_allclose(product(attention), wanted, rtol=1e-9, atol=1e-14)


def test_dropout_does_not_know_the_blocks():
    q, k, v, do = drawn()
    key = jax.random.key(3)

    def ours(block, q, k, v):
        return attention(q, k, v, None, None, None, key, dropout=0.4, causal=True, block=block)

    wanted = both(functools.partial(ours, 100), q, k, v, do=do)
    for a, b in zip(both(functools.partial(ours, (2, 3)), q, k, v, do=do), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert bool(jnp.any(wanted[0] != attention(q, k, v, causal=True)))
    # Without a key there is none, and the mean over keys is what there is without.
    np.testing.assert_array_equal(
        attention(q, k, v, dropout=0.4, causal=True), attention(q, k, v, causal=True)
    )
    keys = jax.random.split(key, 4000)
    mean = jax.vmap(lambda key: attention(q, k, v, None, None, None, key, dropout=0.4))(keys).mean(
        0
    )
    np.testing.assert_allclose(mean, attention(q, k, v), atol=0.15)


@pytest.mark.parametrize("name", ["every option", "dropout"])
def test_options_take_part_in_the_gradient_as_in_the_reference(name):
    (case,) = [case for case in attention.cases() if case.name == name]

    def wide(a):
        return a if a is None or a.dtype != jnp.float32 else a.astype(jnp.float64)

    with jax.enable_x64(True):
        args = [wide(a) for a in case.args]
        numbers = [n for n, a in enumerate(args) if a is not None and a.dtype == jnp.float64]
        q, _, v = case.args[:3]
        do = jnp.cos(jnp.arange(q.size // q.shape[-1] * v.shape[-1]))

        def loss(f, *chosen):
            given = [*args, *[None] * (7 - len(args))]
            for n, a in zip(numbers, chosen, strict=True):
                given[n] = a
            return jnp.sum(f(*given, **case.static).ravel() * do)

        chosen = [args[n] for n in numbers]
        ours, wanted = (
            jax.grad(functools.partial(loss, f), tuple(range(len(chosen))))(*chosen)
            for f in (attention, attention.reference)
        )
        for a, b in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def temporary_bytes(f, places):
    shape = jax.ShapeDtypeStruct((1, places, 2, 16), jnp.float32)
    step = jax.jit(jax.grad(lambda q, k, v: jnp.sum(f(q, k, v) ** 2), (0, 1, 2)))
    compiled = step.lower(shape, shape, shape).compile()
    return compiled_expense(compiled).temporary_bytes


def test_memory_grows_with_the_places_and_not_with_their_square():
    ours = [temporary_bytes(functools.partial(attention, causal=True), n) for n in (1024, 4096)]
    assert ours[1] < 4.5 * ours[0]
    theirs = functools.partial(jax.nn.dot_product_attention, is_causal=True)
    assert temporary_bytes(theirs, 4096) > 10 * ours[1]


def test_pairs_that_see_nothing_are_left_out():
    grid = Grid(64, 64, 8, 8)
    assert len(grid.pairs(Sight(None, None))) == 64
    assert len(grid.pairs(Sight(None, 0))) == 36
    assert len(grid.pairs(Sight(8, 0))) == 8 + 7


def distances(dtype):
    """Of each gradient of the rule and of autodiff, the largest distance from float64."""
    places = 256
    args = drawn(2, places, places, width=64)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in (a.astype(dtype) for a in args)]
        exact = functools.partial(attention.reference, causal=True)
        truth = both(exact, *wide[:3], do=wide[3])
    *qkv, do = (a.astype(dtype) for a in args)
    hand = both(functools.partial(attention, causal=True, block=64), *qkv, do=do)
    theirs = functools.partial(jax.nn.dot_product_attention, is_causal=True)
    with jax.numpy_dtype_promotion("standard"):
        automatic = both(theirs, *qkv, do=do)

    def root_mean_square(found):
        return [
            float(np.sqrt(np.mean((np.asarray(a, np.float64) - np.asarray(t)) ** 2)))
            for a, t in zip(found, truth, strict=True)
        ]

    return root_mean_square(hand), root_mean_square(automatic)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_no_less_accurate_than_autodiff(dtype):
    for ours, theirs in zip(*distances(dtype), strict=True):
        assert ours <= 1.1 * theirs


def test_small_weights_of_float16_keep_their_digits():
    """Of 1,024 keys each has a thousandth, and dz as much of dy: below float16's normal numbers."""
    q, k, v, do = (0.3 * a for a in drawn(2, 1024, 1024, jnp.float16, 8))
    do = (do * 1e-2).astype(jnp.float16)
    ours, theirs = (both(f, q, k, v, do=do) for f in (attention, attention.reference))
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in (q, k, v, do)]
        truth = [np.asarray(a) for a in both(attention.reference, *wide[:3], do=wide[3])]
    for a, b, t in zip(ours, theirs, truth, strict=True):
        off, allowed = (np.linalg.norm(np.asarray(x, np.float64) - t) for x in (a, b))
        assert off <= 1.1 * allowed


@pytest.mark.parametrize("empty", ["queries", "places"])
def test_the_gradient_of_a_bias_over_no_pairs_has_its_shape(empty):
    q, k, v, _ = drawn(**{empty: 0})
    bias = jnp.zeros((1, H, 0, 1) if empty == "queries" else (1, H, 1, 0))
    dbias = jax.grad(lambda bias: jnp.sum(attention(q, k, v, bias)))(bias)
    assert dbias.shape == bias.shape


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_mean_of_the_largest_values_is_finite(dtype):
    """The weights of a row sum to 1, but what they are made of, to as much as there are keys."""
    q, k, v, _ = drawn(dtype=dtype)
    most = jnp.full_like(v, 0.75 * float(jnp.finfo(dtype).max))
    for block in (None, 3):
        y = attention(q, k, most, causal=True, block=block)
        y, wanted = (np.asarray(a, np.float64) for a in (y, most))
        np.testing.assert_allclose(y, np.broadcast_to(wanted[:, :1], y.shape), rtol=1e-2)


def test_float16_and_one_token():
    q, k, v, do = drawn(queries=1, places=1, dtype=jnp.float16)
    y, dq, dk, dv = both(attention, q, k, v, do=do)
    np.testing.assert_array_equal(y, v)
    np.testing.assert_array_equal(dv, do)
    assert float(jnp.max(jnp.abs(dq))) < 1e-2
    assert float(jnp.max(jnp.abs(dk))) < 1e-2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q": jnp.zeros((2, 3, 4))}, "four axes"),
        ({"k": jnp.zeros((B, S, 3, W))}, "needs k"),
        ({"k": jnp.zeros((B, S, 3, W)), "v": jnp.zeros((B, S, 3, W))}, "does not divide"),
        ({"k": jnp.zeros((B, S, H, W), jnp.bfloat16)}, "one dtype"),
        ({"mask": jnp.zeros((B, S))}, "True where"),
        ({"mask": jnp.zeros((B, 1, 1, S + 1), bool)}, "found bool[2, 1, 1, 8]"),
        ({"mask": jnp.zeros((B, S), bool)}, "of samples and keys it is mask[:, None, None]"),
        ({"bias": jnp.zeros((T, S))}, "of queries and keys bias[None, None]"),
        ({"bias": jnp.zeros((B, H, T, S), bool)}, "is seen as mask"),
        ({"bias": jnp.zeros((B, H, T, S + 1))}, "bias has the axes"),
        ({"lengths": jnp.zeros(B)}, "lengths are integers"),
        ({"lengths": jnp.zeros(B + 1, int)}, "lengths are integers"),
        ({"block": 0}, "block is"),
        ({"block": (2, -1)}, "block is"),
        ({"window": -1}, "window is"),
        ({"soft_cap": 0.0}, "soft_cap is"),
        ({"scale": float("nan")}, "scale is"),
        ({"dropout": 1.0}, "dropout is"),
    ],
)
def test_a_wrong_call_is_one_line(change, said):
    q, k, v, _ = drawn()
    with pytest.raises((TypeError, ValueError), match="attention: ") as error:
        attention(**{"q": q, "k": k, "v": v, **change})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", [{"window": (2,)}, {"window": (2, 0, 1)}, {"block": (1, 2, 3)}])
def test_a_pair_of_another_length_is_one_line(option):
    q, k, v, _ = drawn()
    with pytest.raises(ValueError, match=rf"attention: {next(iter(option))} is .*[;,] found \("):
        attention(q, k, v, **option)


def wrong_backwards():
    """Backward passes with one mistake each."""
    right = attention.backward

    def without_delta(res, do, **static):
        given, o, of_rows = res
        return right((given, jnp.zeros_like(o), of_rows), do, **static)

    def of_one_group(res, do, **static):
        dq, dk, dv, *others = right(res, do, **static)
        return dq, dk / 2, dv, *others

    def unscaled(res, do, **static):
        dq, *others = right(res, do, **static)
        return (dq * res[0].q.shape[-1] ** 0.5, *others)

    return {"without delta": without_delta, "half of dk": of_one_group, "unscaled": unscaled}


@pytest.mark.parametrize("name", wrong_backwards())
def test_a_planted_mistake_is_found(name):
    wrong = attention.replace(backward=wrong_backwards()[name])
    q, k, v, _ = drawn(keys=2)
    assert not fnn.check(wrong, q, k, v, level="fast").ok


def test_heads_of_no_width_take_the_mean():
    _, _, v, _ = drawn()
    nothing = jnp.zeros((B, T, H, 0)), jnp.zeros((B, S, H, 0))
    mean = jnp.broadcast_to(v.mean(1, keepdims=True), (B, T, H, W))
    np.testing.assert_allclose(attention(*nothing, v), mean, rtol=1e-5, atol=1e-6)
