"""A model whose last product and loss are one, so that its logits never stand whole."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer
from funcnn.layers.tokens import Tokens
from funcnn.types import Array, Key, Params, PyTree


def head_of(model: Layer) -> str | None:
    """The name of the part that makes the logits, where it can be one with the loss.

    That is a `fnn.dense` called head, or else `fnn.tokens` called tokens.

    >>> import funcnn as fnn
    >>> head_of(fnn.chain(fnn.relu, head=fnn.dense(3))), head_of(fnn.chain(fnn.dense(3)))
    ('head', None)
    """
    head = model.parts.get("head")
    if model.rebuild is None:
        return None
    if head is not None:
        return "head" if head.rule is rules.linear else None
    return "tokens" if isinstance(model.parts.get("tokens"), Tokens) else None


def scored(model: Layer, labels: Array, ignored: int, smoothing: float = 0.0) -> Layer:
    """The model that returns, in place of logits, their mean cross entropy with the labels.

    Its params are those of the model; `fnn.rules.linear_cross_entropy` takes the logits in chunks.

    Args:
        model: one with a head, see `head_of`.
        labels: (B, ...), as the logits are (B, ..., classes).
        ignored: the label that does not count.
        smoothing: as in `fnn.rules.softmax_cross_entropy`.

    >>> import jax, funcnn as fnn
    >>> model, x = fnn.chain(fnn.relu, head=fnn.dense(3)), jnp.ones((2, 4))
    >>> params, labels = model.init(jax.random.key(0), x), jnp.array([2, -1])
    >>> loss = rules.softmax_cross_entropy(model(params, x), labels, ignored=-1).sum()
    >>> bool(jnp.allclose(scored(model, labels, -1)(params, x), loss))
    True
    """
    name = head_of(model)
    assert name is not None
    assert model.rebuild is not None
    head = model.parts[name]

    def apply(params: Params, x: PyTree, key: Key | None) -> Array:
        if jnp.issubdtype(x.dtype, jnp.integer):  # a table of tokens, at the entrance
            return head.apply(params, x, key)
        w = params["table"].T if isinstance(head, Tokens) else params["w"]
        static = {"ignored": ignored, "smoothing": smoothing}
        return rules.linear_cross_entropy(x, w, labels, params.get("b"), **static)

    by_hand = {"forward": None, "recursion": None, "rule": None}
    return model.rebuild({**model.parts, name: dataclasses.replace(head, apply=apply, **by_hand)})
