"""From a config to what is trained: data, model, loss and optimizer, everything checked.

Nothing is written here, so that a mistake in a config leaves no half-made run behind.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnn import data, models
from funcnn.config import Config, ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.data.dataset import SplitError
from funcnn.foreign import BUILDS, build_foreign, built_by, check_builder, file_of, no_exit
from funcnn.names import files, named, parameters
from funcnn.train import TrainState, make_optimizer
from funcnn.train.statistics import Statistics
from funcnn.types import Array, Key, Params, PyTree

LOSSES = "funcnn.losses"
Loss = Callable[[Params, dict[str, Array], Key], tuple[Array, dict[str, Any]]]


class Experiment(NamedTuple):
    """What one config describes.

    Attributes:
        config: the config.
        dataset: the images, train and test.
        model: the model, logits = model(params, x, key=key).
        params: its parameters as drawn from the seed.
        statistics: the shapes of the statistics of its batch norms, `{}` where there is none.
        loss: `(params, batch, key) -> (mean loss, {"accuracy": ...})`.
        row_metrics: `(params, batch) -> {"loss": (B,), "accuracy": (B,)}`, in evaluation.
        optimizer: optax's.
    """

    config: Config
    dataset: data.Dataset
    model: Layer
    params: Params
    statistics: Statistics
    loss: Loss
    row_metrics: Callable[[Params, dict[str, Array]], dict[str, Array]]
    optimizer: optax.GradientTransformation

    def first_state(self) -> TrainState:
        """The state before the first step."""
        seed = self.config.run.seed
        return TrainState.create(self.params, self.optimizer, seed, self.statistics)

    def batches(self) -> Callable[..., dict[str, np.ndarray]]:
        """`batches(step)`, or `batches(step, count)` for several stacked."""
        return _batches(self.config, self.dataset)


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
    dataset = _dataset(config)
    _batches(config, dataset)
    model = build_model(config)
    row_losses = _row_losses(config)
    optimizer = _optimizer(config)
    params, statistics = _init(config, model, dataset)

    def loss(params: Params, batch: dict[str, Array], key: Key) -> tuple[Array, dict[str, Any]]:
        logits, taken = model.value_and_statistics(params, batch["x"], key)  # (B, classes)
        metrics = {"accuracy": _hits(logits, batch).mean()}
        metrics |= {"statistics": taken} if taken else {}
        return row_losses(logits, batch["y"]).mean(), metrics

    def row_metrics(params: Params, batch: dict[str, Array]) -> dict[str, Array]:
        logits = model(params, batch["x"])  # (B, classes)
        return {"loss": row_losses(logits, batch["y"]), "accuracy": _hits(logits, batch)}

    return Experiment(config, dataset, model, params, statistics, loss, row_metrics, optimizer)


def _dataset(config: Config) -> data.Dataset:
    wanted = config.model.options.get("classes")
    chosen = config.data
    place = (
        f"data.name = {chosen.name!r}" if chosen.path is None else f"data.path = {chosen.path!r}"
    )
    try:
        return data.load(
            chosen.name,
            path=_located(config),
            test_fraction=chosen.test_fraction,
            seed=config.run.seed,
            classes=wanted if isinstance(wanted, int) else None,
        )
    except SplitError as error:
        raise ConfigError([f"data.test_fraction = {chosen.test_fraction}: {error}"]) from error
    except data.DataError as error:
        raise ConfigError([f"{place}: {error}"]) from error


def _batches(config: Config, dataset: data.Dataset) -> Callable[..., dict[str, np.ndarray]]:
    try:
        return data.make_batches(dataset.train, config.data.batch_size, config.run.seed)
    except data.DataError as error:
        raise ConfigError([f"data.{error}"]) from error


def _located(config: Config) -> str | None:
    """The folder of the data: a relative one from the current folder, then from those of search."""
    path = config.data.path
    if path is None or os.path.isabs(path):
        return path
    places = dict.fromkeys([os.getcwd(), *map(os.path.abspath, config.run.search)])
    existing = [place for place in places if os.path.exists(os.path.join(place, path))]
    if not existing:
        raise data.DataError(f"no such folder in {' or in '.join(places)}")
    return path if existing[0] == os.getcwd() else os.path.join(existing[0], path)


def _hits(logits: Array, batch: dict[str, Array]) -> Array:
    return (logits.argmax(-1) == batch["y"]).astype(logits.dtype)  # (B,)


def build_model(config: Config) -> Layer:
    """The model by its name, or what the user's own function builds.

    >>> from funcnn.config import Config, ModelConfig
    >>> build_model(Config(model=ModelConfig(name="mlp", options={"hidden": []})))
    chain(flatten_0=flatten, dense_0=dense)
    """
    options = dict(config.model.options)
    if config.model.function is not None:
        return build_foreign(config.model.function, options, config.run.search)
    name = config.model.name or ""
    check_known("model.name", name, models.__all__)
    return built_by(getattr(models, name), options, f"model.name = {name!r}")


def announce_foreign(config: Config) -> None:
    """Say on stderr whose code is about to run, where the config of a run names a function.

    >>> from funcnn.config import Config, ModelConfig
    >>> announce_foreign(Config(model=ModelConfig(name="mlp")))
    """
    if config.model.function is not None:
        check_builder(config.model.function)
        file = file_of(config.model.function, config.run.search) or "no file found"
        message = f"imports {config.model.function}, which this run names, from {file}"
        print(f"{message}; --no-foreign-code refuses it", file=sys.stderr, flush=True)


def _optimizer(config: Config) -> optax.GradientTransformation:
    chosen = config.optimizer
    schedule = chosen.schedule
    try:
        return make_optimizer(
            chosen.name,
            learning_rate=chosen.learning_rate,
            schedule=schedule and schedule.name,
            schedule_options=schedule and dict(schedule.options),
            **chosen.options,
        )
    except (ValueError, TypeError) as error:
        raise ConfigError([f"optimizer: {first_line(error)}"]) from error


def _row_losses(config: Config) -> Callable[[Array, Array], Array]:
    """`(logits (B, classes), labels (B,)) -> (B,)`."""
    name, smoothing = config.loss.name, config.loss.smoothing
    check_known("loss.name", name, files(LOSSES))
    losses = named(LOSSES, name)
    if "smoothing" in parameters(LOSSES, name):
        return functools.partial(losses, smoothing=smoothing)
    if smoothing:
        raise ConfigError([f"loss.smoothing: {name} has none; leave it out"])
    return losses


def _init(config: Config, model: Layer, dataset: data.Dataset) -> tuple[Params, Statistics]:
    """The parameters, and the shapes of the statistics that the model takes in training.

    The model is tried on the shape of the data before anything is computed.
    """
    image = jax.ShapeDtypeStruct((1, *dataset.train.x.shape[1:]), jnp.dtype(dataset.train.x.dtype))
    key = jax.random.key(config.run.seed)
    source = f"model: does not fit images of {image.shape[1:]}"
    with no_exit(source):
        try:
            params = jax.jit(lambda key: model.init(key, image))(key)
        except Exception as error:
            raise ConfigError([f"{source}: init(key, x): {_told(error)}"]) from error
        try:
            logits, statistics = jax.eval_shape(model.value_and_statistics, params, image, key)
        except Exception as error:
            raise ConfigError([f"{source}: {_told(error, params)}"]) from error
    _check_params(params)
    _check_logits(logits, dataset.classes)
    return params, statistics


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


def _check_logits(logits: PyTree, classes: int) -> None:
    wanted = f"it must return logits of shape (batch, {classes})"
    if not hasattr(logits, "shape"):
        kind, cure = type(logits).__name__, ""
        if isinstance(logits, dict):
            kind = f"a dict of {', '.join(map(str, logits))}"
            fit = [k for k, v in logits.items() if getattr(v, "shape", None) == (1, classes)]
            cure = f", as in apply(params, x)[{fit[0]!r}]" if fit else ""
        raise ConfigError([f"model: returns {kind}: {wanted} alone{cure}"])
    if logits.shape != (1, classes):
        message = f"returns {logits.shape} for one image and the data has {classes} classes"
        raise ConfigError([f"model: {message}: {wanted}"])
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ConfigError([f"model: returns {logits.dtype}: logits must be floats"])
