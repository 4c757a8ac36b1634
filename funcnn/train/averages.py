"""Averages of the parameters over the steps, kept beside them and evaluated in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.core.precision import wide
from funcnn.types import Array, PyTree

# Where the averages stand in the `extra` of a state.
AVERAGES = "averages"


class Averaging(NamedTuple):
    """What `average_params` gives: two pure functions, for the state and for the step.

    Fields: `start(params) -> {"averages": ...}`, the beginning of a state's `extra`;
    `update(params, extra, step) -> extra`, the `after_update` of a step.

    >>> list(average_params(0.99).start({"w": jnp.ones(2)}))
    ['averages']
    """

    start: Callable[[PyTree], dict[str, PyTree]]
    update: Callable[[PyTree, PyTree, Array], dict[str, PyTree]]


def average_params(decay: float) -> Averaging:
    """Keep an exponential moving average of the params, which evaluation then uses.

    After update t the average a becomes a + w (params - a) with w = max(1 - decay, 1 / t): first
    the mean of all params so far, later one that forgets, with no start value to forget. It is
    kept in float32 at least, where steps of 1 - decay do not vanish. `state.evaluation_params()`
    gives the averages, in the dtypes of the params, where `extra` holds some; the running
    statistics of batch norm stay those of the params that were trained.

    Source: Polyak, Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Raises:
        ValueError: decay is outside [0, 1).

    >>> import optax
    >>> from funcnn.train import TrainState, make_step
    >>> averaging, optimizer = average_params(0.5), optax.sgd(1.0)
    >>> params = jnp.zeros(())
    >>> state = TrainState.create(params, optimizer, seed=0, extra=averaging.start(params))
    >>> loss = lambda params, batch, key: -params  # each step adds 1
    >>> step = make_step(loss, optimizer, after_update=averaging.update)
    >>> for _ in range(3):
    ...     state, _ = step(state, jnp.zeros(1))
    >>> float(state.params), float(state.evaluation_params())  # (1 + 2) / 2, then half of 3
    (3.0, 2.25)
    """
    if not 0 <= decay < 1:
        raise ValueError(f"average_params: decay is at least 0 and below 1, found {decay!r}")

    def start(params: PyTree) -> dict[str, PyTree]:
        return {AVERAGES: jax.tree.map(_wide, params)}

    def update(params: PyTree, extra: PyTree, step: Array) -> dict[str, PyTree]:
        if not holds_averages(extra):
            raise TypeError(
                "average_params: the state holds no averages: make it with "
                "TrainState.create(params, optimizer, seed, extra=averaging.start(params))"
            )

        def averaged(average: Array, param: Array) -> Array:
            weight = jnp.maximum(1 - decay, 1 / step.astype(average.dtype))
            return average + weight * (param.astype(average.dtype) - average)

        return {**extra, AVERAGES: jax.tree.map(averaged, extra[AVERAGES], params)}

    return Averaging(start, update)


def holds_averages(extra: PyTree) -> bool:
    """Whether the `extra` of a state has averages of the params.

    >>> holds_averages({}), holds_averages({"averages": jnp.ones(2)})
    (False, True)
    """
    return isinstance(extra, Mapping) and AVERAGES in extra


def averages_or_params(params: PyTree, extra: PyTree) -> PyTree:
    """The averages in the dtypes of the params, or the params where there are none.

    >>> averages_or_params(jnp.zeros(2, jnp.bfloat16), {"averages": jnp.ones(2)})
    Array([1, 1], dtype=bfloat16)
    """
    if not holds_averages(extra):
        return params
    return jax.tree.map(lambda p, a: a.astype(p.dtype), params, extra[AVERAGES])


def _wide(param: Array) -> Array:
    param = jnp.asarray(param)
    return param.astype(wide(param.dtype))
