"""What a model writes: as the loop without a cache would, whatever its companions are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

V = 11
MODELS = {
    "gpt": fnn.gpt(V, length=16, width=8, depth=2, heads=2, window=4),
    "llama": fnn.llama(V, width=8, depth=2, heads=4, key_heads=2, hidden=12, tied=True),
    "char_rnn": fnn.char_rnn(V, width=5, hidden=[4, 6], cell="gru"),
}
PROMPT = jnp.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [6, 5, 3, 0, 0]])
LENGTHS = jnp.array([5, 2, 3])
KEY = jax.random.key(7)


def drawn(model):
    """Params eight times as large, so that what is written is not one token for ever."""
    params = model.init(jax.random.key(0), PROMPT)
    return jax.tree.map(lambda a: a * 8 if a.ndim > 1 else a, params)


PARAMS = {name: drawn(model) for name, model in MODELS.items()}


def greedily(model, params, row, steps):
    """The likeliest token after all that came before, which is read anew for each."""
    whole = np.zeros((1, len(row) + steps), np.int32)  # what comes after decides nothing
    whole[0, : len(row)] = row
    logits_of = jax.jit(model)
    for i in range(len(row), whole.shape[1]):
        whole[0, i] = jnp.argmax(logits_of(params, whole[:, :-1])[0, i - 1])
    return whole[0, len(row) :].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_it_writes_what_the_loop_without_a_cache_writes(name):
    model, params = MODELS[name], PARAMS[name]
    found = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=7, temperature=0)
    assert (found.shape, found.dtype) == ((3, 7), jnp.int32)
    for row, n, written in zip(PROMPT.tolist(), LENGTHS.tolist(), found.tolist(), strict=True):
        assert written == greedily(model, params, row[:n], 7)
    assert len(set(found.ravel().tolist())) > 2  # or there was nothing to test
    one = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=7, key=KEY, top_k=1)
    assert jnp.array_equal(one, found)


@pytest.mark.parametrize("name", MODELS)
def test_the_stream_has_the_same_tokens(name):
    options = {"lengths": LENGTHS, "steps": 6, "key": KEY, "temperature": 1.3, "top_p": 0.9}
    whole = fnn.generate(MODELS[name], PARAMS[name], PROMPT, **options)
    stream = fnn.generate_stream(MODELS[name], PARAMS[name], PROMPT, **options)
    tokens = list(stream)
    assert all(isinstance(t, np.ndarray) and t.shape == (3,) for t in tokens)
    np.testing.assert_array_equal(np.stack(tokens, 1), whole)


def test_a_row_draws_alone():
    """Not by its companions, the padding, or how many tokens are asked for; by its number."""
    model, params = MODELS["gpt"], PARAMS["gpt"]
    whole = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=7, key=KEY)
    again = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=7, key=KEY)
    assert jnp.array_equal(whole, again)
    alone = fnn.generate(model, params, PROMPT[:1], steps=5, key=KEY)
    assert jnp.array_equal(alone, whole[:1, :5])
    other = PROMPT.at[0].set(0).at[1, 2:].set(-1)
    other = fnn.generate(model, params, other, lengths=LENGTHS, steps=7, key=KEY)
    assert jnp.array_equal(other[1:], whole[1:])
    same = fnn.generate(model, params, jnp.tile(PROMPT[:1], (3, 1)), steps=7, key=KEY)
    assert jnp.array_equal(same[0], whole[0])
    assert not jnp.array_equal(same[0], same[1])
    unlike = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=7, key=jax.random.key(8))
    assert not jnp.array_equal(unlike, whole)


def test_each_step_draws_anew():
    model = fnn.chain(fnn.embedding(V, 3), fnn.rnn(3), fnn.dense(V))
    params = jax.tree.map(jnp.zeros_like, drawn(model))  # every token is as likely as the others
    found = np.asarray(fnn.generate(model, params, PROMPT, steps=110, key=KEY))
    assert np.bincount(found.ravel(), minlength=V).max() < 60  # of 30
    assert all(len(set(row)) > 8 for row in found.tolist())


def test_a_row_that_has_stopped_repeats_where():
    model, params = MODELS["llama"], PARAMS["llama"]
    options = {"lengths": LENGTHS, "steps": 8, "key": KEY}
    free = np.asarray(fnn.generate(model, params, PROMPT, **options))
    for stop in (int(free[0, 2]), [int(free[0, 2]), int(free[1, 4])], []):
        stops = np.isin(free, stop)
        wanted = free.copy()
        for row, where in zip(wanted, stops, strict=True):
            if where.any():
                row[where.argmax() :] = row[where.argmax()]
        found = fnn.generate(model, params, PROMPT, stop=stop, **options)
        np.testing.assert_array_equal(found, wanted)
    everywhere = free[:, 0].tolist()  # every row ends at once, and so does the stream
    found = fnn.generate(model, params, PROMPT, stop=everywhere, **options)
    np.testing.assert_array_equal(found, free[:, :1].repeat(8, 1))
    stream = fnn.generate_stream(model, params, PROMPT, stop=everywhere, **options)
    assert [t.tolist() for t in stream] == [everywhere]


def test_both_programs_are_compiled_once():
    traces = []

    def counted(params, x):
        traces.append(x.shape)
        return x

    model = fnn.chain(counted, fnn.embedding(V, 8), fnn.gru(6), fnn.dense(V))
    params = drawn(model)
    traces.clear()
    fnn.generate(model, params, PROMPT, steps=6, key=KEY, temperature=0.5, top_p=0.9, stop=3)
    assert set(traces) == {(3, 5), (3, 1)}
    traces.clear()
    other = jax.tree.map(lambda a: a + 1, params)
    options = {"key": jax.random.key(1), "temperature": 2, "top_p": 0.5, "stop": 4}
    fnn.generate(model, other, PROMPT + 1, lengths=LENGTHS, steps=6, **options)
    list(fnn.generate_stream(model, params, PROMPT, steps=6, **options))
    assert traces == []


def test_it_runs_inside_a_program():
    model, params = MODELS["gpt"], PARAMS["gpt"]

    @jax.jit
    def written(params, prompt, lengths, key):
        return fnn.generate(model, params, prompt, lengths=lengths, steps=4, key=key)

    outside = fnn.generate(model, params, PROMPT, lengths=LENGTHS, steps=4, key=KEY)
    assert jnp.array_equal(written(params, PROMPT, LENGTHS, KEY), outside)


def test_all_places_can_be_filled():
    model, params = MODELS["gpt"], PARAMS["gpt"]  # of 16 places; the last token is not read
    found = fnn.generate(model, params, PROMPT[:1], steps=12, temperature=0)
    assert found[0].tolist() == greedily(model, params, PROMPT[0].tolist(), 12)
    with pytest.raises(ValueError, match="places has 16 places, and 17 are asked for"):
        fnn.generate(model, params, PROMPT[:1], steps=13, temperature=0)
    one = fnn.generate(model, params, PROMPT[:1], steps=1, temperature=0)
    assert one.tolist() == found[:, :1].tolist()


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([[1.0]], {}, r"the prompt holds integers, found float32\[1, 1\]"),
        ([1, 2], {}, r"the prompt is \(B, T\), with a token at least, found int32\[2\]"),
        (np.zeros((2, 0), int), {}, r"the prompt is \(B, T\), with a token at least, found"),
        ([[1, 11]], {}, "tokens are from 0 to 10, found 11 in the prompt, row 0, place 1"),
        ([[1, -1]], {}, "tokens are from 0 to 10, found -1 in the prompt, row 0, place 1"),
        ([[1, 2]], {"lengths": [3]}, "lengths are from 1 to 2, .*; found 3 in row 0"),
        ([[1, 2]], {"lengths": [0]}, "lengths are from 1 to 2, .*; found 0 in row 0"),
        ([[1, 2]], {"lengths": 2}, r"lengths are integers \(1,\), .* found int32\[\]"),
        ([[1, 2]], {"lengths": [1.0]}, r"lengths are integers \(1,\), .* found float32\[1\]"),
        ([[1, 2]], {"steps": 0}, "steps is a positive integer, found 0"),
        ([[1, 2]], {"key": None}, r"give key=jax.random.key\(0\), .*, or temperature=0"),
        ([[1, 2]], {"key": 3}, r"key is jax.random.key\(seed\) or None, found 3"),
        ([[1, 2]], {"key": jax.random.split(KEY)}, r"key is .* or None, found key<fry>\[2\]"),
        ([[1, 2]], {"stop": -1}, "stop is a token, several, or None, found -1"),
        ([[1, 2]], {"stop": "a"}, "stop is a token, several, or None, found 'a'"),
        (
            [[1, 2]],
            {"stop": [3, 11]},
            "tokens are from 0 to 10, and none .* is 11 of stop=.3, 11",
        ),
        (
            "import",
            {},
            r"the prompt is integers .*, the number of each token, found 'import'",
        ),
        (["a", "b"], {}, r"the prompt is integers \(B, T\), .* found \['a', 'b'\]"),
        ([[1, 2], [3]], {}, r"the prompt is .* rows of one length, padded on the right, found"),
        (None, {}, r"the prompt is integers \(B, T\), .*, found None"),
        ([[1, 2]], {"lengths": "2"}, r"lengths are integers \(1,\), .* found '2'"),
        ([[1, 2]], {"top_k": 0}, "top_k is a positive integer or None, found 0"),
    ],
)
@pytest.mark.parametrize("write", [fnn.generate, fnn.generate_stream])
def test_what_is_wrong_with_a_call(write, prompt, options, message):
    with pytest.raises((TypeError, ValueError), match=f"generate: {message}"):
        write(MODELS["gpt"], PARAMS["gpt"], prompt, **{"steps": 3, "key": KEY, **options})


def test_models_that_write_nothing():
    classifier = fnn.chain(fnn.embedding(V, 8), fnn.gru(4), lambda params, x: x[:, -1])
    with pytest.raises(TypeError, match=r"logits \(B, T, vocabulary\) .*; found float32\[3, 4\]"):
        fnn.generate(classifier, drawn(classifier), PROMPT, steps=2, key=KEY)
    forgetful = fnn.chain(fnn.embedding(V, 8), fnn.dense(V))
    with pytest.raises(TypeError, match="no layer of chain keeps anything"):
        fnn.generate(forgetful, drawn(forgetful), PROMPT, steps=2, key=KEY)
