"""A loss as a step takes it: one form for all that `loss(params, batch, key)` may return."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp

from funcnn.core.precision import wide
from funcnn.train.extra import EXTRA, takes_extra
from funcnn.train.statistics import Statistics
from funcnn.types import Array, Batch, Key, Loss, PyTree

RESERVED = ("loss", "gradient_norm", "skipped", "halted_at", "loss_scale")
STATISTICS, WEIGHT = "statistics", "weight"


class Outcome(NamedTuple):
    """What a loss returns beside its value.

    Fields: `metrics`, scalars by name; `statistics`, those of batch norm; `extra`, the next one, or
    None where the loss leaves it as it is; `weight`, of how many rows or tokens the value is the
    mean, 1 where the loss does not say.
    """

    metrics: dict[str, Array]
    statistics: Statistics
    extra: PyTree
    weight: Array


# loss(params, batch, key, extra) -> value, and what else it returned.
CheckedLoss: TypeAlias = Callable[[PyTree, Batch, Key, PyTree], tuple[Array, Outcome]]


def checked_loss(loss: Loss) -> CheckedLoss:
    """The loss in the form of a step; what it returns is checked when it is traced.

    >>> value, outcome = checked_loss(lambda params, batch, key: params * batch)(
    ...     jnp.array(2.0), jnp.array(3.0), jax.random.key(0), {})
    >>> float(value), outcome.metrics, float(outcome.weight)
    (6.0, {}, 1.0)
    """
    with_extra = takes_extra(loss)

    def checked(params: PyTree, batch: Batch, key: Key, extra: PyTree) -> tuple[Array, Outcome]:
        further = {EXTRA: extra} if with_extra else {}
        return _checked(loss(params, batch, key, **further))

    return checked


def _checked(output: PyTree) -> tuple[Array, Outcome]:
    value, metrics = output if isinstance(output, tuple) and len(output) == 2 else (output, {})
    if not _is_scalar(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"loss must return a floating point scalar, found {_describe(value)}")
    if not isinstance(metrics, dict):
        raise TypeError(f"loss must return its metrics as a dict, found {_describe(metrics)}")
    statistics, extra = metrics.get(STATISTICS, {}), metrics.get(EXTRA)
    weight = metrics.get(WEIGHT, jnp.ones((), wide(value.dtype)))
    others = (STATISTICS, EXTRA, WEIGHT)
    metrics = {name: x for name, x in metrics.items() if name not in others}
    for name, metric in {**metrics, WEIGHT: weight}.items():
        if name in RESERVED:
            raise TypeError(f"loss returns a metric named '{name}', which the step itself gives")
        if not _is_scalar(metric):
            raise TypeError(f"metric '{name}' must be a scalar, found {_describe(metric)}")
    # Weights are added up.
    return value, Outcome(metrics, statistics, extra, weight.astype(wide(weight.dtype)))


def _is_scalar(value: PyTree) -> TypeGuard[Array]:
    is_array = jax.tree.all(jax.tree.map(lambda x: hasattr(x, "dtype"), value))
    return is_array and jax.tree.structure(value) == jax.tree.structure(0) and value.shape == ()


def _describe(value: PyTree) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"
