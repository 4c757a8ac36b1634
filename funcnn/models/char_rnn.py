"""A recurrent network that says which token comes next."""

from __future__ import annotations

from collections.abc import Sequence

from funcnn import layers
from funcnn.core.composite import composite
from funcnn.core.layer import Layer
from funcnn.layers.recurrent_stack import stack_recurrent
from funcnn.models.shared import sizes
from funcnn.types import Function, PyTree

_CELLS = {"rnn": layers.rnn, "lstm": layers.lstm, "gru": layers.gru}


def char_rnn(
    vocabulary: int = 128,
    width: int = 64,
    hidden: Sequence[int] = (256, 256),
    cell: str = "lstm",
    dropout: float = 0.0,
) -> Layer:
    """Tokens (N, T), integers, become logits (N, T, vocabulary) of those that come next.

    It is an embedding, a stack of recurrent layers and a dense layer. `(carries, tokens)` becomes
    `(carries, logits)`, as in `fnn.stack_recurrent`: a text is read in pieces, or written token by
    token, from the carries of what came before; None stands for the beginning.

    Args:
        vocabulary: how many tokens there are.
        width: that of the embedding.
        hidden: the widths of the recurrent layers.
        cell: "lstm", "gru" or "rnn".
        dropout: the rate of the dropout after each recurrent layer; 0 for none.

    Raises:
        ValueError: there is no such cell, or a size is not a positive integer.

    Source: Graves, Generating sequences with recurrent neural networks, 2013.

    >>> import jax, jax.numpy as jnp
    >>> model, tokens = char_rnn(5, width=3, hidden=[4, 6]), jnp.array([[0, 3, 1]])
    >>> params = model.init(jax.random.key(0), tokens)
    >>> carries, logits = model(params, (None, tokens))
    >>> logits.shape, [h.shape for h, c in carries]
    ((1, 3, 5), [(1, 4), (1, 6)])
    """
    if cell not in _CELLS:
        raise ValueError(f"char_rnn: cell is 'lstm', 'gru' or 'rnn', found {cell!r}")
    memory: list[Layer] = []
    for size in sizes("char_rnn", "hidden", hidden):
        memory += [_CELLS[cell](size)]
        memory += [layers.dropout(dropout)] if dropout else []

    def flow(run: Function, x: PyTree) -> PyTree:
        if not isinstance(x, tuple):
            return run("head", run("memory", run("embedding", x)))
        carries, tokens, *lengths = x
        carries, y = run("memory", carries, run("embedding", tokens), *lengths)
        return carries, run("head", y)

    return composite(
        flow,
        embedding=layers.embedding(vocabulary, width),
        memory=stack_recurrent(*memory),
        head=layers.dense(vocabulary),
    )
