"""What a config chooses by a name or by a function, one function a table."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import optax

from funcnn import data, models
from funcnn.config import Config, ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.data.dataset import SplitError
from funcnn.data.known import Known
from funcnn.data.loading import SETS, finished, load
from funcnn.data.own import as_dataset
from funcnn.foreign import build_foreign, built_by, call_foreign, check_builder, find
from funcnn.modules import folders
from funcnn.names import files, named, parameters
from funcnn.task.augmenting import Augment, Augmenting
from funcnn.task.metric import Metric, mean_of
from funcnn.task.task import Losses, Task
from funcnn.train import make_optimizer, make_schedule

AUGMENT = "funcnn.augment"
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
    path = config.data.path
    if path is None:
        return None
    found = located(path, config.run.search)
    if found is None:
        raise data.DataError(f"no such folder in {' or in '.join(folders(config.run.search))}")
    return found


def located(path: str, search: Sequence[str]) -> str | None:
    """Where a path of a config leads: from the current folder, then from those of `search`.

    >>> located("no/such/file", ["/tmp"]) is None, located("/no/such/file", [])
    (True, '/no/such/file')
    """
    if os.path.isabs(path):
        return path
    existing = [p for p in folders(search) if os.path.exists(os.path.join(p, path))]
    if not existing:
        return None
    return path if existing[0] == os.getcwd() else os.path.join(existing[0], path)


def chosen_model(config: Config, known: Known) -> Layer:
    """The model; one that takes `classes` or `vocabulary` has those of the data.

    >>> from funcnn.config import Config, ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp", options={"hidden": []}))
    >>> chosen_model(config, Known({}, classes=3))
    chain(flatten_0=flatten, dense_0=dense)
    """
    options, given = dict(config.model.options), known.given()
    if config.model.function is not None:
        return build_foreign(config.model.function, options, config.run.search, given)
    name = config.model.name or ""
    check_known("model.name", name, models.__all__)
    return built_by(getattr(models, name), options, f"model.name = {name!r}", given)


def chosen_augmenting(config: Config, task: Task) -> Augmenting | None:
    """What is done to the inputs of a step, or None.

    >>> from funcnn.config import AugmentConfig, Config, ModelConfig
    >>> flipped = Config(model=ModelConfig(name="mlp"), augment=AugmentConfig(names=["flip"]))
    >>> chosen_augmenting(flipped, chosen_task(flipped)).mixed is None
    True
    """
    chosen = config.augment
    known = [name for name in files(AUGMENT) if name != "augmentation"]
    for option in chosen.options:
        check_known("augment.options", option, chosen.names)
    steps: list[Augment] = []
    mixed: Mapping[str, Any] | None = None
    for name in chosen.names:
        check_known("augment.names", name, known)
        options = _options_of_name("augment", chosen.options, name)
        for option in options:
            takes = [p for p in parameters(AUGMENT, name) if p not in ("key", "x", "y")]
            check_known(f"augment: options of {name}", option, takes)
        if name == "mixup":
            mixed = options
        else:
            steps.append(functools.partial(named(AUGMENT, name), **options))
    steps += _own_augmentations(config)
    if not steps and mixed is None:
        return None
    if not isinstance(task.inputs, str):
        raise ConfigError([f"augment: the task takes several arrays, {', '.join(task.inputs)}"])
    if mixed is not None and (task.objective is not None or config.data.last == "pad"):
        why = "the task has an objective" if task.objective else 'data.last = "pad" fills batches'
        raise ConfigError([f"augment: mixup mixes rows and their targets, and {why}"])
    return Augmenting(tuple(steps), mixed)


def _own_augmentations(config: Config) -> list[Augment]:
    function = config.augment.function
    if function is None:
        return []
    made = call_foreign("augment.function", function, {}, config.run.search)
    several = list(made) if isinstance(made, list | tuple) else [made]
    for one in several:
        if not callable(one):
            wanted = "a function f(key, x), or a list of them"
            found = type(one).__name__
            raise ConfigError([f"augment.function = {function!r}: must return {wanted}: {found}"])
    return several


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
        options = {n: x for n, x in chosen.options.items() if n not in names}
        own = call_foreign("metrics.function", chosen.function, options, config.run.search)
        own = _checked_metrics(own, f"metrics.function = {chosen.function!r}")
    for name in chosen.options if chosen.function is None else ():
        check_known("metrics.options", name, list(names))
    made = {}
    for name in names:
        given = {"ignored": task.ignored} if "ignored" in _takes(METRICS, "metrics", name) else {}
        options = _options_of_name("metrics", chosen.options, name)
        made[name] = _of_ours(METRICS, "metrics", name, options, given)
    return made | dict(own)


def _options_of_name(table: str, options: Mapping[str, Any], name: str) -> dict[str, Any]:
    of_name = options.get(name, {})
    if not isinstance(of_name, dict):
        raise ConfigError([f"{table}.options.{name}: expected a table, found {of_name!r}"])
    return of_name


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
                clip_norm=chosen.clip_norm,
                undecayed=chosen.undecayed,
                groups=chosen.groups,
                **chosen.options,
            )
        if chosen.clip_norm is not None or chosen.undecayed or chosen.groups:
            raise ValueError("clip_norm, undecayed and groups are for an optimizer by its name")
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
