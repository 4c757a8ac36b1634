"""From a config to what is trained: data, task, model, loss and optimizer, everything checked.

Nothing is written here, so that a mistake in a config leaves no half-made run behind.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

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
from funcnn.train import TrainState, average_params, make_evaluation, make_step
from funcnn.train.averages import Averaging
from funcnn.train.evaluation import Evaluation
from funcnn.train.step import Step
from funcnn.types import Array, Batch, Key, Loss, Metrics, Params, PyTree

_EVALUATION_BATCH = 512


class Experiment(NamedTuple):
    """What one config describes.

    Attributes:
        config: the config.
        dataset: the rows, to train, to watch and to test.
        network: the model at its task, with losses and metrics.
        params: its parameters as drawn from the seed.
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
        return TrainState.create(params, self.optimizer, seed, statistics, extra)

    def step(self) -> Step:
        """The compiled step that takes it on."""
        averaging = _averaging(self.config)
        return make_step(
            self.loss,
            self.optimizer,
            steps_per_call=self.config.train.steps_per_call,
            after_update=averaging.update if averaging else None,
        )

    def batches(self) -> Batches:
        """`batches(step)`, or `batches(step, count)` for several stacked."""
        return _batches(self.config, self.dataset)

    def evaluation(self, split: Split) -> Evaluation:
        """`evaluate(params) -> {name: figure}` over a split."""
        metrics = self.measured.figures()
        figures = {name: metric.value for name, metric in metrics.items()}
        size = min(_EVALUATION_BATCH, split.rows)
        return make_evaluation(self.measured.rows, split, size, figures)


def build_experiment(config: Config) -> Experiment:
    """Everything that the config describes.

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
    optimizer, params = chosen_optimizer(config), network.draw()
    _check_names(optimizer, params)
    return Experiment(config, dataset, network, params, optimizer)


def _batches(config: Config, dataset: data.Dataset) -> Batches:
    chosen = config.data
    if dataset.stream is not None:
        return dataset.stream
    try:
        if chosen.order == "streams":
            return data.make_streams(dataset.train, chosen.batch_size)
        seed = config.run.seed
        return data.make_batches(dataset.train, chosen.batch_size, seed, last=chosen.last)
    except data.DataError as error:
        raise ConfigError([f"data.{error}"]) from error


def _check_names(optimizer: optax.GradientTransformation, params: Params) -> None:
    """Patterns of names that an optimizer is given match none but those of the params."""
    try:
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(optimizer.init, params)
    except ValueError as error:
        raise ConfigError([first_line(error)]) from error


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


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
