"""The input itself, through a code that is drawn: a variational autoencoder."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from funcnn.core.layer import Layer
from funcnn.task.task import Task
from funcnn.types import Array, Batch, Key, Params


def variational() -> Task:
    """x from 0 to 1 -> `(logits, mean, log_variance)`, as of `fnn.vae`; the loss is in nats.

    The negative evidence lower bound of each row: the cross entropy of its pixels, plus the
    divergence of the code from a standard normal one, -½ Σ (1 + log_variance - mean² -
    exp(log_variance)). Without a key, in evaluation, the code is its mean and not drawn.

    Source: Kingma, Welling, Auto-encoding variational Bayes, 2014.

    >>> import jax, funcnn as fnn
    >>> model, batch = fnn.vae((2, 2, 1), hidden=[3], code=2), {"x": jnp.ones((5, 2, 2, 1))}
    >>> params = model.init(jax.random.key(0), batch["x"])
    >>> variational().objective(model, params, batch, jax.random.key(1)).shape
    (5,)
    """

    def objective(model: Layer, params: Params, batch: Batch, key: Key | None) -> Array:
        x = batch["x"]
        logits, mean, log_variance = model(params, x, key=key)
        pixels = optax.sigmoid_binary_cross_entropy(logits, x)  # (B, *shape)
        spread = mean**2 + jnp.exp(log_variance) - log_variance - 1  # (B, code)
        return pixels.reshape(x.shape[0], -1).sum(1) + 0.5 * spread.sum(1)  # (B,)

    return Task(targets="x", objective=objective)
