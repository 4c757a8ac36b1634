"""The loop that writes: what has been written is read once, and each token is read and kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from funcnn.core.caching import Cache, apply_cached, check_room, start_cache
from funcnn.core.layer import Layer, as_layer
from funcnn.core.usage import as_integer, in_a_word, positive_integer
from funcnn.generation.sampling import Sampling, checked_sampling, draw
from funcnn.types import Array, ArrayLike, Function, Key, Params

Stop = int | Sequence[int] | None


def generate(
    model: Layer | Function,
    params: Params,
    prompt: ArrayLike,
    *,
    steps: int,
    key: Key | None = None,
    lengths: ArrayLike | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Stop = None,
) -> Array:
    """The tokens that a model writes after a prompt, (B, steps), integers.

    The prompt is read once, and then one token after the other, each with what the layers keep of
    those before (`fnn.start_cache`), in one loop that ends when every row has stopped. Both
    programs are compiled once for the same shapes, and the numbers of the options, but for top_k,
    are no part of them. A row has its own key, by its number: what it draws does not depend on the
    other rows, but for rounding.

    Args:
        model: tokens (B, T) become logits (B, T, vocabulary): `fnn.gpt`, `fnn.llama`,
            `fnn.char_rnn`, or any composition that `fnn.start_cache` takes.
        params: of the model.
        prompt: (B, T), integers; rows of unequal length are padded on the right, with any numbers.
        steps: how many tokens are written.
        key: draws the tokens; not needed at temperature 0.
        lengths: (B,), the length of each prompt; None for T.
        temperature: what logits are divided by; 0 takes the likeliest token.
        top_k: draw from so many of the likeliest tokens alone.
        top_p: draw from the likeliest tokens alone that have this share together, of those that
            top_k leaves.
        stop: a token, or several, at which a row ends. The token at which it has stopped is
            repeated up to `steps`.

    Raises:
        TypeError: the prompt holds no integers, the model does not make logits of it or keeps
            nothing of what it has read, or there is no key.
        ValueError: a number is outside its range, a token of the prompt outside the vocabulary, or
            prompt and steps have more places than the model.

    >>> import funcnn as fnn
    >>> model = fnn.gpt(5, length=8, width=4, depth=2, heads=2)
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 1), int))
    >>> prompt, lengths = jnp.array([[1, 2, 3], [4, 0, 0]]), jnp.array([3, 1])
    >>> generate(model, params, prompt, lengths=lengths, steps=4, key=jax.random.key(1)).shape
    (2, 4)
    """
    model, sampling = as_layer(model), checked_sampling(temperature, top_k, top_p)
    written, drawing = _begun(model, params, prompt, lengths, key, sampling, stop, steps)
    written = _go_on(model, params, written, drawing, steps)
    there = (
        jnp.arange(steps, dtype=jnp.int32)[None] < written.step
    )  # the loop may have ended before
    return jnp.where(there, written.tokens, written.token[:, None])


def generate_stream(
    model: Layer | Function,
    params: Params,
    prompt: ArrayLike,
    *,
    steps: int,
    key: Key | None = None,
    lengths: ArrayLike | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Stop = None,
) -> Iterator[np.ndarray]:
    """The tokens of `fnn.generate` as they come: NumPy arrays (B,), one for each step.

    The arguments and the errors are those of `fnn.generate`, and so are the tokens: both run the
    same two programs. The stream ends after `steps`, or when every row has stopped.

    >>> import funcnn as fnn
    >>> model = fnn.char_rnn(5, width=3, hidden=[4])
    >>> prompt = jnp.array([[3, 0]])
    >>> params = model.init(jax.random.key(0), prompt)
    >>> [t.shape for t in generate_stream(model, params, prompt, steps=2, temperature=0)]
    [(1,), (1,)]
    """
    model, sampling = as_layer(model), checked_sampling(temperature, top_k, top_p)
    # Errors come here, and not with the first token.
    written, drawing = _begun(model, params, prompt, lengths, key, sampling, stop, steps)

    def stream(written: Written) -> Iterator[np.ndarray]:
        yield np.array(written.token)
        for step in range(1, steps):
            if bool(jnp.all(written.done)):
                return
            written = _go_on(model, params, written, drawing, step + 1)
            yield np.array(written.token)

    return stream(written)


class Drawing(NamedTuple):
    """What decides which token comes next, beside the logits."""

    keys: Key  # (B,)
    sampling: Sampling
    stop: Array  # (n,)


class Written(NamedTuple):
    """What has been written up to now; the last token has not been read yet."""

    tokens: Array  # (B, steps)
    token: Array  # (B,), the last one
    step: Array  # (), how many there are
    done: Array  # (B,)
    cache: Cache


def checked_prompt(prompt: ArrayLike, lengths: ArrayLike | None) -> tuple[Array, Array]:
    """Prompt and lengths, or a TypeError or ValueError for what is none.

    >>> checked_prompt([1, 2], None)
    Traceback (most recent call last):
    ValueError: generate: the prompt is (B, T), with a token at least, found int32[2]
    """
    prompt = _array("the prompt is integers (B, T)", prompt)
    if not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise TypeError(f"generate: the prompt holds integers, found {in_a_word(prompt)}")
    if prompt.ndim != 2 or not prompt.size:
        found = in_a_word(prompt)
        raise ValueError(f"generate: the prompt is (B, T), with a token at least, found {found}")
    rows, most = prompt.shape
    what = f"lengths are integers ({rows},)"
    lengths = jnp.full(rows, most) if lengths is None else _array(what, lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer) or lengths.shape != (rows,):
        raise ValueError(
            f"generate: {what}, one for each row of the prompt, found {in_a_word(lengths)}"
        )
    if not isinstance(lengths, Tracer):
        for row, length in enumerate(lengths.tolist()):
            if not 1 <= length <= most:
                raise ValueError(
                    f"generate: lengths are from 1 to {most}, those of the prompt; found {length} "
                    f"in row {row}"
                )
    return prompt.astype(jnp.int32), lengths.astype(jnp.int32)


def _array(what: str, given: ArrayLike) -> Array:
    """The array of what was given, or a TypeError of one line for a text and rows of many lengths.

    >>> _array("the prompt is integers (B, T)", "import")
    Traceback (most recent call last):
    TypeError: generate: the prompt is integers (B, T), the number of each token, found 'import'
    """
    is_text = any(isinstance(leaf, str) for leaf in jax.tree.leaves(given))
    try:
        if not is_text:  # or JAX takes "i" for a dtype
            return jnp.asarray(given)
    except (TypeError, ValueError):
        if hasattr(given, "dtype"):
            raise
    ragged = "" if is_text else ", rows of one length, padded on the right"
    raise TypeError(f"generate: {what}, the number of each token{ragged}, found {given!r}")


def _drawing(key: Key | None, rows: int, sampling: Sampling, stop: Stop) -> Drawing:
    if key is None:
        if sampling.temperature is not None:
            raise TypeError(
                "generate: give key=jax.random.key(0), which draws the tokens, or temperature=0, "
                "which takes the likeliest"
            )
        key = jax.random.key(0)  # which nothing looks at
    dtype = getattr(key, "dtype", None)
    if dtype is None or (jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.shape):
        found = repr(key) if dtype is None else in_a_word(key)
        raise TypeError(f"generate: key is jax.random.key(seed) or None, found {found}")
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    given = () if stop is None else (stop,) if as_integer(stop) is not None else stop
    tokens = [as_integer(token) for token in given] if isinstance(given, Sequence) else [None]
    if any(token is None or token < 0 for token in tokens):
        raise ValueError(f"generate: stop is a token, several, or None, found {stop!r}")
    return Drawing(keys, sampling, jnp.array(tokens, jnp.int32))


def _begun(
    model: Layer,
    params: Params,
    prompt: ArrayLike,
    lengths: ArrayLike | None,
    key: Key | None,
    sampling: Sampling,
    stop: Stop,
    steps: int,
) -> tuple[Written, Drawing]:
    """The first token, once prompt and steps are known to fit the model."""
    prompt, lengths = checked_prompt(prompt, lengths)
    steps = positive_integer("generate", "steps", steps)
    check_room(model, params, prompt.shape[1] + steps - 1)
    drawing = _drawing(key, prompt.shape[0], sampling, stop)
    arguments = model, params, prompt, lengths, drawing
    if not isinstance(prompt, Tracer) and not isinstance(lengths, Tracer):
        logits, _ = _begin.eval_shape(*arguments, steps=steps)  # the call takes over its trace
        _check_tokens(np.asarray(prompt), np.asarray(lengths), logits.shape[1])
        _check_stop(stop, np.asarray(drawing.stop), logits.shape[1])
    return _begin(*arguments, steps=steps)[1], drawing


def _check_tokens(prompt: np.ndarray, lengths: np.ndarray, vocabulary: int) -> None:
    there = np.arange(prompt.shape[1]) < lengths[:, None]  # (B, T)
    wrong = np.argwhere(there & ((prompt < 0) | (prompt >= vocabulary)))
    if len(wrong):
        row, place = wrong[0]
        raise ValueError(
            f"generate: tokens are from 0 to {vocabulary - 1}, found {prompt[row, place]} in the "
            f"prompt, row {row}, place {place}"
        )


def _check_stop(given: Stop, stop: np.ndarray, vocabulary: int) -> None:
    if np.any(stop >= vocabulary):
        raise ValueError(
            f"generate: tokens are from 0 to {vocabulary - 1}, and none of them is {stop.max()} of "
            f"stop={given!r}"
        )


@functools.partial(jax.jit, static_argnames=("model", "steps"))
def _begin(
    model: Layer, params: Params, prompt: Array, lengths: Array, drawing: Drawing, *, steps: int
) -> tuple[Array, Written]:
    """The logits of what follows the prompt, and the first token drawn from them."""
    rows, longest = prompt.shape
    cache = start_cache(model, params, rows, longest + steps - 1)
    y, cache = apply_cached(model, params, cache, prompt, lengths)
    if not hasattr(y, "shape") or y.ndim != 3 or not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(
            "generate: a model makes logits (B, T, vocabulary) of tokens (B, T); found "
            f"{in_a_word(y)}"
        )
    logits = jnp.take_along_axis(y, (lengths - 1)[:, None, None], 1)[:, 0]  # (B, V)
    token, step = jnp.zeros(rows, jnp.int32), jnp.zeros((), jnp.int32)
    tokens = jnp.zeros((rows, steps), jnp.int32)
    nothing = Written(tokens, token, step, jnp.zeros(rows, bool), cache)
    return logits, _with_next(nothing, logits, drawing)


@functools.partial(jax.jit, static_argnames=("model",), donate_argnames=("written",))
def _go_on(
    model: Layer, params: Params, written: Written, drawing: Drawing, until: ArrayLike
) -> Written:
    """Written on, until there are so many tokens, or every row has stopped."""

    def unfinished(written: Written) -> Array:
        return (written.step < until) & ~jnp.all(written.done)

    def one(written: Written) -> Written:
        y, cache = apply_cached(model, params, written.cache, written.token[:, None])
        return _with_next(written._replace(cache=cache), y[:, 0], drawing)

    return jax.lax.while_loop(unfinished, one, written)


def _with_next(written: Written, logits: Array, drawing: Drawing) -> Written:
    """One token more of each row, the last one again where it has stopped."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(drawing.keys, written.step)
    token = jnp.where(written.done, written.token, draw(drawing.sampling, logits, keys))
    tokens = jax.lax.dynamic_update_slice(
        written.tokens, token[:, None], (jnp.zeros_like(written.step), written.step)
    )
    stops = jnp.any(token[:, None] == drawing.stop[None], 1)
    return Written(tokens, token, written.step + 1, written.done | stops, written.cache)
