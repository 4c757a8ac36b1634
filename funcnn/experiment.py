"""From a config to what is trained: data, task, model, loss and optimizer, everything checked.

Nothing is written here, so that a mistake in a config leaves no half-made run behind.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from funcnn import data
from funcnn.chosen import chosen_data, chosen_optimizer, chosen_task
from funcnn.config import Config, ConfigError
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.data.dataset import Batches, Split
from funcnn.data.known import Known
from funcnn.foreign import check_builder
from funcnn.modules import file_of
from funcnn.network import Network, network_of
from funcnn.task.measured import CARRY, Measured
from funcnn.task.task import Task
from funcnn.train import (
    Guard,
    TrainState,
    average_params,
    make_evaluation,
    make_mesh,
    make_step,
)
from funcnn.train.averages import Averaging
from funcnn.train.evaluation import Evaluation
from funcnn.train.mesh import Placement, axis_sizes
from funcnn.train.processes import are_many
from funcnn.train.schedule_free import schedule_free_states
from funcnn.train.step import Step
from funcnn.types import Array, Batch, Key, Loss, Metrics, Params, PyTree

_EVALUATION_BATCH = 512
_OTHER_DEVICES = "; [mesh] may be another one when a run is resumed"
_FIRST_SCALE = 2.0**15  # of a loss in float16


class Experiment(NamedTuple):
    """What one config describes.

    Attributes:
        config: the config.
        dataset: the rows, to train, to watch and to test.
        network: the model at its task, with losses and metrics.
        params: its parameters as drawn from the seed, or their shapes.
        optimizer: optax's.
    """

    config: Config
    dataset: data.Dataset
    network: Network
    params: Params
    optimizer: optax.GradientTransformation

    @property
    def measured(self) -> Measured:
        """The model at its task."""
        return self.network.measured

    @property
    def model(self) -> Layer:
        """outputs = model(params, inputs, key=key)."""
        return self.measured.model

    @property
    def task(self) -> Task:
        """What the model takes of a batch, and what its outputs are held against."""
        return self.measured.task

    @property
    def loss(self) -> Loss:
        """`(params, batch, key) -> (mean loss, metrics)`; with `extra` where something is carried.

        What is carried starts at zero where no `extra` is given.
        """
        if not jax.tree.leaves(self.network.carry):
            return self.measured.loss
        start = {CARRY: _zeros(self.network.carry)}

        def loss(
            params: Params, batch: Batch, key: Key | None, extra: PyTree = start
        ) -> tuple[Array, Metrics]:
            return self.measured.carrying_loss(params, batch, key, extra)

        return loss

    def first_state(self, params: Params | None = None) -> TrainState:
        """The state before the first step, with the params as drawn or with others."""
        params = self.params if params is None else params
        extra = first_extra(self.config, self.network, params)
        seed, statistics = self.config.run.seed, self.network.statistics
        guard = _guard(self.config)
        return TrainState.create(params, self.optimizer, seed, statistics, extra, guard)

    @property
    def mesh(self) -> Mesh | None:
        """The devices of a config with [mesh]; ConfigError where there are not as many."""
        chosen = self.config.mesh
        if chosen is None:
            return None
        axes, hint = (chosen.data, chosen.fsdp, chosen.tensor), ""
        try:
            axis_sizes(jax.device_count(), *axes)
            hint = (
                _OTHER_DEVICES
                if -1 in axes
                else f"; --set mesh.data=-1 takes those{_OTHER_DEVICES}"
            )
            if jax.default_backend() == "cpu":
                hint += "; of a CPU the environment makes more: JAX_NUM_CPU_DEVICES=8"
            return make_mesh(*axes)
        except ValueError as error:
            raise ConfigError([first_line(error) + hint]) from error

    def step(self, steps_per_call: int | None = None, mesh: Mesh | None = None) -> Step:
        """The compiled step that takes it on; by default as many a call as the config says.

        `mesh` stands for that of the config.
        """
        averaging, mesh = _averaging(self.config), mesh or self.mesh
        if mesh is None and self.config.train.sharding:
            message = "says how params lie on a mesh, and there is no table [mesh]"
            raise ConfigError([f"train.sharding: {message}"])
        return make_step(
            self.loss,
            self.optimizer,
            steps_per_call=steps_per_call or self.config.train.steps_per_call,
            after_update=averaging.update if averaging else None,
            accumulate=self.config.train.accumulate,
            guard=_guard(self.config),
            mesh=mesh,
            sharding=self.config.train.sharding,
        )

    def placed_state(self, step: Step, params: Params | None = None) -> TrainState:
        """`first_state` as it is to lie on the devices of the step's mesh, where that has one.

        Without `params` each device draws what it holds, and none has all of a state.
        """
        where = step.placement
        if where is not None:
            check_lying(where, self.network.params)
        if where is None or params is not None:
            return step.place(self.first_state(params))

        def create() -> TrainState:
            return self.first_state(self.network.draw())

        shapes = jax.eval_shape(create)
        return jax.jit(create, out_shardings=where.of_state(shapes))()

    def batches(self, placement: Placement | None = None) -> Batches:
        """`batches(step)`, or `batches(step, count)` for several stacked.

        Of many processes each reads the rows alone that its devices hold, as `placement` says.
        """
        if placement is None or not are_many():
            return _batches(self.config, self.dataset)
        return _batches_in_parts(self.config, self.dataset, placement)

    def evaluation(self, split: Split, placement: Placement | None = None) -> Evaluation:
        """`evaluate(params) -> {name: figure}` over a split, on the devices of a `placement`."""
        metrics = self.measured.figures()
        figures = {name: metric.value for name, metric in metrics.items()}
        size = min(_EVALUATION_BATCH, split.rows)
        return make_evaluation(self.measured.rows, split, size, figures, placement)


def build_experiment(config: Config, *, draw: bool = True) -> Experiment:
    """Everything that the config describes; without `draw` the shapes of its params alone.

    Raises:
        ConfigError: a name or an option that does not exist, data that is missing or damaged, or a
            model that does not fit the data.

    >>> from funcnn.config import Config, ModelConfig
    >>> experiment = build_experiment(Config(model=ModelConfig(name="mlp")))
    >>> experiment.params["dense_0"]["w"].shape
    (64, 64)
    """
    dataset = chosen_data(config)
    _batches(config, dataset)
    _check_arrays(chosen_task(config), dataset, config.task.name or config.task.function)
    network = network_of(config, Known.of(dataset))
    optimizer, params = chosen_optimizer(config), network.draw() if draw else network.params
    _check_optimizer(optimizer, params, config.train.average)
    return Experiment(config, dataset, network, params, optimizer)


def check_lying(placement: Placement, params: Params) -> None:
    """Raise ConfigError where params, or their shapes, cannot lie as a config says.

    >>> check_lying(Placement(make_mesh(data=1)), {})
    """
    try:
        placement.check(params)
    except ValueError as error:
        line = first_line(error)
        raise ConfigError([f"train.{line}" if line.startswith("sharding") else line]) from error


def _batches_in_parts(config: Config, dataset: data.Dataset, placement: Placement) -> Batches:
    """Batches whose rows this process reads in part, and which are whole on all of them."""
    if dataset.stream is not None:
        return dataset.stream  # it gives whole batches; a step takes of each what lies here
    size = config.data.batch_size
    batches = _batches(config, dataset, placement.rows_here(size))

    def whole(step: int, count: int | None = None) -> Batch:
        part = batches(step) if count is None else batches(step, count)
        return placement.from_rows_here(part, size, stacked=count is not None)

    return whole


def _batches(config: Config, dataset: data.Dataset, rows: np.ndarray | None = None) -> Batches:
    chosen = config.data
    if dataset.stream is not None:
        return dataset.stream
    try:
        if chosen.order == "streams":
            return data.make_streams(dataset.train, chosen.batch_size, rows=rows)
        size, seed = chosen.batch_size, config.run.seed
        return data.make_batches(dataset.train, size, seed, last=chosen.last, rows=rows)
    except data.DataError as error:
        raise ConfigError([f"data.{error}"]) from error


def _check_optimizer(
    optimizer: optax.GradientTransformation, params: Params, average: float | None
) -> None:
    """Its patterns match none but names of the params, and one average is evaluated, not two."""
    try:
        with jax.numpy_dtype_promotion("standard"):
            state = jax.eval_shape(optimizer.init, params)
    except ValueError as error:
        raise ConfigError([first_line(error)]) from error
    if average is not None and schedule_free_states(state):
        why = "the optimizer is schedule-free and evaluates an average of its own"
        raise ConfigError([f"train.average: {why}; leave it out"])


def _check_arrays(task: Task, dataset: data.Dataset, name: object) -> None:
    for split, arrays in dataset.splits().items():
        for wanted in task.names():
            if wanted not in arrays:
                known = ", ".join(arrays)
                message = f"needs {wanted!r} of a batch, and the {split} data has {known}"
                raise ConfigError([f"task {name!r}: {message}"])


def announce_foreign(config: Config, refusal: str = "--no-foreign-code") -> None:
    """Say on stderr whose code is about to run, where the config of a run names a function.

    `refusal` is what would refuse it.

    >>> from funcnn.config import Config, ModelConfig
    >>> announce_foreign(Config(model=ModelConfig(name="mlp")))
    """
    for key, function in config.functions().items():
        check_builder(function, key)
        file = file_of(function, config.run.search) or "no file found"
        message = f"imports {function}, which this run names, from {file}"
        print(f"{message}; {refusal} refuses it", file=sys.stderr, flush=True)


def first_extra(config: Config, network: Network, params: Params) -> dict[str, PyTree]:
    """What the state of a run carries beside its params, before the first step.

    >>> from funcnn.config import Config, ModelConfig
    >>> first_extra(Config(model=ModelConfig(name="mlp")), Network(None, None, {}, {}, ()), {})
    {}
    """
    averaging = _averaging(config)
    extra = averaging.start(params) if averaging else {}
    return extra | ({CARRY: _zeros(network.carry)} if jax.tree.leaves(network.carry) else {})


def _averaging(config: Config) -> Averaging | None:
    decay = config.train.average
    return None if decay is None else average_params(decay)


def _guard(config: Config) -> Guard:
    chosen = config.train
    # As in the literature a scale begins high, and finds its place by halving.
    scale = _FIRST_SCALE if chosen.precision == "float16" else None
    return Guard(chosen.guard.action, chosen.guard.spike, scale)


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
