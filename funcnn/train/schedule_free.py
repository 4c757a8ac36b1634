"""Schedule-free optimizers, which evaluate other params than they train.

Source: Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, The Road Less Scheduled, 2024.
"""

from __future__ import annotations

from collections.abc import Collection

import jax
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from funcnn.types import PyTree

# Fields by which the state of such an optimizer is known in a checkpoint, which has names alone.
_FIELDS = ("weight_sum", "step_count", "max_lr")


def schedule_free_states(optimizer_state: PyTree) -> list[ScheduleFreeState]:
    """Those of schedule-free optimizers in the state of one: several where it has groups.

    >>> import numpy as np
    >>> optimizer = optax.chain(optax.clip(1.0), optax.contrib.schedule_free_sgd(0.1))
    >>> len(schedule_free_states(optimizer.init(np.ones(2, np.float32))))
    1
    """
    leaves = jax.tree.leaves(optimizer_state, is_leaf=_is_schedule_free)
    return [leaf for leaf in leaves if isinstance(leaf, ScheduleFreeState)]


def evaluated(params: PyTree, optimizer_state: PyTree) -> PyTree:
    """What an optimizer evaluates: the params, or what it has in place of those that it trains.

    What no schedule-free optimizer trains, as a frozen group, stays as it is; dtypes stay, too.

    >>> evaluated({"w": 1.0}, optax.EmptyState())
    {'w': 1.0}
    """
    leaves, tree = jax.tree.flatten(params)
    for state in schedule_free_states(optimizer_state):
        z = tree.flatten_up_to(state.z)
        own = [i for i, leaf in enumerate(z) if not isinstance(leaf, optax.MaskedNode)]
        state, trained = state._replace(z=[z[i] for i in own]), [leaves[i] for i in own]
        with jax.numpy_dtype_promotion("standard"):
            found = schedule_free_eval_params(state, trained)
        for i, leaf in zip(own, found, strict=True):
            leaves[i] = leaf.astype(leaves[i].dtype)
    return jax.tree.unflatten(tree, leaves)


def states_by_name(names: Collection[str]) -> list[str]:
    """Where the states of schedule-free optimizers begin among the names of a state's leaves.

    >>> fields = ("b1", "max_lr", "step_count", "weight_sum", "z/w")
    >>> states_by_name([f"optimizer_state/1/{field}" for field in fields])
    ['optimizer_state/1']
    """
    begins = [name.removesuffix("/b1") for name in names if name.endswith("/b1")]
    return [
        begin
        for begin in begins
        if begin.startswith("optimizer_state") and all(f"{begin}/{f}" in names for f in _FIELDS)
    ]


def _is_schedule_free(node: object) -> bool:
    return isinstance(node, ScheduleFreeState)
