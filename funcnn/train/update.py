"""New params from a gradient, by an optimizer of optax."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from funcnn.train.extra import same_types
from funcnn.train.signature import differences, first_of, signature
from funcnn.train.state import TrainState
from funcnn.types import Array, Function, PyTree


def updated(
    optimizer: optax.GradientTransformationExtraArgs,
    state: TrainState,
    gradient: PyTree,
    value: Array,
    value_fn: Callable[[PyTree], Array],
) -> tuple[PyTree, PyTree]:
    """New params, and the new state of the optimizer.

    Raises:
        TypeError: the state was made with another optimizer, the update fails, or it changes the
            type of its own state.

    >>> import jax.numpy as jnp
    >>> from funcnn.train import TrainState
    >>> optimizer = optax.with_extra_args_support(optax.sgd(0.5))
    >>> state = TrainState.create(jnp.ones(()), optimizer, seed=0)
    >>> updated(optimizer, state, jnp.ones(()), jnp.ones(()), lambda params: params)[0]
    Array(0.5, dtype=float32)
    """
    # optax's adam and schedules mix dtypes, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        _check_optimizer(optimizer, state)
        # What line searches, Polyak steps and sharpness-aware ones ask for; the others ignore it.
        extra = {"value": value, "grad": gradient, "value_fn": value_fn}
        extra |= {"grad_fn": lambda params, _=None: jax.grad(value_fn)(params)}
        try:
            updates, optimizer_state = optimizer.update(
                gradient, state.optimizer_state, state.params, **_taken(optimizer.update, extra)
            )
        except (TypeError, ValueError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise TypeError(
                f"the optimizer's update fails: {reason} (beside gradient, state and params it is "
                f"given what it takes of {', '.join(extra)})"
            ) from error
        params = optax.apply_updates(state.params, updates)
    complaint = "the optimizer changes the type of its own state"
    return params, same_types(optimizer_state, state.optimizer_state, complaint)


def _taken(update: Function, extra: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that an optimizer's update names, or all where it takes any."""
    parameters = inspect.signature(update).parameters
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # A line search hands what it does not know on to value_fn, which takes no grad_fn.
    return {n: x for n, x in extra.items() if n in parameters or (any_name and n != "grad_fn")}


def _check_optimizer(optimizer: optax.GradientTransformation, state: TrainState) -> None:
    """Raise TypeError where the state was made with another optimizer than the step."""
    made = jax.eval_shape(optimizer.init, state.params)
    was, now = (signature({"optimizer_state": t}) for t in (made, state.optimizer_state))
    if was.treedef == now.treedef and [x.shape for x in was.leaves] == [
        x.shape for x in now.leaves
    ]:
        return
    raise TypeError(
        f"the step's optimizer is not that of the state, {first_of(differences(was, now))}: make "
        f"step and state with the same, TrainState.create(params, optimizer, seed) and "
        f"make_step(loss, optimizer)"
    )
