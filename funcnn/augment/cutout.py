"""Images with a hole: a square of zeros."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn.augment.augmentation import Augmentation
from funcnn.core.usage import positive_integer
from funcnn.types import Array, Key


@Augmentation
def cutout(key: Key, x: Array, *, size: int = 8) -> Array:
    """A square of size x size pixels of each image is 0 in all channels.

    Shapes: x, y (N, H, W, C). The numbers drawn: the square's centre, any pixel of the image,
    randint(key, (N, 2), 0, (H, W)); its first row and column are size // 2 before it. What lies
    outside of the image cuts nothing.

    Raises:
        ValueError: size is no positive integer.

    Source: DeVries, Taylor, Improved regularization of convolutional neural networks with cutout,
    2017.

    >>> cutout(jax.random.key(1), jnp.ones((1, 3, 4, 1)), size=2)[0, :, :, 0]
    Array([[1., 1., 0., 0.],
           [1., 1., 0., 0.],
           [1., 1., 1., 1.]], dtype=float32)
    """
    size = positive_integer("cutout", "size", size)
    images, height, width = x.shape[:3]
    centres = jax.random.randint(key, (images, 2), 0, jnp.array([[height, width]]))  # (N, 2)
    first = centres - size // 2

    def within(axis: int, length: int) -> Array:
        place = jnp.arange(length)[None] - first[:, axis, None]  # (N, length)
        return (place >= 0) & (place < size)

    hole = within(0, height)[:, :, None] & within(1, width)[:, None]  # (N, H, W)
    return jnp.where(hole[..., None], 0, x)


# A pixel stays or is 0: the map is its own transpose.
@cutout.defbackward
def _backward(key: Key, dy: Array, *, size: int = 8) -> Array:
    return cutout(key, dy, size=size)
