"""Transformers: tokens at one end, blocks of attention, and the tokens that come next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from funcnn import layers
from funcnn.core.composite import Composite, composite
from funcnn.core.layer import Layer
from funcnn.core.stack import Kept, repeat
from funcnn.core.usage import positive_integer
from funcnn.layers.attention import SMALL
from funcnn.models.shared import block_options, checked_tokens
from funcnn.types import Function, PyTree


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Transformer(Composite):
    """A model that knows what it was made of, which other libraries ask for.

    Attributes:
        family: "gpt", "llama" or "bert".
        options: those it was made with, defaults too, less what the loop keeps and what computes
            attention.

    >>> model = llama(11, width=8, depth=2, heads=4, hidden=12)
    >>> model.family, model.options["heads"], model.options["rotary"]
    ('llama', 4, 10000.0)
    """

    family: str = ""
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, model: Layer, family: str, options: Mapping[str, object]) -> Transformer:
        """The composite with what it was made of."""
        options = {n: v for n, v in options.items() if n != "implementation"}
        return cls(**vars(model), family=family, options=options)


def gpt(
    vocabulary: int = 256,
    length: int = 256,
    width: int = 384,
    depth: int = 6,
    heads: int = 6,
    dropout: float = 0.0,
    tied: bool = True,
    keep: Kept = "residuals",
    epsilon: float = 1e-5,
    **options: Any,
) -> Transformer:
    """Tokens (B, T), integers, become logits (B, T, vocabulary) of those that come next: GPT-2.

    Learnt places, `depth` blocks (`fnn.transformer_block`, causal) in one loop, a layer norm, and
    the table of the tokens once more for the logits. The products that are added to the stream are
    drawn smaller by √(2 depth).

    Args:
        vocabulary: how many tokens there are.
        length: the most places.
        width: how many numbers a place has.
        depth: how many blocks.
        heads: they divide width.
        dropout: of what is embedded, and in the blocks.
        tied: whether the logits are products with the table of the tokens; else with a head.
        keep: what the loop over the blocks keeps, see `fnn.repeat`.
        epsilon: what stands under the root of the norms.
        options: of the blocks: hidden, key_heads, activation, bias, window, soft_cap,
            implementation, ...

    Raises:
        TypeError: an option is none of the blocks'; at the call, x holds no integers.
        ValueError: an option is outside its range; at the call, x has not two axes.

    Source: Radford et al., Language models are unsupervised multitask learners, 2019.

    >>> import jax.numpy as jnp
    >>> model, x = gpt(11, length=8, width=6, depth=2, heads=3), jnp.array([[0, 3, 1]])
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, params["blocks"]["mlp"]["body"]["out"]["dense"]["w"].shape
    ((1, 3, 11), (2, 24, 6))
    """
    of_block = {"causal": True, "epsilon": epsilon, **options}
    block = _block("gpt", width, heads, depth, dropout, of_block)
    head = _head("gpt", vocabulary, tied)
    drop = {"dropout": layers.dropout(dropout)} if dropout else {}

    def flow(run: Function, x: PyTree) -> PyTree:
        x = run("places", run("tokens", checked_tokens("gpt", x)))
        x = run("dropout", x) if drop else x
        return run("tokens" if tied else "head", run("norm", run("blocks", x)))

    model = composite(
        flow,
        tokens=layers.tokens(vocabulary, width),
        places=layers.places(length),
        **drop,
        blocks=repeat(block, depth, keep=keep),
        norm=layers.layer_norm(epsilon),
        **head,
    )
    made = {"vocabulary": vocabulary, "length": length, "width": width, "depth": depth}
    made |= {"heads": heads, "dropout": dropout, "tied": tied, **of_block}
    return Transformer.of(model, "gpt", made)


def llama(
    vocabulary: int = 256,
    width: int = 384,
    depth: int = 6,
    heads: int = 6,
    key_heads: int | None = None,
    hidden: int = 1024,
    rotary: float = 10000.0,
    tied: bool = False,
    keep: Kept = "residuals",
    epsilon: float = 1e-5,
    **options: Any,
) -> Transformer:
    """Tokens (B, T), integers, become logits (B, T, vocabulary) of those that come next: Llama.

    RMS norms, rotary positions, grouped heads, SwiGLU, no bias.

    Args:
        vocabulary: how many tokens there are.
        width: how many numbers a place has.
        depth: how many blocks.
        heads: of the queries; they divide width.
        key_heads: of keys and values, which divide `heads`; None for as many.
        hidden: how wide the gated units are.
        rotary: the base of the positions.
        tied: whether the logits are products with the table of the tokens.
        keep: what the loop over the blocks keeps, see `fnn.repeat`.
        epsilon: what stands under the root of the norms.
        options: of the blocks: activation, dropout, window, implementation, ...

    Raises:
        TypeError: an option is none of the blocks'; at the call, x holds no integers.
        ValueError: an option is outside its range; at the call, x has not two axes.

    Source: Touvron et al., Llama 2, 2023; Ainslie et al., GQA, 2023 (grouped heads).

    >>> import jax.numpy as jnp
    >>> model, x = llama(11, width=8, depth=2, heads=4, key_heads=2, hidden=12), jnp.array([[0, 3]])
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, params["head"]["w"].shape
    ((1, 2, 11), (8, 11))
    """
    of_block = {"causal": True, "norm": "rms", "activation": "swiglu", "bias": False}
    of_block |= {"hidden": hidden, "key_heads": key_heads, "rotary": rotary, "epsilon": epsilon}
    dropout = options.pop("dropout", 0.0)
    of_block |= options
    block = _block("llama", width, heads, depth, dropout, of_block)
    head = _head("llama", vocabulary, tied)

    def flow(run: Function, x: PyTree) -> PyTree:
        x = run("norm", run("blocks", run("tokens", checked_tokens("llama", x))))
        return run("tokens" if tied else "head", x)

    model = composite(
        flow,
        tokens=layers.tokens(vocabulary, width),
        blocks=repeat(block, depth, keep=keep),
        norm=layers.rms_norm(epsilon),
        **head,
    )
    made = {"vocabulary": vocabulary, "width": width, "depth": depth, "heads": heads}
    made |= {"dropout": dropout, "tied": tied, **of_block}
    return Transformer.of(model, "llama", made)


def _block(
    family: str, width: int, heads: int, depth: int, dropout: float, options: dict[str, Any]
) -> Layer:
    options = block_options(family, options, drawn_here={"last_initializer"})
    small = jax.nn.initializers.normal(
        0.02 / math.sqrt(2 * positive_integer(family, "depth", depth))
    )
    return layers.transformer_block(
        width, heads, dropout=dropout, last_initializer=small, **options
    )


def _head(family: str, vocabulary: int, tied: bool) -> dict[str, Layer]:
    """The layer of the logits, where it is not the table of the tokens."""
    if not isinstance(tied, bool):
        raise ValueError(f"{family}: tied is True or False, found {tied!r}")
    return {} if tied else {"head": layers.dense(vocabulary, bias=False, initializer=SMALL)}
