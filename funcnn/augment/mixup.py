"""Mixed images: each with another of its batch, and the labels of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.core.usage import number
from funcnn.rules.shared.arguments import floating
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key


class MixedLabels(NamedTuple):
    """What mixed images show: `y` with `weight` (N,), and `other` with 1 - weight.

    >>> MixedLabels(jnp.array([1]), jnp.array([0]), jnp.array([0.75])).weight
    Array([0.75], dtype=float32)
    """

    y: Array
    other: Array
    weight: Array


def mixup(
    key: Key | None, x: ArrayLike, y: ArrayLike, *, alpha: float = 0.2
) -> tuple[Array, MixedLabels]:
    """Each image mixed with another, w x + (1 - w) x', and the labels of both with their weights.

    Labels stay pairs, so that they need not become probabilities of classes: a cross entropy is
    linear in those, and w loss(logits, y) + (1 - w) loss(logits, y') is that of the mixed ones.
    `mixed_losses` takes it. Without a key nothing is mixed, and all weights are 1.

    Shapes: x (N, ...), floating point; y (N, ...) of any dtype. The numbers drawn, from
    `pairs, weights = jax.random.split(key)`: the others, permutation(pairs, N), among which an
    image may be its own; w, beta(weights, alpha, alpha, (N,)), in float32 at least.

    Raises:
        TypeError: x is not floating point.
        ValueError: alpha is not positive, or y has another number of rows.

    Source: Zhang, Cissé, Dauphin, Lopez-Paz, mixup: beyond empirical risk minimization, 2018, with
    a w for each image in place of one for all.

    >>> x, labels = mixup(jax.random.key(0), jnp.eye(3), jnp.array([0, 1, 2]))
    >>> x.shape, labels.weight.shape
    ((3, 3), (3,))
    >>> bool(jnp.allclose(x.sum(1), 1))
    True
    """
    (x,) = floating("mixup", x=x)
    y = jnp.asarray(y)
    number("mixup", "alpha", alpha)
    if not alpha > 0:
        raise ValueError(f"mixup: alpha is positive, found {alpha!r}")
    if not x.shape or y.shape[:1] != x.shape[:1]:
        raise ValueError(f"mixup: x and y must have as many rows, found {x.shape} and {y.shape}")
    rows, dtype = x.shape[0], accumulator(x)
    if key is None:
        return x, MixedLabels(y, y, jnp.ones(rows, dtype))
    pairs, weights = jax.random.split(key)
    other = jax.random.permutation(pairs, rows)  # (N,)
    weight = jax.random.beta(weights, alpha, alpha, (rows,), dtype)
    w = weight.reshape((rows,) + (1,) * (x.ndim - 1))  # (N, 1, ...)
    mixed = w * x.astype(dtype) + (1 - w) * x[other].astype(dtype)
    return mixed.astype(x.dtype), MixedLabels(y, y[other], weight)


def mixed_losses(
    losses: Callable[[Array, Array], Array], logits: Array, labels: MixedLabels
) -> Array:
    """The loss of each row (N,) for mixed labels, from one of rows, `losses(logits, y) -> (N,)`.

    >>> from funcnn import rules
    >>> labels = MixedLabels(jnp.array([1]), jnp.array([0]), jnp.array([0.75]))
    >>> mixed_losses(rules.softmax_cross_entropy, jnp.array([[0.0, 1.0]]), labels).round(3)
    Array([0.563], dtype=float32)
    """
    one, other = losses(logits, labels.y), losses(logits, labels.other)  # (N,)
    weight = labels.weight.astype(one.dtype)
    return weight * one + (1 - weight) * other
