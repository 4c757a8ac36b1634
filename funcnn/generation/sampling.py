"""Which token comes next: drawn from logits, or the likeliest."""

from __future__ import annotations

import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp

from funcnn.core.usage import is_positive_integer
from funcnn.types import Array, Key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is drawn; numbers of it are arguments of a program, and compile it once.

    Attributes:
        temperature: what logits are divided by; None for the likeliest token.
        top_p: the likeliest tokens that have this share together are drawn from; None for all.
        top_k: how many of the likeliest tokens are drawn from; None for all.

    >>> Sampling(None).top_k is None
    True
    """

    temperature: float | None
    top_p: float | None = None
    top_k: int | None = dataclasses.field(default=None, metadata={"static": True})


def checked_sampling(temperature: float, top_k: int | None, top_p: float | None) -> Sampling:
    """The options of `fnn.generate`, or a ValueError for one outside its range.

    >>> checked_sampling(0.0, None, None)
    Sampling(temperature=None, top_p=None, top_k=None)
    >>> checked_sampling(1.0, None, 1.5)
    Traceback (most recent call last):
    ValueError: generate: top_p is a number above 0, at most 1, or None, found 1.5
    """
    if not _is_number(temperature) or not 0 <= temperature < math.inf:
        raise ValueError(
            "generate: temperature is a number from 0, which takes the likeliest token, found "
            f"{temperature!r}"
        )
    if not (top_k is None or is_positive_integer(top_k)):
        raise ValueError(f"generate: top_k is a positive integer or None, found {top_k!r}")
    if not (top_p is None or (_is_number(top_p) and 0 < top_p <= 1)):
        raise ValueError(
            f"generate: top_p is a number above 0, at most 1, or None, found {top_p!r}"
        )
    return Sampling(
        float(temperature) or None,
        None if top_p is None else float(top_p),
        None if top_k is None else int(top_k),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def draw(sampling: Sampling, logits: Array, keys: Key) -> Array:
    """A token of each row, int32 (B,), from logits (B, V) and a key of each row, (B,).

    A row is drawn from its own key alone. The noise belongs to the tokens (the largest sum of
    logit and Gumbel noise is a draw from the softmax), so that an option that leaves the drawn
    token in leaves the draw as it is.

    >>> logits = jnp.array([[0.0, 3.0, 2.0]])
    >>> draw(Sampling(None), logits, jax.random.split(jax.random.key(0), 1))
    Array([1], dtype=int32)
    """
    z = logits.astype(jnp.float32)
    if sampling.temperature is None:
        return jnp.argmax(z, -1).astype(jnp.int32)
    # Of the differences, which stay finite however small the temperature is.
    z = (z - jnp.max(z, -1, keepdims=True)) / sampling.temperature
    noise = jax.vmap(lambda key: jax.random.gumbel(key, z.shape[1:], jnp.float32))(keys)  # (B, V)
    if sampling.top_k is None and sampling.top_p is None:
        return jnp.argmax(z + noise, -1).astype(jnp.int32)
    # Among equals the first is kept, as argmax does.
    z, tokens = jax.lax.top_k(z, min(sampling.top_k or z.shape[1], z.shape[1]))  # (B, k)
    noise = jnp.take_along_axis(noise, tokens, 1)
    if sampling.top_p is not None:
        p = jax.nn.softmax(z, -1)
        before = jnp.cumsum(p, -1) - p  # the share of those that are likelier: 0 for the first
        z = jnp.where(before < sampling.top_p, z, -jnp.inf)
    best = jnp.argmax(z + noise, -1)[:, None]
    return jnp.take_along_axis(tokens, best, 1)[:, 0].astype(jnp.int32)
