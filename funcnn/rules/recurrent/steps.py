"""What the recurrent rules share: their arguments, lengths, and the products taken for all steps.

Inside the rules time is the first axis, (T, N, ...), so that a step of a scan is a block of memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from funcnn.core.devices import varying_as
from funcnn.rules.shared.arguments import describe, floating, same_dtype
from funcnn.rules.shared.numerics import accumulator, contract
from funcnn.types import Array, ArrayLike


def steps_first(x: Array) -> Array:
    """(N, T, D) as (T, N, D), and back.

    >>> steps_first(jnp.zeros((2, 5, 3))).shape
    (5, 2, 3)
    """
    return jnp.swapaxes(x, 0, 1)


def active_steps(lengths: Array | None, steps: int) -> Array | None:
    """True where a step lies within its sequence, (T, N, 1); None where all of them do.

    >>> active_steps(jnp.array([1, 3]), 3)[..., 0].astype(int)
    Array([[1, 1],
           [0, 1],
           [0, 1]], dtype=int32)
    """
    if lengths is None:
        return None
    time = jax.lax.broadcasted_iota(lengths.dtype, (steps, *lengths.shape, 1), 0)
    return time < lengths[None, :, None]


def where_active(active: Array | None, new: Array, old: ArrayLike) -> Array:
    """`new` where the step lies within its sequence, `old` beyond its end.

    >>> where_active(None, 1.0, 2.0)
    1.0
    """
    return new if active is None else jnp.where(active, new, old)


def project(x: Array, w: Array) -> Array:
    """x w for all steps in one product, at least in float32: (T, N, D) to (T, N, K).

    >>> project(jnp.ones((5, 2, 3)), jnp.ones((3, 4))).shape
    (5, 2, 4)
    """
    z = jnp.matmul(_rows(x), w, preferred_element_type=accumulator(x))  # (T * N, K)
    return z.reshape(*x.shape[:2], w.shape[1])  # (T, N, K)


def add_bias(a: Array, b: Array) -> Array:
    """a + b of one step, in the dtype of a: added to all steps at once, z would be written twice.

    >>> add_bias(jnp.zeros((1, 2)), jnp.array([1.0, 2.0]))
    Array([[1., 2.]], dtype=float32)
    """
    return a + jnp.broadcast_to(b, a.shape).astype(a.dtype)


def unwritten(like: Array, columns: int) -> Array:
    """What `with_step` fills: (T, N, columns) for the steps and rows of `like`, in its dtype.

    Of one step where there is none, as a step is traced all the same.

    >>> unwritten(jnp.zeros((5, 2, 3)), 4).shape, unwritten(jnp.zeros((0, 2, 3)), 4).shape
    ((5, 2, 4), (1, 2, 4))
    """
    steps = max(like.shape[0], 1)
    return varying_as(jnp.zeros((steps, like.shape[1], columns), like.dtype), like)


def with_step(stacked: Array, step: Array | int, blocks: Sequence[Array]) -> Array:
    """The array (T, N, K) with the blocks of columns of one step, (N, H) each, written in place.

    On a CPU one by one: joined first, the block would be chosen anew for each of the elements. On
    other platforms together, as each writing is a kernel.

    >>> with_step(jnp.zeros((2, 1, 2)), 1, [jnp.ones((1, 1)), jnp.full((1, 1), 2.0)])[1]
    Array([[1., 2.]], dtype=float32)
    """

    def one_by_one(stacked: Array, step: Array | int, *blocks: Array) -> Array:
        column = 0
        for block in blocks:
            stacked = jax.lax.dynamic_update_slice(stacked, block[None], (step, 0, column))
            column += block.shape[-1]
        return stacked

    def together(stacked: Array, step: Array | int, *blocks: Array) -> Array:
        joined = jnp.concatenate(blocks, axis=-1)[None]
        return jax.lax.dynamic_update_slice(stacked, joined, (step, 0, 0))

    blocks = [block.astype(stacked.dtype) for block in blocks]
    arguments = stacked, step, *blocks
    return jax.lax.platform_dependent(*arguments, cpu=one_by_one, default=together)


def recur(h: Array, u: Array) -> Array:
    """h u of one step, at least in float32.

    >>> recur(jnp.ones((2, 3)), jnp.ones((3, 4))).shape
    (2, 4)
    """
    return jnp.matmul(h, u, preferred_element_type=accumulator(h))


def before_each_step(start: Array, after: Array, active: Array | None, reverse: bool) -> Array:
    """The state before each step, (T, N, H), from that at the start and those after each step.

    From the end, a padded sequence starts at its own last step.

    >>> before_each_step(jnp.zeros((1, 1)), jnp.array([[[1.0]], [[2.0]]]), None, False)[:, 0, 0]
    Array([0., 1.], dtype=float32)
    """
    if not reverse:
        return jnp.concatenate([start[None], after])[:-1]
    before = jnp.concatenate([after, start[None]])[1:]
    if active is None:
        return before
    started = jnp.concatenate([active, jnp.zeros_like(active[:1])])[1:]  # (T, N, 1)
    return jnp.where(started, before, start[None])


def weight_gradient(inputs: Array, dz: Array) -> Array:
    """Σ over steps and rows of inputsᵀ dz, as one matrix product: (T, N, D), (T, N, K) to (D, K).

    >>> weight_gradient(jnp.ones((5, 2, 3)), jnp.ones((5, 2, 4)))[0, 0]
    Array(10., dtype=float32)
    """
    return contract(_rows(inputs), _rows(dz), 0, 0).astype(inputs.dtype)


def bias_gradient(dz: Array) -> Array:
    """Σ over steps and rows of dz, (T, N, K) to (K,).

    >>> bias_gradient(jnp.ones((5, 2, 1)))
    Array([10.], dtype=float32)
    """
    return jnp.sum(_rows(dz), 0, dtype=accumulator(dz)).astype(dz.dtype)


def input_gradient(dz: Array, w: Array) -> Array:
    """dz wᵀ, as one matrix product: (T, N, K) to (T, N, D).

    >>> input_gradient(jnp.ones((5, 2, 4)), jnp.ones((3, 4))).shape
    (5, 2, 3)
    """
    dx = contract(_rows(dz), w, 1, 1).astype(w.dtype)  # (T * N, D)
    return dx.reshape(*dz.shape[:2], w.shape[0])


def _rows(x: Array) -> Array:
    """All steps of all sequences below each other, (T * N, D)."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def checked(
    rule: str,
    x: ArrayLike,
    carry: dict[str, ArrayLike],
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None,
    **sizes: int,
) -> tuple[*tuple[Array, ...], Array | None]:
    """x, the carries, w, u, b and lengths as arrays, or one clear line.

    Inside a `shard_map` the carries vary as what the steps make of them.

    Args:
        rule: whose arguments they are.
        carry: the carries by name, each (N, H).
        sizes: gates, how many blocks of H columns w and u have; biases, how many b has.

    >>> checked("rnn", jnp.ones((2, 5, 3)), {"h": jnp.ones((2, 4))}, jnp.ones((3, 8)),
    ...         jnp.ones((4, 4)), jnp.ones(4), None, gates=1, biases=1)
    Traceback (most recent call last):
    ValueError: rnn: w must have shape (D, H) = (3, 4), found float32[3, 8]
    """
    x, w, u, b = floating(rule, x=x, w=w, u=u, b=b)
    carries = floating(rule, **carry)
    same_dtype(rule, x=x, **dict(zip(carry, carries, strict=True)), w=w, u=u, b=b)
    if x.ndim != 3:
        raise ValueError(f"{rule}: x must have shape (N, T, D), found {describe(x)}")
    if u.ndim != 2:
        raise ValueError(f"{rule}: u must have two axes, found {describe(u)}")
    rows, _, depth = x.shape
    hidden, gates, biases = u.shape[0], sizes["gates"], sizes["biases"]
    times = "" if gates == 1 else str(gates)
    of_bias = "" if biases == 1 else str(biases)
    expected = {
        "w": (w, f"(D, {times}H)", (depth, gates * hidden)),
        "u": (u, f"(H, {times}H)", (hidden, gates * hidden)),
        "b": (b, f"({of_bias}H,)", (biases * hidden,)),
        **{n: (a, "(N, H)", (rows, hidden)) for n, a in zip(carry, carries, strict=True)},
    }
    for name, (a, letters, shape) in expected.items():
        if a.shape != shape:
            raise ValueError(
                f"{rule}: {name} must have shape {letters} = {shape}, found {describe(a)}"
            )
    lengths = _checked_lengths(rule, lengths, rows)
    return x, *varying_as(carries, x, w, u, b, lengths), w, u, b, lengths


def _checked_lengths(rule: str, lengths: ArrayLike | None, rows: int) -> Array | None:
    if lengths is None:
        return None
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"{rule}: lengths must be integers, found {describe(lengths)}")
    if lengths.shape != (rows,):
        raise ValueError(
            f"{rule}: lengths must have shape (N,) = ({rows},), found {describe(lengths)}"
        )
    # A narrow integer cannot count the steps.
    return lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)
