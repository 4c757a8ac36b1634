"""Work done a chunk at a time: of how many images or rows, and the sum of what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnn.rules.shared.arguments import at_least, is_known
from funcnn.types import Array, PyTree


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor that is not above the limit, so that parts of that size are all equal.

    Where the number is left open, 1 is the only one that is known.

    >>> largest_divisor(28, 10), largest_divisor(7, 3), largest_divisor(0, 5)
    (7, 1, 1)
    """
    number = at_least(number)
    return next((n for n in range(min(limit, number), 1, -1) if number % n == 0), 1)


def sum_in_a_loop(part: Callable[[Array | int], PyTree], count: Any) -> PyTree:
    """Σ_i part(i), i = 0, ..., count - 1, of trees; it begins with the first one instead of with 0.

    Where the count is left open a loop over the others might be empty, which `lax.scan` refuses.

    >>> sum_in_a_loop(lambda i: jnp.array([1, i]), 4)
    Array([4, 6], dtype=int32)
    """
    if is_known(count):
        total, numbers = part(0), jnp.arange(1, count) if count > 1 else None
    else:
        total = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(part, 0))
        numbers = jnp.arange(count)
    if numbers is None:
        return total
    return lax.scan(lambda sums, i: (jax.tree.map(jnp.add, sums, part(i)), None), total, numbers)[0]
