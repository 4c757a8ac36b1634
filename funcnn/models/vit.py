"""A transformer that reads an image as a row of patches."""

from __future__ import annotations

from typing import Any

import jax

from funcnn import layers
from funcnn.core.composite import composite
from funcnn.core.layer import Layer
from funcnn.core.stack import Kept, repeat
from funcnn.core.usage import in_a_word, positive_integer
from funcnn.layers.attention import SMALL
from funcnn.models.shared import block_options
from funcnn.types import Function, PyTree

# Where a patch is comes from learnt rows, or from waves.
_PLACES = {"learnt": layers.places, "sinusoids": layers.sinusoids}


def vit(
    patch: int = 4,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    classes: int = 10,
    places: str = "learnt",
    dropout: float = 0.0,
    keep: Kept = "residuals",
    epsilon: float = 1e-6,
    **options: Any,
) -> Layer:
    """Images (B, H, W, C) become logits (B, classes): the Vision Transformer.

    Each patch x patch pixels are one place, by one product; before them stands a class token, and
    their places are added. Then `depth` blocks in one loop (`fnn.transformer_block`, every place
    sees every other), a layer norm, and a product of what stands at the class token.

    Args:
        patch: how many pixels a patch has a side; it divides H and W.
        width: how many numbers a place has.
        depth: how many blocks.
        heads: they divide width.
        classes: how many logits come out.
        places: "learnt", for as many patches as the images of `init` have, or "sinusoids", by the
            number of the patch, row by row.
        dropout: of what is embedded, and in the blocks.
        keep: what the loop over the blocks keeps, see `fnn.repeat`.
        epsilon: what stands under the root of the norms.
        options: of the blocks: hidden, activation, bias, ...

    Raises:
        TypeError: an option is none of the blocks'.
        ValueError: an option is outside its range; at the call, patches do not tile the images.

    Source: Dosovitskiy et al., An image is worth 16x16 words, 2020.

    >>> import jax.numpy as jnp
    >>> model, x = vit(patch=2, width=6, depth=2, heads=3), jnp.ones((1, 4, 6, 1))
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, params["places"]["table"].shape
    ((1, 10), (7, 6))
    """
    patch, depth = (positive_integer("vit", n, v) for n, v in (("patch", patch), ("depth", depth)))
    if places not in _PLACES:
        raise ValueError(f"vit: places is 'learnt' or 'sinusoids', found {places!r}")
    # As the authors draw them: small ones leave the class token blind for long.
    drawn = jax.nn.initializers.xavier_uniform()
    of_block = {"activation": "gelu_erf", "epsilon": epsilon, "initializer": drawn, **options}
    of_block = block_options("vit", of_block)
    block = layers.transformer_block(width, heads, dropout=dropout, **of_block)
    drop = {"dropout": layers.dropout(dropout)} if dropout else {}

    def flow(run: Function, x: PyTree) -> PyTree:
        if x.ndim != 4 or x.shape[1] % patch or x.shape[2] % patch:
            raise ValueError(
                f"vit: x has shape (B, H, W, C), of which patch={patch} divides H and W, "
                f"found {in_a_word(x)}"
            )
        x = run("patches", x)  # (B, H / patch, W / patch, D)
        x = x.reshape(x.shape[0], -1, x.shape[3])  # (B, T - 1, D)
        x = run("places", run("class_token", x))  # (B, T, D)
        x = run("dropout", x) if drop else x
        return run("head", run("norm", run("blocks", x)[:, 0]))  # (B, classes)

    return composite(
        flow,
        patches=layers.conv(width, (patch, patch), stride=patch, padding="VALID"),
        class_token=layers.class_token(),
        places=_PLACES[places](),
        **drop,
        blocks=repeat(block, depth, keep=keep),
        norm=layers.layer_norm(epsilon),
        head=layers.dense(classes, initializer=SMALL),
    )
