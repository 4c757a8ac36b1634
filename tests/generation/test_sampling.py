"""Which token comes next: the shares with which tokens are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.generation.sampling import Sampling, checked_sampling, draw

SHARES = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
ROWS = 20_000
KEYS = jax.random.split(jax.random.key(0), ROWS)


def shares(sampling, of=SHARES):
    """How often each token is drawn, of so many rows with the same logits."""
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(of, jnp.float32))[None], (ROWS, len(of)))
    tokens = jax.jit(draw)(sampling, logits, KEYS)
    assert tokens.dtype == jnp.int32
    return np.bincount(tokens, minlength=len(of)) / ROWS


def among(kept, temperature=1.0):
    p = np.where(np.isin(np.arange(5), kept), SHARES ** (1 / temperature), 0)
    return p / p.sum()


# Mistakes that would be seen: tokens that come back in the order of their shares, a share that
# leaves the token that passes it out, top_p of all where top_k has left some, p instead of log p.
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((1.0, None, None), SHARES),
        ((2.0, None, None), among(range(5), 2.0)),
        ((0.5, None, None), among(range(5), 0.5)),
        ((1.0, 2, None), among([1, 3])),
        ((0.5, 3, None), among([1, 3, 4], 0.5)),
        ((1.0, 99, None), SHARES),
        ((1.0, None, 0.3), among([1])),
        ((1.0, None, 0.6), among([1, 3])),
        ((1.0, None, 0.7), among([1, 3, 4])),
        ((1.0, None, 1.0), SHARES),
        # Of 0.4, 0.25 and 0.2 the first has 0.47, and the first two 0.76.
        ((1.0, 3, 0.5), among([1, 3])),
        ((1.0, 3, 0.45), among([1])),
        ((1.0, None, 1e-9), among([1])),
    ],
)
def test_the_shares_of_what_is_drawn(options, wanted):
    found = shares(checked_sampling(*options))
    np.testing.assert_allclose(found, wanted, atol=0.015)
    assert (found[wanted == 0] == 0).all()


def test_an_option_that_leaves_everything_in_draws_the_same():
    logits = jax.random.normal(jax.random.key(3), (100, 7))
    plain = draw(Sampling(1.0), logits, KEYS[:100])
    assert jnp.array_equal(plain, draw(Sampling(1.0, None, 7), logits, KEYS[:100]))
    assert jnp.array_equal(plain, draw(Sampling(1.0, 1.0, None), logits, KEYS[:100]))


def test_the_likeliest_token():
    logits = jax.random.normal(jax.random.key(3), (100, 7)).astype(jnp.bfloat16)  # with equals
    greedy = draw(Sampling(None), logits, KEYS[:100])
    assert jnp.array_equal(greedy, jnp.argmax(logits, -1))
    assert jnp.array_equal(greedy, draw(Sampling(1.0, None, 1), logits, KEYS[:100]))
    equal = jnp.zeros((100, 7))
    assert not draw(Sampling(1.0, None, 1), equal, KEYS[:100]).any()
    cold = draw(
        Sampling(1e-30), jnp.tile(jnp.arange(7.0, dtype="bfloat16")[None], (100, 1)), KEYS[:100]
    )
    assert (cold == 6).all()


def test_a_row_is_drawn_from_its_own_key():
    logits = jax.random.normal(jax.random.key(3), (4, 7))
    whole = draw(Sampling(1.0), logits, KEYS[:4])
    assert jnp.array_equal(whole[2:3], draw(Sampling(1.0), logits[2:3], KEYS[2:3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((-1.0, None, None), "temperature is a number from 0.*found -1.0"),
        ((float("nan"), None, None), "temperature is a number from 0.*found nan"),
        (("hot", None, None), "temperature is a number from 0.*found 'hot'"),
        ((True, None, None), "temperature is a number from 0.*found True"),
        ((1.0, 0, None), "top_k is a positive integer or None, found 0"),
        ((1.0, 1.5, None), "top_k is a positive integer or None, found 1.5"),
        ((1.0, None, 0.0), "top_p is a number above 0, at most 1, or None, found 0.0"),
        ((1.0, None, 1.1), "top_p is a number above 0, at most 1, or None, found 1.1"),
    ],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(ValueError, match=f"generate: {message}"):
        checked_sampling(*options)
