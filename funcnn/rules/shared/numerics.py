"""The one place that names a dtype: sums are taken in float32 at least, and in float64 for float64.

The float64 run of a check therefore runs the same code as the float32 one.
"""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.types import Shaped


def accumulator(x: Shaped) -> jnp.dtype:
    """The dtype in which sums over elements of `x` are accumulated.

    It is `jnp.promote_types(x.dtype, jnp.float32)`, which raises under strict promotion.

    >>> accumulator(jnp.zeros(3, jnp.bfloat16))
    dtype('float32')
    """
    return x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)
