"""What a row of a loss weighs, and which rows count at all: shared by the losses."""

from __future__ import annotations

import jax.numpy as jnp

from funcnn.core.usage import as_integer
from funcnn.rules.shared.arguments import describe, floating
from funcnn.types import Array, ArrayLike


def counted(rule: str, labels: Array, ignored: int | None) -> Array | None:
    """Which labels count; None where all do, as no label is ignored.

    >>> counted("logistic", jnp.array([1, -1]), -1)
    Array([ True, False], dtype=bool)
    """
    if ignored is None:
        return None
    if as_integer(ignored) is None:
        raise ValueError(f"{rule}: ignored is an integer or None, found {ignored!r}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{rule}: ignored={ignored} is for integer labels, found {describe(labels)}; "
            "give those to leave out the weight 0"
        )
    held = jnp.iinfo(labels.dtype)
    if not held.min <= ignored <= held.max:
        raise ValueError(f"{rule}: no label of {labels.dtype} is {ignored}, which is to be ignored")
    return labels != ignored


def checked_weights(rule: str, weights: ArrayLike | None, name: str, rows: Array) -> Array | None:
    """The weights as an array, one for each of the rows, or one line; None stays None.

    >>> checked_weights("logistic", jnp.ones(2), "z", jnp.ones(3))
    Traceback (most recent call last):
    ValueError: logistic: weights must have the shape of z float32[3], found float32[2]
    """
    if weights is None:
        return None
    (weights,) = floating(rule, weights=weights)
    if weights.shape != rows.shape:
        raise ValueError(
            f"{rule}: weights must have the shape of {name} {describe(rows)}, "
            f"found {describe(weights)}"
        )
    return weights


def weighed(
    losses: Array, weights: Array | None, mask: Array | None
) -> tuple[Array, tuple[Array, Array] | None]:
    """v l, and what `weights_of` needs; of rows that do not count 0, whatever they hold.

    >>> weighed(jnp.array([2.0, jnp.nan]), jnp.array([3.0, 1.0]), jnp.array([True, False]))[0]
    Array([6., 0.], dtype=float32)
    """
    losses = losses if mask is None else jnp.where(mask, losses, 0)
    if weights is None:
        return losses, None
    weights = weights if mask is None else jnp.where(mask, weights, 0)
    return weights.astype(losses.dtype) * losses, (weights, losses)


def weights_of(dl: Array, kept: tuple[Array, Array] | None) -> tuple[Array, Array | None]:
    """dl v, and dv = dl l, from the weights and the losses without them; None without weights.

    >>> weights_of(jnp.array([2.0]), (jnp.array([3.0]), jnp.array([5.0])))
    (Array([6.], dtype=float32), Array([10.], dtype=float32))
    """
    if kept is None:
        return dl, None
    weights, losses = kept
    # A row that the caller has taken out of the loss may be NaN or infinite.
    dv = jnp.where(dl == 0, 0, dl * losses)
    return dl * weights.astype(dl.dtype), dv.astype(weights.dtype)
