"""The U-Net: down to a coarse image and up again, with what was seen on the way down."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn import layers
from funcnn.core.composite import composite
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.core.usage import positive_integer
from funcnn.types import Array, Function


def _twice(width: int) -> Layer:
    """Two 3x3 convolutions, each with its relu."""
    one = [layers.conv(width, (3, 3)), layers.relu]
    return chain(*one, *one)


def unet(classes: int = 2, width: int = 64, depth: int = 4) -> Layer:
    """A U-Net: images (N, H, W, C) become logits (N, H, W, classes), one for each pixel.

    Each of `depth` levels has two convolutions, is kept, and is halved by pooling; on the way up
    each is doubled by a transposed convolution and joined with what was kept. Convolutions pad
    with zeros, where the paper's crop. It has 31,030,658 parameters for one channel in and two
    classes, as the paper's network has. H and W are multiples of 2 ** depth.

    Args:
        classes: how many logits a pixel has.
        width: the channels of the first level; each further one has twice as many.
        depth: how many times the image is halved.

    Raises:
        ValueError: a size is not a positive integer; when called, H or W is no such multiple.

    Source: Ronneberger, Fischer, Brox, U-Net: convolutional networks for biomedical image
    segmentation, 2015.

    >>> import jax
    >>> model, x = unet(width=2, depth=2), jnp.ones((1, 8, 8, 1))
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, list(model.parts)[:3]
    ((1, 8, 8, 2), ['down_0', 'pool_0', 'down_1'])
    """
    width, depth = (
        positive_integer("unet", name, value)
        for name, value in (("width", width), ("depth", depth))
    )

    def flow(run: Function, x: Array) -> Array:
        if any(size % 2**depth for size in x.shape[1:3]):
            raise ValueError(
                f"unet: height and width are multiples of {2**depth}, found an x of {x.shape}"
            )
        kept = []
        for i in range(depth):
            kept.append(run(f"down_{i}", x))  # (N, H / 2^i, W / 2^i, width 2^i)
            x = run(f"pool_{i}", kept[i])  # (N, H / 2^(i+1), W / 2^(i+1), width 2^i)
        x = run("bottom", x)
        for i in reversed(range(depth)):
            both = [kept[i], run(f"rise_{i}", x)]  # each (N, H / 2^i, W / 2^i, width 2^i)
            x = run(f"up_{i}", jnp.concatenate(both, axis=-1))
        return run("head", x)

    parts: dict[str, Layer] = {}
    for i in range(depth):
        parts |= {f"down_{i}": _twice(width * 2**i), f"pool_{i}": layers.max_pool((2, 2))}
    parts["bottom"] = _twice(width * 2**depth)
    for i in reversed(range(depth)):
        parts[f"rise_{i}"] = layers.conv_transposed(width * 2**i, (2, 2), stride=2)
        parts[f"up_{i}"] = _twice(width * 2**i)
    return composite(flow, **parts, head=layers.conv(classes, (1, 1)))
