"""Random numbers for the cases of rules, drawn by NumPy.

JAX would compile its generator anew for each shape, which takes a hundred times as long as the
check of a case.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import Array, Key, Shape


def normal(key: Key, shape: Shape) -> Array:
    """Normal numbers in JAX's default dtype, a function of the key and the shape.

    >>> normal(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _in_default_dtype(_generator(key).standard_normal(shape))


def uniform(key: Key, shape: Shape) -> Array:
    """Numbers from 0 to 1, likewise.

    >>> float(uniform(jax.random.key(0), ())) < 1
    True
    """
    return _in_default_dtype(_generator(key).random(shape))


def _generator(key: Key) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _in_default_dtype(x: np.ndarray) -> Array:
    # Converted by NumPy: JAX would compile the conversion for each shape.
    return jax.device_put(np.asarray(x, jnp.result_type(float)))
