"""From a config to what is trained: data, task, model, loss and optimizer, everything checked.

Nothing is written here, so that a mistake in a config leaves no half-made run behind.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnn import data
from funcnn.chosen import (
    chosen_data,
    chosen_losses,
    chosen_metrics,
    chosen_model,
    chosen_optimizer,
    chosen_task,
)
from funcnn.config import Config, ConfigError
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.data.dataset import Batches, Split
from funcnn.foreign import BUILDS, check_builder, file_of, no_exit
from funcnn.task.measured import Measured
from funcnn.task.task import Task
from funcnn.train import TrainState, make_evaluation
from funcnn.train.evaluation import Evaluation
from funcnn.train.statistics import Statistics
from funcnn.types import Loss, Params, PyTree

_EVALUATION_BATCH = 512


class Experiment(NamedTuple):
    """What one config describes.

    Attributes:
        config: the config.
        dataset: the rows, to train, to watch and to test.
        measured: the model at its task, with losses and metrics.
        params: its parameters as drawn from the seed.
        statistics: the shapes of the statistics of its batch norms, `{}` where there is none.
        optimizer: optax's.
    """

    config: Config
    dataset: data.Dataset
    measured: Measured
    params: Params
    statistics: Statistics
    optimizer: optax.GradientTransformation

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
        """`(params, batch, key) -> (mean loss, metrics)`."""
        return self.measured.loss

    def first_state(self) -> TrainState:
        """The state before the first step."""
        seed = self.config.run.seed
        return TrainState.create(self.params, self.optimizer, seed, self.statistics)

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
    dataset, task = chosen_data(config), chosen_task(config)
    _batches(config, dataset)
    _check_arrays(task, dataset, config.task.name or config.task.function)
    model = chosen_model(config)
    measured = Measured(model, task, chosen_losses(config, task), chosen_metrics(config, task))
    optimizer = chosen_optimizer(config)
    params, statistics = _init(config, measured, dataset, _row(dataset))
    return Experiment(config, dataset, measured, params, statistics, optimizer)


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


def _row(dataset: data.Dataset) -> dict[str, jax.ShapeDtypeStruct]:
    """The shape of a batch of one row."""
    return {
        name: jax.ShapeDtypeStruct(
            (1, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype)
        )
        for name, array in dataset.train.items()
    }


def _check_arrays(task: Task, dataset: data.Dataset, name: object) -> None:
    for split, arrays in dataset.splits().items():
        for wanted in task.names():
            if wanted not in arrays:
                known = ", ".join(arrays)
                message = f"needs {wanted!r} of a batch, and the {split} data has {known}"
                raise ConfigError([f"task {name!r}: {message}"])


def announce_foreign(config: Config) -> None:
    """Say on stderr whose code is about to run, where the config of a run names a function.

    >>> from funcnn.config import Config, ModelConfig
    >>> announce_foreign(Config(model=ModelConfig(name="mlp")))
    """
    for key, function in config.functions().items():
        check_builder(function, key)
        file = file_of(function, config.run.search) or "no file found"
        message = f"imports {function}, which this run names, from {file}"
        print(f"{message}; --no-foreign-code refuses it", file=sys.stderr, flush=True)


def _init(
    config: Config,
    measured: Measured,
    dataset: data.Dataset,
    row: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[Params, Statistics]:
    """The parameters, and the shapes of the statistics that the model takes in training.

    The model is tried on the shape of the data before anything is computed.
    """
    model, task, key = measured.model, measured.task, jax.random.key(config.run.seed)
    inputs = task.taken(row)
    source = f"model: does not fit {_shapes(inputs)}"
    with no_exit(source):
        try:
            params = jax.jit(lambda key: model.init(key, inputs))(key)
        except Exception as error:
            raise ConfigError([f"{source}: init(key, x): {_told(error)}"]) from error
        _check_params(params)
        if task.objective is not None:
            return params, {}
        try:
            outputs, statistics = jax.eval_shape(model.value_and_statistics, params, inputs, key)
        except Exception as error:
            raise ConfigError([f"{source}: {_told(error, params)}"]) from error
    targets = row[task.targets]
    if wrong := task.check(outputs, targets, dataset.classes):
        raise ConfigError([f"model: {wrong}"])
    _check_losses(measured, outputs, targets)
    return params, statistics


def _shapes(inputs: PyTree) -> str:
    shapes = [str(x.shape[1:]) for x in jax.tree.leaves(inputs)]
    return f"inputs of {' and '.join(shapes)}"


def _check_losses(measured: Measured, outputs: PyTree, targets: jax.ShapeDtypeStruct) -> None:
    """Whether loss and metrics take outputs and targets, and give something for each row."""
    named = {"loss": measured.losses, **{n: m.rows for n, m in measured.metrics.items()}}
    for name, rows in named.items():
        what = "loss" if name == "loss" else f"metric {name!r}"
        fits = f"outputs {jax.tree.map(lambda y: y.shape, outputs)} and targets {targets.shape}"
        with no_exit(what):
            try:
                found = jax.eval_shape(rows, outputs, targets)
            except Exception as error:
                raise ConfigError([f"{what}: does not fit {fits}: {_told(error)}"]) from error
        if not hasattr(found, "shape") or found.shape[:1] != (1,):
            given = getattr(found, "shape", type(found).__name__)
            raise ConfigError(
                [f"{what}: must give something for each row, (B, ...), found {given}"]
            )


def _told(error: Exception, params: PyTree = None) -> str:
    """One line of what the user's model, or one of ours, raised."""
    notes = "; ".join(n for n in getattr(error, "__notes__", []) if n.startswith("in layer"))
    message = first_line(error)
    if isinstance(error, KeyError) and " " not in message:  # a dict says nothing but the key
        held = f"; params hold {', '.join(map(str, params))}" if isinstance(params, dict) else ""
        message = f"there is no {message!r}{held}"
    elif type(error).__module__ != "builtins" or isinstance(error, AttributeError | IndexError):
        message = f"{type(error).__name__}: {message}"
    return message + (f" ({notes})" if notes else "")


def _check_params(params: PyTree) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        message = "has no parameters to train; a function alone has none"
        raise ConfigError([f"model: {message}: {BUILDS}"])
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            message = f"params hold {leaf.dtype} at {name!r}; every parameter must be a float"
            raise ConfigError([f"model: {message}"])
