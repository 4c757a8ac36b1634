"""The training step of an experiment, compiled for a mesh of devices, on shapes alone."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from funcnn.data.known import Known
from funcnn.experiment import Experiment, check_lying
from funcnn.network import network_of
from funcnn.plan.devices import Devices
from funcnn.train.mesh import AXES
from funcnn.types import ClosedJaxpr

# The pattern of `train.remat` for all of them.
EACH_LAYER = "*"


class Setting(NamedTuple):
    """What may be changed so that a step fits.

    Attributes:
        rows: of the batch, those of all devices together.
        fsdp: over how many devices the state is cut; on the others lie copies of it.
        remat: whether the forward pass of each layer is computed again for its backward pass.
        accumulate: in how many parts a batch is cut, one after the other in memory.
        tensor: over how many devices those params are cut that lie along it; each of these devices
            has the same rows.
    """

    rows: int
    fsdp: int = 1
    remat: bool = False
    accumulate: int = 1
    tensor: int = 1

    def parts(self, count: int) -> int:
        """In how many parts so many devices share the rows of a batch.

        >>> Setting(32, tensor=2).parts(8)
        4
        """
        return count // self.tensor


class Program(NamedTuple):
    """A step as it was compiled.

    Attributes:
        compiled: JAX's.
        jaxpr: what it computes, of all devices together.
        batch_bytes: of all its batches, on one device.
        seconds: which it took to compile.
    """

    compiled: jax.stages.Compiled
    jaxpr: ClosedJaxpr
    batch_bytes: int
    seconds: float


def compile_step(experiment: Experiment, setting: Setting, devices: Devices) -> Program:
    """What one call of the experiment's step becomes on these devices.

    Nothing is drawn and nothing is run. `experiment` may hold shapes for its params.

    >>> from funcnn.config import Config, ModelConfig
    >>> from funcnn.experiment import build_experiment
    >>> experiment = build_experiment(Config(model=ModelConfig(name="mlp")), draw=False)
    >>> devices = Devices(jax.devices()[:1], 1)
    >>> compile_step(experiment, Setting(rows=16), devices).batch_bytes  # 8 batches, images 8x8
    33280
    """
    # Of the batch as it is: the data may have fewer rows than a planned one.
    sample, steps = experiment.batches()(0), experiment.config.train.steps_per_call
    experiment = _changed(experiment, setting)
    step = experiment.step(mesh=_mesh(setting, devices))
    placement = step.placement
    assert placement is not None
    state = jax.eval_shape(experiment.first_state, experiment.params)
    check_lying(placement, state.params)
    batch = jax.tree.map(lambda x: _batch_shape(x, setting.rows, steps), sample)
    there = placement.of_state(state), step.of_batch(batch)
    state, batch = jax.tree.map(_lying, (state, batch), there)
    # As the caller's next step wants it: the state comes back where it lay.
    whole_step = jax.jit(step.jitted, donate_argnums=0, out_shardings=(there[0], None))
    start = time.perf_counter()
    traced = whole_step.trace(state, batch)
    compiled = traced.lower().compile()
    taken = time.perf_counter() - start
    return Program(compiled, traced.jaxpr, sum(map(_bytes_each, jax.tree.leaves(batch))), taken)


def _mesh(setting: Setting, devices: Devices) -> Mesh:
    shape = (-1, setting.fsdp, setting.tensor)
    types = (AxisType.Auto,) * len(AXES)
    return Mesh(np.array(devices.all).reshape(shape), AXES, axis_types=types)


def _changed(experiment: Experiment, setting: Setting) -> Experiment:
    """The experiment with the changes: what it carries has as many rows as a batch."""
    config = experiment.config
    table = config.data.model_copy(update={"batch_size": setting.rows})
    changes: dict[str, Any] = {"accumulate": setting.accumulate}
    changes |= {"remat": [EACH_LAYER]} if setting.remat else {}
    train = config.train.model_copy(update=changes)
    changed = config.model_copy(update={"data": table, "train": train})
    if changed == config:
        return experiment
    network = network_of(changed, Known.of(experiment.dataset))
    return experiment._replace(config=changed, network=network, params=network.params)


def _batch_shape(x: np.ndarray, rows: int, steps: int) -> jax.ShapeDtypeStruct:
    stacked = (steps,) if steps > 1 else ()
    dtype: Any = jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct((*stacked, rows, *x.shape[1:]), dtype)


def _lying(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _bytes_each(leaf: jax.ShapeDtypeStruct) -> int:
    assert leaf.sharding is not None
    return int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
