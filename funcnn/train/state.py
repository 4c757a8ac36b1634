"""The state of a training run: everything the next step depends on, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnn.core.usage import as_integer
from funcnn.train.averages import averages_or_params, holds_averages
from funcnn.train.extra import check_extra
from funcnn.train.health import Guard, Health, checked_guard
from funcnn.train.schedule_free import evaluated, schedule_free_states
from funcnn.train.signature import leaf_name
from funcnn.train.statistics import Statistics, fold_statistics, zero_statistics
from funcnn.types import Array, ArrayLike, Key, PyTree


class TrainState(NamedTuple):
    """What a step takes and gives back: a tree of arrays, for JAX and for a checkpoint.

    Fields: `params`, a tree of floating point arrays; `optimizer_state`, optax's; `step` int32 (),
    the number of updates made; `seed` uint32 (). A step's key is folded in from (seed, step), so a
    state holds no key. `statistics` are the running ones of batch norm, {path: (mean, variance,
    count)}; they stand apart from `params`, where weight decay would shrink them. `extra` is a tree
    of arrays of any dtype, which the loss and `after_update` of a step take and return: the carry
    of a recurrent network, averages of the params, a target network. `health` is what a `Guard`
    keeps, {} without one. All of it is donated, guarded, saved and restored alike.

    >>> state = TrainState.create({"w": jnp.ones((2, 3))}, optax.sgd(0.1), seed=0)
    >>> state.step.dtype, state.seed.dtype, state.params["w"].shape
    (dtype('int32'), dtype('uint32'), (2, 3))
    """

    params: PyTree
    optimizer_state: PyTree
    step: jax.Array
    seed: jax.Array
    statistics: Statistics = {}  # noqa: RUF012, nobody changes it
    extra: PyTree = {}  # noqa: RUF012
    health: Health = {}  # noqa: RUF012

    @staticmethod
    def create(
        params: PyTree,
        optimizer: optax.GradientTransformation,
        seed: int,
        statistics: Statistics | None = None,
        extra: PyTree = None,
        guard: Guard | None = None,
    ) -> TrainState:
        """The state before the first step. The arrays are copies: a step donates its state.

        `statistics` are those of any batch, `model.statistics(params, x, key)`, or their shapes:
        the state's own start at zero, of no batch yet. A model without batch norm has none.
        `extra` is what the first step is given; `guard` is that of the step.

        Raises TypeError for a leaf of `params` that is not floating point, or one of `extra` that
        is no array; ValueError for a seed outside 0 ... 2**32 - 1, or averages of the params with a
        schedule-free optimizer, which evaluates some of its own.

        >>> TrainState.create({"count": jnp.zeros(3, jnp.int32)}, optax.sgd(0.1), seed=0)
        Traceback (most recent call last):
        TypeError: params leaf 'count' is int32[3]: every leaf must be floating point
        """
        check_params(params)
        params = _strong_copy(params)
        with jax.numpy_dtype_promotion("standard"):
            optimizer_state = optimizer.init(params)
        # Copied as well: some optimizers start from the params themselves, and the same buffer
        # cannot be donated twice.
        step, seed_array = jnp.zeros((), jnp.int32), jnp.asarray(_checked_seed(seed))
        running = zero_statistics(statistics or {})
        check_extra(extra)
        extra = {} if extra is None else _strong_copy(extra)
        if holds_averages(extra) and schedule_free_states(optimizer_state):
            raise ValueError(
                "averages of the params: a schedule-free optimizer evaluates some of its own; "
                "leave one of the two out"
            )
        guard = checked_guard(guard)
        optimizer_state, health = _strong_copy(optimizer_state), guard.start() if guard else {}
        return TrainState(params, optimizer_state, step, seed_array, running, extra, health)

    def step_key(self) -> Key:
        """The random key of the next step, made of the seed and the number of steps before it.

        >>> state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), seed=3)
        >>> bool(state.step_key() == jax.random.fold_in(jax.random.key(3), 0))
        True
        """
        return jax.random.fold_in(jax.random.key(self.seed), self.step)

    def evaluation_params(self) -> PyTree:
        """The params to evaluate with: their averages where `extra` holds some, the statistics in.

        Averages are what `average_params` keeps there. Of a schedule-free optimizer of optax they
        are `optax.contrib.schedule_free_eval_params`, wherever its state stands in that of the
        optimizer. The statistics are folded in where there are any, as they are: those of the
        params that are trained, which are `state.params`.

        >>> state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), seed=0)
        >>> list(state.evaluation_params())
        ['w']
        """
        params = evaluated(averages_or_params(self.params, self.extra), self.optimizer_state)
        return fold_statistics(params, self.statistics)


def check_params(params: PyTree) -> None:
    """Raise TypeError where a leaf cannot be trained, naming it.

    >>> check_params({"w": np.zeros(3, np.float32)})
    """
    if not (leaves := jax.tree_util.tree_flatten_with_path(params)[0]):
        raise TypeError("params hold no array: there is nothing to train")
    for path, leaf in leaves:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            kind = "function" if callable(leaf) else type(leaf).__name__
            raise TypeError(
                f"params leaf '{leaf_name(path)}' is a {kind}: every leaf must be an array; of a "
                f"module, as Equinox's, train the arrays alone: params, rest = "
                f"equinox.partition(module, equinox.is_inexact_array), and in the loss "
                f"equinox.combine(params, rest)"
            )
        array = jnp.shape(leaf), jnp.result_type(leaf)
        if not jnp.issubdtype(array[1], jnp.floating):
            kind = f"{array[1]}{list(array[0])}"
            raise TypeError(
                f"params leaf '{leaf_name(path)}' is {kind}: every leaf must be floating point"
            )


def _checked_seed(seed: int) -> np.uint32:
    if as_integer(seed) is None:
        raise ValueError(f"seed must be an integer, found {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, found {seed}")
    return np.uint32(seed)


def _strong_copy(tree: PyTree) -> PyTree:
    """New device arrays without weak types, which would make the second step compile again."""

    def copy(leaf: ArrayLike) -> Array:
        array = jnp.array(leaf)
        extended = jnp.issubdtype(array.dtype, jax.dtypes.extended)  # a typed key
        return array if extended else jax.lax.convert_element_type(array, array.dtype)

    return jax.tree.map(copy, tree)
