"""A sequence in pieces, from a cache: the numbers of the sequence as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.caching import most_places

TOKENS = jax.random.randint(jax.random.key(1), (3, 9), 0, 11)
LENGTHS = jnp.array([4, 1, 3])


def gpt(**options):
    return fnn.gpt(11, length=12, width=8, depth=2, heads=4, **options)


def llama(**options):
    return fnn.llama(11, width=8, depth=2, heads=4, hidden=12, **options)


def twice():
    """One block that is called twice, with a cache for each call."""
    block = fnn.transformer_block(8, 2, causal=True)

    def flow(run, x):
        return run("tokens", run("block", run("block", run("tokens", x))))

    return fnn.composite(flow, tokens=fnn.tokens(11, 8), block=block)


def mixed():
    """Attention and a recurrent layer in one stream, in branches, without a loop."""
    body = fnn.parallel(
        fnn.gru(8), fnn.chain(fnn.rms_norm(), fnn.self_attention(8, 2, causal=True)), combine="sum"
    )
    return fnn.chain(fnn.embedding(11, 8), fnn.residual(body), fnn.dense(11))


MODELS = {
    "gpt": gpt(),
    "gpt that keeps inputs": gpt(keep="inputs", dropout=0.5),
    "gpt with alibi": gpt(alibi=True),
    "gpt with a window": gpt(window=2, soft_cap=0.5, scale=1.5),
    "llama": llama(),
    "llama with grouped heads": llama(key_heads=2),
    "llama, tied": llama(key_heads=1, tied=True, window=(3, 5)),
    "remat": fnn.remat(llama()),
    "remat inside": fnn.remat(llama(), "blocks/*/attention"),
    "a block twice": twice(),
    "a mixture": mixed(),
    "a stack of stacks": fnn.chain(
        fnn.embedding(11, 8), fnn.repeat(fnn.repeat(fnn.residual(fnn.gru(8)), 2), 2), fnn.dense(11)
    ),
    "char_rnn": fnn.char_rnn(11, width=5, hidden=[4, 6], dropout=0.5),
    "char_rnn of gru": fnn.char_rnn(11, width=5, hidden=[4], cell="gru"),
    "plain rnn": fnn.chain(fnn.embedding(11, 8), fnn.rnn(4), fnn.dense(11)),
}


def drawn(model, seed=0):
    """Params eight times as large, so that every layer matters."""
    params = model.init(jax.random.key(seed), TOKENS)
    return jax.tree.map(lambda a: a * 8 if a.ndim > 1 else a, params)


def in_pieces(model, params, cache, tokens, lengths, steps):
    """The logits of each row: a prompt of its own length, padded with 10, and `steps` after it."""
    longest = int(lengths.max())
    prompt = jnp.where(jnp.arange(longest)[None] < lengths[:, None], tokens[:, :longest], 10)
    y, cache = fnn.apply_cached(model, params, cache, prompt, lengths)
    rows = [list(y[b, :n]) for b, n in enumerate(lengths.tolist())]
    for i in range(steps):
        token = jnp.take_along_axis(tokens, (lengths + i)[:, None], 1)  # (B, 1)
        y, cache = fnn.apply_cached(model, params, cache, token)
        for b, row in enumerate(rows):
            row.append(y[b, 0])
    return [jnp.stack(row) for row in rows], cache


# Mistakes that would be seen: padding that is looked at, positions from the longest row, a window
# or a slope counted from the end of the cache, heads out of their groups, caches of the layers of a
# stack mixed up, or those of two calls.
@pytest.mark.parametrize("name", MODELS)
def test_pieces_give_the_numbers_of_the_whole(name):
    model = MODELS[name]
    params = drawn(model)
    whole = model(params, TOKENS)
    cache = fnn.start_cache(model, params, 3, 9)
    rows, cache = in_pieces(model, params, cache, TOKENS, LENGTHS, 5)
    assert cache.lengths.tolist() == [9, 6, 8]
    for b, row in enumerate(rows):
        np.testing.assert_allclose(row, whole[b, : len(row)], rtol=1e-4, atol=2e-5)
    # What came before matters, or there was nothing to test.
    first = TOKENS.at[:, 0].set((TOKENS[:, 0] + 1) % 11)
    assert float(jnp.max(jnp.abs(model(params, first) - whole)[:, 1:])) > 1e-3


def test_padding_decides_nothing():
    model = MODELS["gpt with alibi"]
    params = drawn(model)
    found = []
    for padding in (0, -1):  # which is no token: its row of the table is NaN
        prompt = jnp.where(jnp.arange(4)[None] < LENGTHS[:, None], TOKENS[:, :4], padding)
        cache = fnn.start_cache(model, params, 3, 12)
        _, cache = fnn.apply_cached(model, params, cache, prompt, LENGTHS)
        y, cache = fnn.apply_cached(model, params, cache, TOKENS[:, 4:7], jnp.array([3, 1, 2]))
        y, cache = fnn.apply_cached(model, params, cache, TOKENS[:, 7:8])
        found.append(y)
    assert jnp.array_equal(*found)


# Padding of a full cache lies beyond its end: it must be dropped, and not be written over the last.
def test_padding_beyond_the_end_is_dropped():
    model = MODELS["gpt"]
    params = drawn(model)
    whole = model(params, TOKENS)
    fill = jax.jit(lambda *args: fnn.apply_cached(model, params, *args))  # lengths are not known
    _, cache = fill(fnn.start_cache(model, params, 3, 9), TOKENS[:, :6], jnp.array([6, 6, 6]))
    y, cache = fill(cache, TOKENS[:, 6:].repeat(2, 1)[:, :5], jnp.array([1, 1, 1]))
    np.testing.assert_allclose(y[:, 0], whole[:, 6], rtol=1e-4, atol=2e-5)
    y, cache = fill(cache, TOKENS[:, 7:], jnp.array([2, 2, 2]))
    np.testing.assert_allclose(y, whole[:, 7:], rtol=1e-4, atol=2e-5)
    _, cache = fill(fnn.start_cache(model, params, 3, 9), TOKENS[:, :8], jnp.array([8, 8, 8]))
    y, cache = fill(cache, TOKENS[:, 8:].repeat(3, 1), jnp.array([1, 1, 1]))  # two are beyond
    np.testing.assert_allclose(y[:, 0], whole[:, 8], rtol=1e-4, atol=2e-5)


def test_a_model_that_computes_in_half_the_width_keeps_it_in_its_cache():
    model = fnn.compute_in(llama(), "bfloat16")
    params = drawn(model)
    cache = fnn.start_cache(model, params, 3, 9)
    assert {leaf.dtype for leaf in jax.tree.leaves(cache.layers)} == {jnp.dtype("bfloat16")}
    rows, _ = in_pieces(model, params, cache, TOKENS, LENGTHS, 5)
    whole = model(params, TOKENS)
    assert rows[0].dtype == whole.dtype == jnp.float32
    for b, row in enumerate(rows):
        np.testing.assert_allclose(row, whole[b, : len(row)], rtol=0.05, atol=0.05)
    inside = fnn.chain(fnn.embedding(11, 8), fnn.compute_in(fnn.gru(8), "bfloat16"))
    cache = fnn.start_cache(inside, drawn(inside), 3, 9)
    assert cache.layers["gru_0"].dtype == jnp.bfloat16


# Counted from the end of the cache, the slopes of 4,000 keys have no digits left for neighbours.
def test_room_in_a_cache_costs_no_digits():
    model = fnn.compute_in(llama(alibi=True), "bfloat16")
    params = drawn(model)
    found = []
    for length in (9, 4000):
        cache = fnn.start_cache(model, params, 3, length)
        found.append(fnn.apply_cached(model, params, cache, TOKENS)[0])
    np.testing.assert_allclose(*found, atol=0.02)


def test_a_stack_has_its_caches_on_axis_0():
    cache = fnn.start_cache(MODELS["llama with grouped heads"], drawn(llama(key_heads=2)), 3, 9)
    assert jax.tree.map(jnp.shape, cache.layers) == {
        "blocks": {"attention": {"body": {"attend": {"k": (2, 3, 9, 2, 2), "v": (2, 3, 9, 2, 2)}}}}
    }
    params = drawn(MODELS["a block twice"])
    assert list(fnn.start_cache(MODELS["a block twice"], params, 3, 9).layers) == [
        *("block", "block:1")
    ]


def test_gradients_go_through_pieces():
    model = MODELS["llama with grouped heads"]
    params = drawn(model)

    def in_two(params):
        cache = fnn.start_cache(model, params, 3, 9)
        first, cache = fnn.apply_cached(model, params, cache, TOKENS[:, :5])
        second, _ = fnn.apply_cached(model, params, cache, TOKENS[:, 5:])
        return jnp.sum(jnp.sin(jnp.concatenate([first, second], 1)))

    found = jax.grad(in_two)(params)
    wanted = jax.grad(lambda params: jnp.sum(jnp.sin(model(params, TOKENS))))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), found, wanted)


@pytest.mark.parametrize(
    ("model", "length", "message"),
    [
        (gpt(), 13, "places has 12 places, and 13 are asked for"),
        (fnn.chain(fnn.embedding(11, 8), inner=gpt()), 13, "inner/places has 12 places"),
        (gpt(causal=False), 5, "attend: a cache holds what came before, .* causal=True"),
        (
            fnn.chain(fnn.embedding(11, 8), fnn.bidirectional(fnn.gru(4)), fnn.dense(11)),
            *(5, "gru: reverse=True begins with what comes last"),
        ),
    ],
)
def test_what_no_cache_can_hold(model, length, message):
    params = {"inner": drawn(gpt())} if "inner" in model.parts else drawn(model)
    with pytest.raises(ValueError, match=message):
        fnn.start_cache(model, params, 3, length)


def test_a_model_that_keeps_nothing():
    model = fnn.chain(fnn.embedding(11, 8), fnn.dense(11))
    with pytest.raises(TypeError, match="no layer of chain keeps anything of the places before"):
        fnn.start_cache(model, drawn(model), 3, 5)
    made = fnn.as_layer(lambda params, x: x)
    hidden = fnn.Layer("mine", made.init, made.apply, parts={"a": fnn.gru(3)})
    with pytest.raises(TypeError, match="the layers inside mine cannot be reached one by one"):
        fnn.start_cache(hidden, {}, 3, 5)


def test_what_is_wrong_with_a_call():
    model, params = MODELS["gpt"], drawn(MODELS["gpt"])
    with pytest.raises(ValueError, match="start_cache: length is a positive integer, found 0"):
        fnn.start_cache(model, params, 3, 0)
    cache = fnn.start_cache(model, params, 3, 8)
    with pytest.raises(ValueError, match=r"cache is of 3 rows, found x int32\[2, 9\]"):
        fnn.apply_cached(model, params, cache, TOKENS[:2])
    with pytest.raises(ValueError, match=r"room for 8 places, 0 are taken and 9 are to come: .*=9"):
        fnn.apply_cached(model, params, cache, TOKENS)
    _, cache = fnn.apply_cached(model, params, cache, TOKENS[:, :6], LENGTHS)
    with pytest.raises(ValueError, match="room for 8 places, 4 are taken and 5 are to come"):
        fnn.apply_cached(model, params, cache, TOKENS[:, :5])
    with pytest.raises(ValueError, match=r"lengths are integers \(3,\), found int32\[\]"):
        fnn.apply_cached(model, params, cache, TOKENS[:, :2], 2)
    for lengths in (jnp.array([1, 3, 2]), jnp.array([1, -1, 2])):
        with pytest.raises(ValueError, match=r"lengths are from 0 to 2, as x has, found \[1, "):
            fnn.apply_cached(model, params, cache, TOKENS[:, :2], lengths)
    other = fnn.start_cache(MODELS["plain rnn"], drawn(MODELS["plain rnn"]), 3, 8)
    with pytest.raises(ValueError, match="attend: no cache of this layer"):
        fnn.apply_cached(model, params, other, TOKENS[:, :2])


def test_the_most_places_of_a_model():
    assert most_places(gpt(), drawn(gpt())) == 12
    assert most_places(llama(), drawn(llama())) is None
    stack = fnn.repeat(fnn.places(7), 3)
    assert most_places(stack, stack.init(jax.random.key(0), jnp.ones((1, 4, 2)))) == 7
