"""What a run tells of its speed: how much there is in a step, and what its devices can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from funcnn.gradient.cost.flops import count_operations
from funcnn.gradient.cost.peaks import known_device, peak_flops
from funcnn.task.task import Task
from funcnn.train import Speed, TrainState
from funcnn.train.step import Step
from funcnn.train.writers import OneOrMoreWriters
from funcnn.types import Batch


def speed_of(
    step: Step,
    state: TrainState,
    batch: Batch,
    log: OneOrMoreWriters = (),
    tokens_of: str | None = None,
    warn: Callable[[str], Any] = print,
) -> Speed:
    """The speed of a run of this step, from this state, on batches such as this one.

    Nothing is computed: the operations are counted on the program, where the devices' peak is
    known; what cannot be counted has no share of a peak, and `warn` is told.

    Args:
        step, state, batch: the arguments of a call, of one update or several.
        log: who is told of the speed.
        tokens_of: the array of a batch in which each number is a token.
        warn: is given one line where the share of the peak is left out.

    >>> import jax.numpy as jnp, optax
    >>> from funcnn.train import make_step
    >>> step = make_step(lambda params, batch, key: jnp.sum(params * batch["x"]), optax.sgd(0.1))
    >>> state = TrainState.create(jnp.ones(3), optax.sgd(0.1), seed=0)
    >>> speed_of(step, state, {"x": jnp.ones((8, 3))})
    Speed(log=(), examples=8, tokens=None, flops=None, peak_flops=None)
    """
    stacked = step.steps_per_call > 1
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
    count = shapes[0][0] if stacked else 1
    rows = {shape[stacked : stacked + 1] for shape in shapes}
    examples = next(iter(rows))[0] if len(rows) == 1 and rows != {()} else None
    tokens = None if tokens_of is None else batch[tokens_of].size // count
    speed = Speed(log, examples, tokens)
    devices = {device for leaf in jax.tree.leaves(state) for device in leaf.devices()}
    kinds = [device.device_kind for device in devices]
    if not all(map(known_device, kinds)):
        return speed
    program = step.jitted.trace(state, batch).jaxpr  # it has been traced before: this is that trace
    counted, peak = count_operations(program), peak_flops(program, kinds)
    if counted.notes or peak is None:
        why = (*counted.notes, "it is not known what products the step makes")[0]
        warn(f"no share of the device's peak is told: {why}")
        return speed
    return Speed(log, examples, tokens, counted.flops / count, peak)


def tokens_of(task: Task, name: str | None) -> str | None:
    """The array of a batch in which each number is a token: a language task's targets, or None.

    >>> tokens_of(Task(), "language"), tokens_of(Task(), "classification")
    ('y', None)
    """
    return task.targets if name == "language" else None
