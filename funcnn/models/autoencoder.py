"""An autoencoder: through a narrow code, back to the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcnn import layers
from funcnn.core.composite import composite
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.core.usage import positive_integer
from funcnn.models.shared import dense_relu, sizes
from funcnn.types import Array, Function


def autoencoder(
    shape: Sequence[int] = (28, 28, 1), hidden: Sequence[int] = (256, 64), code: int = 16
) -> Layer:
    """An autoencoder of dense layers: x (N, *shape) becomes its reconstruction (N, *shape).

    The parts are `encoder` and `decoder`; `model.parts["encoder"](params["encoder"], x)` is the
    code (N, code). The decoder's last layer has no activation: logits of pixels, or the pixels.

    Args:
        shape: that of one x.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        code: the width of the code.

    Raises:
        ValueError: a size is not a positive integer.

    Source: Hinton, Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006.

    >>> import jax, jax.numpy as jnp
    >>> model, x = autoencoder((4, 4, 1), hidden=[8], code=2), jnp.ones((3, 4, 4, 1))
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, model.parts["encoder"](params["encoder"], x).shape
    ((3, 4, 4, 1), (3, 2))
    """
    shape, hidden = sizes("autoencoder", "shape", shape), sizes("autoencoder", "hidden", hidden)
    code = positive_integer("autoencoder", "code", code)

    def flow(run: Function, x: Array) -> Array:
        y = run("decoder", run("encoder", x))  # (N, prod(shape))
        return y.reshape(y.shape[0], *shape)  # (N, *shape)

    inward, outward = dense_relu(hidden), dense_relu(hidden[::-1])
    return composite(
        flow,
        encoder=chain(layers.flatten, *inward, layers.dense(code)),
        decoder=chain(*outward, layers.dense(math.prod(shape))),
    )
