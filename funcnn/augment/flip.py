"""Mirror images: the flip of left and right."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn.augment.augmentation import Augmentation
from funcnn.types import Array, Key


@Augmentation
def flip(key: Key, x: Array, *, probability: float = 0.5) -> Array:
    """Each image is mirrored, left and right exchanged, with this probability.

    Shapes: x, y (N, H, W, C). The numbers drawn: bernoulli(key, probability, (N,)).

    Raises:
        ValueError: probability is outside [0, 1].

    >>> x = jnp.arange(3.0).reshape(1, 1, 3, 1)
    >>> flip(jax.random.key(0), x, probability=1.0).ravel()
    Array([2., 1., 0.], dtype=float32)
    >>> flip()({}, x).ravel()  # a layer, without a key
    Array([0., 1., 2.], dtype=float32)
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"flip: probability is from 0 to 1, found {probability!r}")
    flips = jax.random.bernoulli(key, probability, x.shape[:1])  # (N,)
    return jnp.where(flips[:, None, None, None], x[:, :, ::-1], x)


# The mirror image of a mirror image is the image: the map is its own transpose.
@flip.defbackward
def _backward(key: Key, dy: Array, *, probability: float = 0.5) -> Array:
    return flip(key, dy, probability=probability)
