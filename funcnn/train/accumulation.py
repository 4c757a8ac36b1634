"""The value and the gradient of a loss over a batch: at once, or part by part of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from funcnn.core.precision import wide
from funcnn.train.extra import same_types
from funcnn.train.loss import CheckedLoss, Outcome
from funcnn.train.signature import leaf_name
from funcnn.train.statistics import pooled_statistics
from funcnn.types import Array, Batch, Key, PyTree

# (params, batch, key, extra, scale) -> value, what else the loss returned, gradient. Where there is
# a scale, the loss is multiplied by it before it is differentiated, and the gradient divided.
Differentiated: TypeAlias = Callable[
    [PyTree, Batch, Key, PyTree, Array | None], tuple[Array, Outcome, PyTree]
]
# (params, batch, key, extra) -> value
Valued: TypeAlias = Callable[[PyTree, Batch, Key, PyTree], Array]


def differentiated(loss: CheckedLoss, accumulate: int) -> Differentiated:
    """The loss with its gradient, over a batch that is cut in `accumulate` parts.

    The parts come one after the other, so that the arrays of one alone are in memory. Value,
    metrics and gradient are the means over them, each part with the `weight` that the loss gives
    it: to rounding what the whole batch gives where no row depends on the others. A batch norm
    normalises each part by itself; its statistics are those of the whole. Each part has its own
    key, and the `extra` that the part before left.

    Row i of the batch is in part i % accumulate: where the rows lie in parts on many devices, so
    does each part.

    >>> from funcnn.train.loss import checked_loss
    >>> loss = checked_loss(lambda params, batch, key: jnp.mean(params * batch))
    >>> batch, key = jnp.arange(4.0), jax.random.key(0)
    >>> value, _, gradient = differentiated(loss, 2)(jnp.array(2.0), batch, key, {}, None)
    >>> float(value), float(gradient)
    (3.0, 1.5)
    """
    at_once = _at_once(loss)
    return at_once if accumulate == 1 else _by_parts(at_once, accumulate)


def valued(loss: CheckedLoss, accumulate: int) -> Valued:
    """The value that `differentiated` gives, alone: for an optimizer that asks for it again.

    The parts have the same keys, without which a line search would compare two losses; for a
    gradient each is computed again, so that one alone is in memory.

    >>> from funcnn.train.loss import checked_loss
    >>> loss = checked_loss(lambda params, batch, key: jnp.mean(params * batch))
    >>> float(valued(loss, 2)(jnp.array(2.0), jnp.arange(4.0), jax.random.key(0), {}))
    3.0
    """
    if accumulate == 1:
        return lambda params, batch, key, extra: loss(params, batch, key, extra)[0]

    def value_by_parts(params: PyTree, batch: Batch, key: Key, extra: PyTree) -> Array:
        @jax.checkpoint
        def of_part(
            params: PyTree, extra: PyTree, rows: Batch, i: Array
        ) -> tuple[PyTree, tuple[Array, Array]]:
            value, outcome = loss(params, rows, jax.random.fold_in(key, i), extra)
            return _further(outcome, extra), (value, outcome.weight)

        parts = _cut(batch, accumulate), jnp.arange(accumulate)
        _, (values, weights) = jax.lax.scan(
            lambda extra, part: of_part(params, extra, *part), extra, parts
        )
        total = jnp.sum(_weighted(values, weights, wide(values.dtype)))
        return _mean(total, _all_of(weights), values.dtype)

    return value_by_parts


def _at_once(loss: CheckedLoss) -> Differentiated:
    def at_once(
        params: PyTree, batch: Batch, key: Key, extra: PyTree, scale: Array | None
    ) -> tuple[Array, Outcome, PyTree]:
        def objective(params: PyTree) -> tuple[Array, tuple[Array, Outcome]]:
            value, outcome = loss(params, batch, key, extra)
            scaled = value if scale is None else _widened(value) * scale.astype(wide(value.dtype))
            return scaled, (value, outcome)

        (_, (value, outcome)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        if scale is not None:
            gradient = jax.tree.map(lambda g: _divided(g, scale), gradient)
        return value, outcome, gradient

    return at_once


def _by_parts(at_once: Differentiated, accumulate: int) -> Differentiated:
    def by_parts(
        params: PyTree, batch: Batch, key: Key, extra: PyTree, scale: Array | None
    ) -> tuple[Array, Outcome, PyTree]:
        def add(
            sums: tuple[PyTree, PyTree], part: tuple[Batch, Array]
        ) -> tuple[tuple[PyTree, PyTree], tuple[PyTree, Array]]:
            total, extra = sums
            rows, i = part
            own = jax.random.fold_in(key, i)
            value, outcome, gradient = at_once(params, rows, own, extra, scale)
            found = (value, outcome.metrics, gradient)
            total = jax.tree.map(
                lambda t, x: t + _weighted(x, outcome.weight, t.dtype), total, found
            )
            return (total, _further(outcome, extra)), (outcome.statistics, outcome.weight)

        parts = _cut(batch, accumulate)
        first = jax.tree.map(lambda x: x[0], parts)
        value, outcome, gradient = jax.eval_shape(at_once, params, first, key, extra, scale)
        shapes = (value, outcome.metrics, gradient)
        sums, (statistics, weights) = jax.lax.scan(
            add, (jax.tree.map(_wide_zeros, shapes), extra), (parts, jnp.arange(accumulate))
        )
        total = _all_of(weights)
        value, metrics, gradient = jax.tree.map(
            lambda t, like: _mean(t, total, like.dtype), sums[0], shapes
        )
        return value, Outcome(metrics, pooled_statistics(statistics), sums[1], total), gradient

    return by_parts


def _further(outcome: Outcome, extra: PyTree) -> PyTree:
    """The `extra` of the next part, from that of this one."""
    further = extra if outcome.extra is None else outcome.extra
    return same_types(further, extra, "the loss returns another extra")


def _all_of(weights: Array) -> Array:
    """The sum of the weights, 1 where nothing counts: what a mean is divided by."""
    total = jnp.sum(weights)
    return jnp.where(total == 0, 1, total)


def _cut(batch: Batch, parts: int) -> Batch:
    """(B, ...) -> (parts, B / parts, ...) of each array; what has no rows is in each part."""

    def cut(path: tuple[PyTree, ...], x: Array) -> Array:
        x = jnp.asarray(x)
        if not x.ndim:
            return jnp.broadcast_to(x, (parts,))
        if x.shape[0] % parts:
            raise ValueError(
                f"batch leaf '{leaf_name(path)}' has {x.shape[0]} rows, which cannot be cut in "
                f"accumulate = {parts} equal parts"
            )
        x = x.reshape(-1, parts, *x.shape[1:])  # (B / parts, parts, ...)
        return jnp.swapaxes(x, 0, 1)

    return jax.tree_util.tree_map_with_path(cut, batch)


def _wide_zeros(shape: jax.ShapeDtypeStruct) -> Array:
    """Where sums of many parts begin: in float32 at least they lose nothing."""
    return jnp.zeros(shape.shape, wide(shape.dtype))


def _weighted(x: Array, weight: Array, dtype: jnp.dtype) -> Array:
    """What a part gives to a sum; one of which no row counts gives nothing, be its mean 0 / 0."""
    return jnp.where(weight == 0, 0, weight.astype(dtype) * x.astype(dtype))


def _mean(total: Array, weight: Array, dtype: jnp.dtype) -> Array:
    mean = total / weight.astype(total.dtype)
    return mean.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else mean


def _divided(gradient: Array, scale: Array) -> Array:
    widened = _widened(gradient)
    return (widened / scale.astype(widened.dtype)).astype(gradient.dtype)


def _widened(x: Array) -> Array:
    return x.astype(wide(x.dtype))
