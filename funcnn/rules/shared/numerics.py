"""The dtype of a rule's sums: float32 at least, and float64 for float64; no rule names a dtype.

Here are also the product that is summed so, and the slope of tanh whose digits are not lost.
The float64 run of a check therefore runs the same code as the float32 one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn.core.precision import wide
from funcnn.types import Array, Shaped


def accumulator(x: Shaped) -> jnp.dtype:
    """The dtype in which sums over elements of `x` are accumulated.

    It is `jnp.promote_types(x.dtype, jnp.float32)`, which raises under strict promotion.

    >>> accumulator(jnp.zeros(3, jnp.bfloat16))
    dtype('float32')
    """
    return wide(x.dtype)


def contract(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    """The product that sums over one axis of each, in float32 at least; no transposed copy is made.

    >>> contract(jnp.ones((5, 2)), jnp.ones((5, 3)), 0, 0).shape
    (2, 3)
    """
    axes = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(left, right, axes, preferred_element_type=accumulator(left))


def tanh_slope(x: Array) -> Array:
    """1 - tanh² x as 4 e / (1 + e)² with e = exp(-2 |x|): no digits are lost near tanh x = 1.

    >>> tanh_slope(jnp.array([0.0, 20.0]))
    Array([1.0000000e+00, 1.6993417e-17], dtype=float32)
    """
    e = jnp.exp(-2 * jnp.abs(x))
    return 4 * e / (1 + e) ** 2
