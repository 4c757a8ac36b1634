"""The task that a config names, with its loss and its metrics."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from funcnn.chosen.ours import of_kind, of_ours, options_of_name, takes_of
from funcnn.config import Config, ConfigError, check_known
from funcnn.foreign import call_foreign, check_builder, find
from funcnn.names import files, named, parameters
from funcnn.task.metric import Metric, mean_of
from funcnn.task.task import Losses, Task

LOSSES, METRICS, TASKS = "funcnn.task.losses", "funcnn.task.metrics", "funcnn.task.kinds"


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
        return of_kind(
            Task, task, source, "funcnn.Task(inputs=..., targets=..., loss=..., metrics=...)"
        )
    return of_ours(TASKS, "task", str(chosen.name), chosen.options)


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
        given = {"ignored": task.ignored} if "ignored" in takes_of(METRICS, "metrics", name) else {}
        options = options_of_name("metrics", chosen.options, name)
        made[name] = of_ours(METRICS, "metrics", name, options, given)
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
