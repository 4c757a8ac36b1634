"""The dtype in which the parameters of a layer are made."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.types import Shaped


def parameter_dtype(x: Shaped) -> jnp.dtype:
    """That of the input; JAX's default where the input is not floating point.

    >>> parameter_dtype(jnp.zeros(3, jnp.bfloat16)), parameter_dtype(jnp.zeros(3, int))
    (dtype(bfloat16), dtype('float32'))
    """
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.zeros(()).dtype
