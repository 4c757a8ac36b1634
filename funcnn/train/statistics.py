"""The statistics of batch norm: their running mean in training, and the params of evaluation.

They are `{path: (mean, variance, count)}`, as `model.statistics` returns them for one batch: the
path of the layer's parameters, mean and variance (C,), and the number of rows they are taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from funcnn.train.signature import differences, first_of, signature
from funcnn.types import Array, Params, PyTree

# The path of a batch norm -> mean, variance and number of rows: arrays, or their shapes.
Statistics = Mapping[str, tuple[Any, Any, Any]]


def zero_statistics(like: Statistics) -> Statistics:
    """The running statistics before the first batch, from those of any batch or their shapes.

    >>> zero_statistics({"norm": (jnp.ones(2), jnp.ones(2), jnp.ones(()))})["norm"][2]
    Array(0., dtype=float32)
    """
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like)


def merge_statistics(running: Statistics, batch: Statistics, momentum: float) -> Statistics:
    """The running statistics after one more batch.

    A new batch has the weight of its share of all rows so far, but 1 - momentum at least: the mean
    is first that of all batches, and later one that forgets, with no start value to forget. The
    variance is averaged likewise; both are those of the batches, as in Flax.

    Raises:
        TypeError: the batch has statistics of other layers, shapes or dtypes, or none.

    >>> one, two = ({"": (m * jnp.ones(1), jnp.ones(1), jnp.ones(()))} for m in (1.0, 2.0))
    >>> mean, variance, count = merge_statistics(one, two, momentum=0.9)[""]
    >>> mean, variance, count
    (Array([1.5], dtype=float32), Array([1.], dtype=float32), Array(2., dtype=float32))
    """
    if running and not batch:
        raise TypeError(
            f"the loss returns no statistics, and the state holds those of batch norm "
            f"{', '.join(map(repr, running))}: take y, statistics = "
            f"model.value_and_statistics(params, x, key) in the loss, and return statistics among "
            f"its metrics, (loss, {{'statistics': statistics}})"
        )
    changes = differences(signature(running), signature(batch))
    if changes:
        raise TypeError(
            "the loss returns other statistics than the state holds, "
            f"{first_of(changes)}: make the state with TrainState.create(params, optimizer, seed, "
            "statistics=model.statistics(params, x, key))"
        )

    def merged(path: str) -> tuple[Array, Array, Array]:
        (mean, variance, seen), (new_mean, new_variance, count) = running[path], batch[path]
        total = seen + count
        weight = jnp.maximum(count / total, 1 - momentum)[..., None]  # (1,); repeated, (n, 1)
        mean = mean + weight * (new_mean - mean)  # (C,); repeated, (n, C)
        return mean, variance + weight * (new_variance - variance), total

    return {path: merged(path) for path in running}


def pooled_statistics(parts: Statistics) -> Statistics:
    """The statistics of a batch from those of its parts, stacked on axis 0.

    Mean and variance are those of all rows: the variance is that within the parts and that between
    their means.

    >>> two = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [1.0]]), jnp.array([4.0, 4.0])
    >>> mean, variance, count = pooled_statistics({"norm": two})["norm"]
    >>> mean, variance, count
    (Array([1.], dtype=float32), Array([2.], dtype=float32), Array(8., dtype=float32))
    """

    def pooled(means: Array, variances: Array, counts: Array) -> tuple[Array, Array, Array]:
        total = jnp.sum(counts, axis=0)
        weights = (counts / total)[..., None]  # (n, 1); repeated, (n, layers, 1)
        mean = jnp.sum(weights * means, axis=0)  # (C,)
        within = variances + jnp.square(means - mean[None])  # (n, C)
        return mean, jnp.sum(weights * within, axis=0), total

    return {path: pooled(*stacked) for path, stacked in parts.items()}


def fold_statistics(params: PyTree, statistics: Statistics, *, frozen: bool = False) -> PyTree:
    """The params of evaluation: with `mean` and `variance` beside `scale` and `bias`.

    Args:
        params: those of training; they are left as they are.
        statistics: of a batch, `model.statistics(params, x, key)`, or `state.statistics`.
        frozen: whether a key, too, leaves them in use, as constants, where a dropout drops by it.
            Fold them inside the loss, so that no optimizer sees them; such a model has no
            statistics of its batches to return. They stand as `frozen_mean`, `frozen_variance`.

    Raises:
        KeyError: params have no layer at one of the paths.
        ValueError: the statistics of a layer are those of no batch yet.

    >>> params = {"norm": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}}
    >>> folded = fold_statistics(params, {"norm": (jnp.ones(1), jnp.ones(1), jnp.ones(()))})
    >>> list(folded["norm"])
    ['scale', 'bias', 'mean', 'variance']
    """
    prefix = "frozen_" if frozen else ""
    for path, (mean, variance, count) in statistics.items():
        if not isinstance(count, Tracer) and np.any(np.asarray(count) == 0):
            raise ValueError(f"fold_statistics: {path}: no batch has been seen yet, count is 0")
        names = path.split("/") if path else []
        entries = {f"{prefix}mean": mean, f"{prefix}variance": variance}
        params = _with(params, names, entries, path)
    return params


def _with(params: Params, names: list[str], entries: dict[str, Array], path: str) -> Params:
    """A copy of the nested params with further entries at the place that the names lead to."""
    if not names:
        return {**params, **entries}
    first, *rest = names
    if first not in params:
        raise KeyError(f"fold_statistics: params have no layer {path!r}")
    return {**params, first: _with(params[first], rest, entries, path)}
