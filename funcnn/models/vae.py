"""A variational autoencoder: a code that is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from funcnn import layers
from funcnn.core.composite import composite
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.core.usage import positive_integer
from funcnn.models.shared import dense_relu, sizes
from funcnn.types import Array, Function, Key


def vae(
    shape: Sequence[int] = (28, 28, 1), hidden: Sequence[int] = (512, 256), code: int = 20
) -> Layer:
    """A variational autoencoder: x (N, *shape) becomes `(logits, mean, log_variance)`.

    With a key the code is drawn, mean + exp(log_variance / 2) ε with a standard normal ε; without
    one it is the mean. The logits (N, *shape) are those of the pixels; mean and log_variance are
    (N, code). The loss of the paper is the cross entropy of the pixels plus
    -½ Σ (1 + log_variance - mean² - exp(log_variance)). The parts are `encoder`, `mean`,
    `log_variance` and `decoder`; `model.parts["decoder"](params["decoder"], z)` decodes any code.

    Args:
        shape: that of one x.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        code: the width of the code.

    Raises:
        ValueError: a size is not a positive integer.

    Source: Kingma, Welling, Auto-encoding variational Bayes, 2014.

    >>> model, x = vae((4, 4, 1), hidden=[8], code=2), jnp.ones((3, 4, 4, 1))
    >>> params = model.init(jax.random.key(0), x)
    >>> [y.shape for y in model(params, x, key=jax.random.key(1))]
    [(3, 4, 4, 1), (3, 2), (3, 2)]
    """
    shape, hidden = sizes("vae", "shape", shape), sizes("vae", "hidden", hidden)
    code = positive_integer("vae", "code", code)

    def flow(run: Function, x: Array, key: Key | None) -> tuple[Array, Array, Array]:
        features = run("encoder", x)
        mean, log_variance = run("mean", features), run("log_variance", features)  # (N, code)
        z = mean
        if key is not None:
            noise = jax.random.normal(key, mean.shape, mean.dtype)
            z = mean + jnp.exp(log_variance / 2) * noise
        y = run("decoder", z)  # (N, prod(shape))
        return y.reshape(y.shape[0], *shape), mean, log_variance

    inward, outward = dense_relu(hidden), dense_relu(hidden[::-1])
    return composite(
        flow,
        encoder=chain(layers.flatten, *inward),
        mean=layers.dense(code),
        log_variance=layers.dense(code),
        decoder=chain(*outward, layers.dense(math.prod(shape))),
    )
