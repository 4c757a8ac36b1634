"""A few of the calls of a site: their operands, chosen while the program runs.

Of many calls, in a loop, four are kept: the first, the last, and those with the largest and the
smallest numbers, where a rule that is right in between shows that it is wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import Array, ArrayLike

_KEPT = 4


class Calls(NamedTuple):
    """The calls of a site up to here.

    Attributes:
        number: how many there were.
        sizes: how large the numbers are in each call that is kept (1 or 4).
        operands: each stacked over the calls that are kept.
    """

    number: Array
    sizes: Array
    operands: list[Any]

    @property
    def in_a_loop(self) -> bool:
        """Whether there may be more than one."""
        return np.shape(self.sizes) == (_KEPT,)


def one_call(reached: ArrayLike, operands: list[Any]) -> Calls:
    """The one call of a site that stands in no loop; none, where it is not reached.

    >>> one_call(True, [np.array([1.0, -3.0])]).sizes
    Array([3.], dtype=float32)
    """
    sizes = jnp.stack([sum(map(_size, operands), jnp.float32(0))])
    return Calls(jnp.int32(reached), sizes, [x[None] for x in map(jnp.asarray, operands)])


def none_yet(shapes: Calls) -> Calls:
    """What a loop starts with, for the calls that its body makes in one step.

    >>> before = none_yet(jax.eval_shape(one_call, True, [np.ones(2)]))
    >>> int(before.number), before.operands[0].shape
    (0, (4, 2))
    """
    operands = [jnp.zeros((_KEPT, *x.shape[1:]), x.dtype) for x in shapes.operands]
    return Calls(jnp.int32(0), jnp.zeros(_KEPT, shapes.sizes.dtype), operands)


def joined(before: Calls, now: Calls) -> Calls:
    """The calls of a loop up to a step, and those of the step.

    >>> calls = none_yet(jax.eval_shape(one_call, True, [np.ones(())]))
    >>> for x in (2.0, 5.0, 1.0, 3.0):
    ...     calls = joined(calls, one_call(True, [np.float32(x)]))
    >>> int(calls.number), [float(x) for x, in each_of(calls)]
    (4, [2.0, 3.0, 5.0, 1.0])
    """
    never, always = jnp.bool_(False), jnp.bool_(True)
    sizes = jnp.broadcast_to(now.sizes, (_KEPT,))
    larger, smaller = sizes[2] > before.sizes[2], sizes[3] < before.sizes[3]
    better = jnp.stack([never, always, larger, smaller]) | (before.number == 0)  # (4,)
    better &= now.number > 0

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(_KEPT, *[1] * (old.ndim - 1)), new, old)

    operands = list(map(chosen, now.operands, before.operands))
    return Calls(before.number + now.number, jnp.where(better, sizes, before.sizes), operands)


def each_of(calls: Calls) -> tuple[tuple[Any, ...], ...]:
    """The operands of each call that was kept, those that are the same once.

    >>> len(each_of(one_call(True, [np.ones(2)])))
    1
    """
    different: dict[Any, tuple[Any, ...]] = {}
    for k in range(len(np.asarray(calls.sizes))):
        row = tuple(x[k] for x in calls.operands)
        different.setdefault(tuple(map(_bits, row)), row)
    return tuple(different.values())


def _bits(x: Array) -> bytes:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x).tobytes()


def _size(x: ArrayLike) -> Array:
    """The largest magnitude among the numbers that are finite; 0 of what is no floating point."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        return jnp.float32(0)
    return jnp.max(jnp.where(jnp.isfinite(x), jnp.abs(x), 0), initial=0).astype(jnp.float32)
