"""Shifted images: a random crop of the padded image."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn.augment.augmentation import Augmentation
from funcnn.core.usage import positive_integer
from funcnn.types import Array, Key


@Augmentation
def crop(key: Key, x: Array, *, padding: int = 4) -> Array:
    """Each image is padded by zeros on all sides, and a window of its old size is cut out.

    Shapes: x, y (N, H, W, C). The numbers drawn: the window's first row and column among those of
    the padded image, randint(key, (N, 2), 0, 2 * padding + 1); `padding` is where it was.

    Raises:
        ValueError: padding is no positive integer.

    Source: He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016, section 4.2.

    >>> crop(jax.random.key(0), jnp.ones((1, 2, 3, 1)), padding=1)[0, :, :, 0]
    Array([[0., 1., 1.],
           [0., 1., 1.]], dtype=float32)
    """
    offsets = _offsets(key, x, padding)
    room = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(x, room)  # (N, H + 2 padding, W + 2 padding, C)

    def window(padded: Array, offset: Array) -> Array:
        row, column = offset
        return jax.lax.dynamic_slice(padded, (row, column, 0), x.shape[1:])

    return jax.vmap(window)(padded, offsets)


# A window's pixels go back to where they were cut out; those of the padding go nowhere.
@crop.defbackward
def _backward(key: Key, dy: Array, *, padding: int = 4) -> Array:
    height, width, channels = dy.shape[1:]
    empty = jnp.zeros((height + 2 * padding, width + 2 * padding, channels), dy.dtype)

    def placed(dy: Array, offset: Array) -> Array:
        row, column = offset
        whole = jax.lax.dynamic_update_slice(empty, dy, (row, column, 0))
        return whole[padding : padding + height, padding : padding + width]

    return jax.vmap(placed)(dy, _offsets(key, dy, padding))


def _offsets(key: Key, x: Array, padding: int) -> Array:
    padding = positive_integer("crop", "padding", padding)
    return jax.random.randint(key, (x.shape[0], 2), 0, 2 * padding + 1)  # (N, 2)
