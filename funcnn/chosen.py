"""What a config chooses by a name or by a function, one function a table."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import optax

from funcnn import data, models
from funcnn.config import Config, ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.data.dataset import SplitError
from funcnn.data.loading import SETS, finished, load
from funcnn.data.own import as_dataset
from funcnn.foreign import build_foreign, built_by, call_foreign, check_builder, find
from funcnn.names import files, named, parameters
from funcnn.task.metric import Metric, mean_of
from funcnn.task.task import Losses, Task
from funcnn.train import make_optimizer, make_schedule

LOSSES, METRICS, TASKS = "funcnn.task.losses", "funcnn.task.metrics", "funcnn.task.kinds"
Made = TypeVar("Made")


def chosen_data(config: Config) -> data.Dataset:
    """The rows, checked.

    Raises:
        ConfigError: they are not there, damaged, or cannot be cut as the config asks.

    >>> from funcnn.config import Config, ModelConfig
    >>> chosen_data(Config(model=ModelConfig(name="mlp"))).test.rows
    360
    """
    chosen, seed = config.data, config.run.seed
    general = {"test_fraction": chosen.test_fraction, "seed": seed}
    place = f"data.name = {chosen.name!r}"
    if chosen.function is not None:
        place = f"data.function = {chosen.function!r}"
    elif chosen.path is not None:
        place = f"data.path = {chosen.path!r}"
    try:
        if chosen.function is None:
            fraction, options = chosen.validation_fraction, _options_of_data(config)
            return load(str(chosen.name), validation_fraction=fraction, **general, **options)
        built = _built_data(config, chosen.function, general)
        dataset = as_dataset(built, chosen.function.partition(":")[0], **general)
        return finished(dataset, chosen.validation_fraction, seed)
    except SplitError as error:
        line = f"data.{error.key} = {getattr(chosen, error.key)}: {error}"
        raise ConfigError([line]) from error
    except data.DataError as error:
        raise ConfigError([f"{place}: {error}"]) from error


def _options_of_data(config: Config) -> dict[str, Any]:
    chosen = config.data
    options = dict(chosen.options)
    if chosen.path is not None:
        options["path"] = _located(config)
    wanted = config.model.options.get("classes")
    if "classes" in parameters(SETS, str(chosen.name)) and isinstance(wanted, int):
        options.setdefault("classes", wanted)
    return options


def _built_data(config: Config, function: str, general: Mapping[str, Any]) -> Any:
    given = dict(general)
    if config.data.path is not None:
        given["path"] = _located(config)
    return call_foreign("data.function", function, config.data.options, config.run.search, given)


def _located(config: Config) -> str | None:
    """The place of the data: a relative one from the current folder, then from those of search."""
    path = config.data.path
    if path is None or os.path.isabs(path):
        return path
    places = dict.fromkeys([os.getcwd(), *map(os.path.abspath, config.run.search)])
    existing = [place for place in places if os.path.exists(os.path.join(place, path))]
    if not existing:
        raise data.DataError(f"no such folder in {' or in '.join(places)}")
    return path if existing[0] == os.getcwd() else os.path.join(existing[0], path)


def chosen_model(config: Config) -> Layer:
    """The model.

    >>> from funcnn.config import Config, ModelConfig
    >>> chosen_model(Config(model=ModelConfig(name="mlp", options={"hidden": []})))
    chain(flatten_0=flatten, dense_0=dense)
    """
    options = dict(config.model.options)
    if config.model.function is not None:
        return build_foreign(config.model.function, options, config.run.search)
    name = config.model.name or ""
    check_known("model.name", name, models.__all__)
    return built_by(getattr(models, name), options, f"model.name = {name!r}")


def chosen_task(config: Config) -> Task:
    """The task.

    >>> from funcnn.config import Config, ModelConfig
    >>> chosen_task(Config(model=ModelConfig(name="mlp"))).targets
    'y'
    """
    chosen = config.task
    if chosen.function is not None:
        source, search = f"task.function = {chosen.function!r}", config.run.search
        task = call_foreign("task.function", chosen.function, chosen.options, search)
        return _a(Task, task, source, "funcnn.Task(inputs=..., targets=..., loss=..., metrics=...)")
    return _of_ours(TASKS, "task", str(chosen.name), chosen.options)


def chosen_losses(config: Config, task: Task) -> Losses:
    """The loss of rows: that of the config, or the task's own.

    >>> from funcnn.config import Config, ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> chosen_losses(config, chosen_task(config)).func.__name__
    'softmax_cross_entropy'
    """
    chosen, of_task = config.loss, {"ignored": task.ignored}
    if task.objective is not None and chosen != type(chosen)():
        raise ConfigError(["loss: the task has an objective of its own; leave [loss] out"])
    if chosen.function is not None:
        source = f"loss.function = {chosen.function!r}"
        check_builder(chosen.function, "loss.function")
        losses = find(chosen.function, source, config.run.search)
        return functools.partial(losses, **chosen.options)
    name = chosen.name or task.loss
    check_known("loss.name", name, files(LOSSES))
    takes = parameters(LOSSES, name)
    for option in chosen.options:
        check_known(f"loss.options of {name}", option, takes[2:])
    given = {n: x for n, x in of_task.items() if n in takes} | chosen.options
    return functools.partial(named(LOSSES, name), **given)


def chosen_metrics(config: Config, task: Task) -> dict[str, Metric]:
    """The metrics by name: those of the config, or the task's own.

    >>> from funcnn.config import Config, ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> list(chosen_metrics(config, chosen_task(config)))
    ['accuracy']
    """
    chosen = config.metrics
    names = task.metrics if chosen.names is None else chosen.names
    own: Mapping[str, Any] = {}
    if chosen.function is not None:
        own = call_foreign("metrics.function", chosen.function, {}, config.run.search)
        own = _checked_metrics(own, f"metrics.function = {chosen.function!r}")
    for name in chosen.options:
        check_known("metrics.options", name, list(names))
    made = {}
    for name in names:
        given = {"ignored": task.ignored} if "ignored" in _takes(METRICS, "metrics", name) else {}
        options = chosen.options.get(name, {})
        if not isinstance(options, dict):
            raise ConfigError([f"metrics.options.{name}: expected a table, found {options!r}"])
        made[name] = _of_ours(METRICS, "metrics", name, options, given)
    return made | dict(own)


def _checked_metrics(own: Any, source: str) -> dict[str, Metric]:
    wanted = "it must return a dict, {name: metric}: funcnn.Metric, or f(outputs, targets) -> (B,)"
    if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
        raise ConfigError([f"{source}: returned {type(own).__name__}; {wanted}"])
    made = {}
    for name, metric in own.items():
        if name == "loss" or not (isinstance(metric, Metric) or callable(metric)):
            found = "is the loss itself" if name == "loss" else f"is {type(metric).__name__}"
            raise ConfigError([f"{source}: {name!r} {found}; {wanted}"])
        numbers: Any = metric
        made[name] = metric if isinstance(metric, Metric) else mean_of(numbers)
    return made


def chosen_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer, with its learning rate or schedule.

    >>> from funcnn.config import Config, ModelConfig
    >>> chosen_optimizer(Config(model=ModelConfig(name="mlp")))._fields
    ('init', 'update')
    """
    chosen = config.optimizer
    schedule = chosen.schedule
    try:
        if chosen.function is None:
            return make_optimizer(
                str(chosen.name),
                learning_rate=chosen.learning_rate,
                schedule=schedule and schedule.name,
                schedule_options=schedule and dict(schedule.options),
                **chosen.options,
            )
        rate = chosen.learning_rate
        if schedule is not None:
            rate = make_schedule(schedule.name, **schedule.options)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"optimizer: {first_line(error)}"]) from error
    search, given = config.run.search, {"learning_rate": rate}
    made = call_foreign("optimizer.function", chosen.function, chosen.options, search, given)
    source = f"optimizer.function = {chosen.function!r}"
    return _a(optax.GradientTransformation, made, source, "an optax.GradientTransformation")


def _of_ours(
    folder: str,
    table: str,
    name: str,
    options: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
) -> Any:
    takes = _takes(folder, table, name)
    for option in options:
        check_known(f"{table}: options of {name}", option, takes)
    try:
        return named(folder, name)(**{**(given or {}), **options})
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{table}: {first_line(error)}"]) from error


def _takes(folder: str, table: str, name: str) -> list[str]:
    check_known(f"{table}.name" if table != "metrics" else "metrics.names", name, files(folder))
    return parameters(folder, name)


def _a(kind: type[Made], made: Any, source: str, wanted: str) -> Made:
    if not isinstance(made, kind):
        raise ConfigError([f"{source}: returned {type(made).__name__}, and must return {wanted}"])
    return made
