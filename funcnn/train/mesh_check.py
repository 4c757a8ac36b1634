"""Whether a compiler divides a gradient among devices as it should: XLA does not always."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from funcnn.train.guard import TrainingError
from funcnn.train.signature import leaf_names
from funcnn.train.state import TrainState
from funcnn.train.step import Step
from funcnn.types import Array, Batch, PyTree

_NEAR = 0.02  # of the largest element of a gradient: rounding is far below, and mistakes above


def check_mesh(step: Step, state: TrainState, batch: Batch) -> None:
    """Raise TrainingError where the gradient on the mesh is not that of params that are whole.

    The gradient of one batch, in as many parts as the step cuts it in, is computed twice: with
    params that lie as those of the state do, and with a copy of all of them on each device, where a
    compiler has little to divide. Each element must be the same to a fiftieth of the largest. XLA
    (jaxlib 0.10 and 0.12) has been seen to be off by as much as the gradient itself, of programs of
    plain JAX, where rows lie along two axes of the mesh and params along one of them.

    Where all params are whole anyway there is nothing to compare, and neither is an element that is
    not finite of whole params either: a bad number in the batch is the guard's matter.

    Args:
        step: with a mesh.
        state: placed, and not yet given to a step.
        batch: of one update.

    >>> import optax
    >>> from funcnn.train import make_mesh, make_step
    >>> step = make_step(lambda params, batch, key: jnp.mean(params * batch), optax.sgd(0.1),
    ...                  mesh=make_mesh(data=1))
    >>> check_mesh(step, step.place(TrainState.create(jnp.ones(3), optax.sgd(0.1), 0)), jnp.ones(3))
    """
    where = step.placement
    if where is None or all(s.is_fully_replicated for s in jax.tree.leaves(where.of_state(state))):
        return
    batch = where.put(batch, where.of_batch(batch, accumulate=step.accumulate))
    key = state.step_key()

    @jax.jit
    def gradient(params: PyTree, batch: Batch) -> PyTree:
        return step.differentiated(params, batch, key, state.extra, None)[2]

    whole = where.put(state.params, jax.tree.map(lambda _: where.whole(), state.params))
    found, wanted = gradient(state.params, batch), gradient(whole, batch)
    away = jax.jit(_largest_differences, out_shardings=where.whole())(found, wanted)
    worst = max(zip(map(float, away), leaf_names(found), strict=True), default=(0.0, ""))
    if not worst[0] <= _NEAR:
        raise TrainingError(
            f"mesh: the gradient of {worst[1]} is off by {worst[0]:.2g} of the largest element, "
            f"beside that of params that are whole: the compiler divides this step wrongly; let "
            f"the params lie along other axes (train.sharding), or take another mesh"
        )


def _largest_differences(found: PyTree, wanted: PyTree) -> list[Array]:
    """Of each leaf, as a part of the largest element of all; infinite where found is no number."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
    finite = [jnp.isfinite(b) for _, b in pairs]

    def most(x: Array, where: Array) -> Array:
        return jnp.max(jnp.abs(x), where=where, initial=0).astype(jnp.float32)

    largest = jnp.max(jnp.stack([most(b, i) for (_, b), i in zip(pairs, finite, strict=True)]))
    scale = jnp.where(largest > 0, largest, 1)
    away = [most(a - b, i) / scale for (a, b), i in zip(pairs, finite, strict=True)]
    return [jnp.where(jnp.isnan(x), jnp.inf, x) for x in away]
