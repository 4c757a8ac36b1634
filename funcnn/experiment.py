"""From a config to what is trained: data, model, loss and optimizer, everything checked.

Nothing is written here, so that a mistake in a config leaves no half-made run behind.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from funcnn import data, models, rules
from funcnn.config import Config, ConfigError
from funcnn.layer import Layer, as_layer
from funcnn.train import TrainState, make_optimizer

Loss = Callable[[Any, dict[str, Any], Any], tuple[Any, dict[str, Any]]]


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
    params: Any
    statistics: Any
    loss: Loss
    row_metrics: Callable[[Any, dict[str, Any]], dict[str, Any]]
    optimizer: Any

    def first_state(self) -> TrainState:
        """The state before the first step."""
        seed = self.config.run.seed
        return TrainState.create(self.params, self.optimizer, seed, self.statistics)

    def batches(self) -> Callable[..., dict[str, Any]]:
        """`batches(step)`, or `batches(step, count)` for several stacked."""
        size = self.config.data.batch_size
        return data.make_batches(self.dataset.train, size, self.config.run.seed)


def build_experiment(config: Config) -> Experiment:
    """Everything that the config describes.

    Raises:
        ConfigError: a name or an option that does not exist, or a model that does not fit the data.
        DataError: data that is missing or damaged.

    >>> from funcnn.config import Config, ModelConfig
    >>> experiment = build_experiment(Config(model=ModelConfig(name="mlp")))
    >>> experiment.params["dense_0"]["w"].shape
    (64, 64)
    """
    wanted = config.model.options.get("classes")
    dataset = data.load(
        config.data.name,
        path=config.data.path,
        test_fraction=config.data.test_fraction,
        seed=config.run.seed,
        classes=wanted if isinstance(wanted, int) else None,
    )
    model = build_model(config)
    row_losses = _row_losses(config, dataset.classes)
    optimizer = _optimizer(config)
    params, statistics = _init(config, model, dataset)

    def loss(params: Any, batch: dict[str, Any], key: Any) -> tuple[Any, dict[str, Any]]:
        logits, found = model.value_and_statistics(params, batch["x"], key)  # (B, classes)
        told = {"accuracy": _hits(logits, batch).mean(), **({"statistics": found} if found else {})}
        return row_losses(logits, batch["y"]).mean(), told

    def row_metrics(params: Any, batch: dict[str, Any]) -> dict[str, Any]:
        logits = model(params, batch["x"])  # (B, classes)
        return {"loss": row_losses(logits, batch["y"]), "accuracy": _hits(logits, batch)}

    return Experiment(config, dataset, model, params, statistics, loss, row_metrics, optimizer)


def _hits(logits: Any, batch: dict[str, Any]) -> Any:
    return (logits.argmax(-1) == batch["y"]).astype(logits.dtype)  # (B,)


def build_model(config: Config) -> Layer:
    """The model by its name, or what the user's own function builds.

    >>> from funcnn.config import Config, ModelConfig
    >>> build_model(Config(model=ModelConfig(name="mlp", options={"hidden": []})))
    chain(flatten_0=flatten, dense_0=dense)
    """
    name = config.model.name
    if name is None:
        source = f"model.function = {config.model.function!r}"
        build = _user_function(config.model.function or "", source)
    else:
        source = f"model.name = {name!r}"
        _known("model.name", name, models.__all__)
        build = getattr(models, name)
    options = dict(config.model.options)
    _fits(source, build, options)
    try:
        built = build(**options)
        return as_layer(built[1], init=built[0]) if isinstance(built, tuple) else as_layer(built)
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError([f"{source}: {_first_line(error)}"]) from error


def _user_function(path: str, source: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # the user's own module, beside the config
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{source}: {_first_line(error)}"]) from error
    if not callable(found):
        raise ConfigError([f"{source}: is not a function"])
    return found


def _fits(source: str, build: Callable[..., Any], options: dict[str, Any]) -> None:
    accepted = inspect.signature(build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    for option in options:
        _known(f"{source}: model.options", option, list(accepted))
    missing = [n for n, p in accepted.items() if p.default is p.empty and n not in options]
    if missing:
        raise ConfigError([f"{source}: model.options.{missing[0]} is missing"])


def _known(what: str, name: str, names: list[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError([f"{what}: unknown {name!r}{hint}; known: {', '.join(names)}"])


def _optimizer(config: Config) -> Any:
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
        raise ConfigError([f"optimizer: {_first_line(error)}"]) from error


def _row_losses(config: Config, classes: int) -> Callable[[Any, Any], Any]:
    """`(logits (B, classes), labels (B,)) -> (B,)`."""
    name, smoothing = config.loss.name, config.loss.smoothing
    _known("loss.name", name, ["softmax_cross_entropy", "logistic", "squared_error"])
    if smoothing and name != "softmax_cross_entropy":
        raise ConfigError([f"loss.smoothing: {name} has none; leave it out"])

    def losses(logits: Any, labels: Any) -> Any:
        if name == "softmax_cross_entropy":
            return rules.softmax_cross_entropy(logits, labels, smoothing=smoothing)
        targets = jax.nn.one_hot(labels, classes, dtype=logits.dtype)  # (B, classes)
        if name == "squared_error":
            return rules.squared_error(logits, targets)
        return rules.logistic(logits, targets).sum(-1)  # each class against all others

    return losses


def _init(config: Config, model: Layer, dataset: data.Dataset) -> tuple[Any, Any]:
    """The parameters, and the shapes of the statistics that the model takes in training.

    The model is tried on the shape of the data before anything is computed.
    """
    image = jax.ShapeDtypeStruct((1, *dataset.train.x.shape[1:]), jnp.dtype(dataset.train.x.dtype))
    key = jax.random.key(config.run.seed)
    try:
        params = jax.jit(lambda key: model.init(key, image))(key)
        logits, statistics = jax.eval_shape(model.value_and_statistics, params, image, key)
    except (TypeError, ValueError, KeyError) as error:
        notes = "; ".join(n for n in getattr(error, "__notes__", []) if n.startswith("in layer"))
        told = _first_line(error) + (f" ({notes})" if notes else "")
        raise ConfigError([f"model: does not fit images of {image.shape[1:]}: {told}"]) from error
    if logits.shape != (1, dataset.classes):
        told = (
            f"model: returns {logits.shape} for one image and the data has {dataset.classes} "
            f"classes: it must return logits of shape (batch, {dataset.classes})"
        )
        raise ConfigError([told])
    return params, statistics


def _first_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.splitlines()[0] if text else type(error).__name__
