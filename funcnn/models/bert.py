"""A transformer that looks both ways: tokens, some of them hidden, and what stood there."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from funcnn import layers
from funcnn.core.beside import apart, together
from funcnn.core.composite import composite
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.core.stack import Kept, repeat
from funcnn.core.usage import positive_integer
from funcnn.layers.attention import SMALL
from funcnn.models.shared import block_options, checked_tokens
from funcnn.models.transformer import Transformer
from funcnn.types import Array, Function, PyTree


def bert(
    vocabulary: int = 256,
    length: int = 256,
    width: int = 384,
    depth: int = 6,
    heads: int = 6,
    types: int = 0,
    dropout: float = 0.0,
    keep: Kept = "residuals",
    epsilon: float = 1e-12,
    **options: Any,
) -> Transformer:
    """Tokens (B, T), integers, become logits (B, T, vocabulary) of what stands there: BERT.

    x is the tokens, or a pair (tokens, seen): lengths (B,), integers, of rows that are padded on
    the right, or a mask of keys, (B, T) of bool. With `types` it may be (tokens, seen, types), the
    last integers (B, T), and seen None: which of two texts a token belongs to, say; else all are 0.
    The logits of padding mean nothing.

    Tokens, learnt places and types are added, and normed. Then `depth` blocks in one loop
    (`fnn.transformer_block`, every place sees every other, norms behind the sums); then a product,
    gelu and a norm, the table of the tokens once more, and a b.

    Args:
        vocabulary: how many tokens there are.
        length: the most places.
        width: how many numbers a place has.
        depth: how many blocks.
        heads: they divide width.
        types: how many types of tokens there are; 0 for none.
        dropout: of what is embedded, and in the blocks.
        keep: what the loop over the blocks keeps, see `fnn.repeat`.
        epsilon: what stands under the root of the norms.
        options: of the blocks: hidden, activation, bias, window, ...

    Raises:
        ValueError: an option is outside its range.
        TypeError: an option is none of the blocks'; at the call, x is none of the three, or holds
            no tokens.

    Source: Devlin et al., BERT, 2018.

    >>> import jax
    >>> model = bert(11, length=8, width=6, depth=2, heads=3)
    >>> x = jnp.array([[0, 3, 1], [4, 2, 0]]), jnp.array([3, 2])
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, params["blocks"]["mlp"]["body"]["out"]["dense"]["w"].shape
    ((2, 3, 11), (2, 24, 6))
    """
    of_block = {"activation": "gelu_erf", "post_norm": True, "epsilon": epsilon, **options}
    of_block = block_options("bert", of_block)
    block = layers.transformer_block(width, heads, dropout=dropout, **of_block)
    drop = {"dropout": layers.dropout(dropout)} if dropout else {}
    of_types = {}
    if types:
        types = positive_integer("bert", "types", types)
        of_types = {"types": layers.embedding(types, width, initializer=SMALL)}

    def flow(run: Function, x: PyTree) -> PyTree:
        tokens, seen, kinds = _given(x, bool(of_types))
        x = run("tokens", tokens)
        x = x + run("types", kinds) if of_types else x
        x = run("norm", run("places", x))
        x = run("dropout", x) if drop else x
        x, _ = apart(run("blocks", together(x, seen)))
        return run("tokens", run("transform", x))

    model = composite(
        flow,
        tokens=layers.tokens(vocabulary, width, bias=True),
        **of_types,
        places=layers.places(length),
        norm=layers.layer_norm(epsilon),
        **drop,
        blocks=repeat(block, positive_integer("bert", "depth", depth), keep=keep),
        transform=_transform(width, epsilon),
    )
    made = {"vocabulary": vocabulary, "length": length, "width": width, "depth": depth}
    made |= {"heads": heads, "types": types, "dropout": dropout, **of_block}
    return Transformer.of(model, "bert", made)


def _transform(width: int, epsilon: float) -> Layer:
    """What stands between the last block and the table."""
    dense, gelu = layers.dense(width, initializer=SMALL), layers.gelu(approximate=False)
    return chain(dense=dense, gelu=gelu, norm=layers.layer_norm(epsilon))


def _given(x: PyTree, with_types: bool) -> tuple[Array, Array | None, Array]:
    """The tokens, what of them is seen, and their types."""
    tokens, seen, *types = x if isinstance(x, tuple) and len(x) > 1 else (x, None)
    if len(types) > with_types or isinstance(tokens, tuple):
        raise TypeError(
            "bert: x is tokens, or (tokens, seen)"
            + (", or (tokens, seen, types)" if with_types else ", where types= is 0")
            + f", found {len(x)} parts"
        )
    tokens = checked_tokens("bert", tokens)
    return tokens, seen, types[0] if types else jnp.zeros_like(tokens)
