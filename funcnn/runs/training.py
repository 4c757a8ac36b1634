"""What a config chooses of a run beside its model: hooks, writers, the best checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from funcnn.config import Config, ConfigError, check_known
from funcnn.experiment import Experiment
from funcnn.foreign import check_builder, find
from funcnn.runs.folder import RunFolder
from funcnn.task.metric import Metric
from funcnn.train import Checkpoints, MetricsLog, MetricsWriter, TensorBoardLog, early_stopping
from funcnn.train.hooks import Hooks
from funcnn.train.metrics_log import EVALUATION, OthersLog
from funcnn.train.processes import is_first


def chosen_checkpoints(
    experiment: Experiment, folder: RunFolder, warn: Callable[[str], Any] = warnings.warn
) -> Checkpoints:
    """The checkpoints of a run, with the best kept where its config says by what.

    Raises:
        ConfigError: there is no such metric, or nothing to choose by but the test.
    """
    chosen = experiment.config.train
    if chosen.best is None:
        return Checkpoints(folder.checkpoints, chosen.keep_checkpoints, warn)
    metric = _watched(experiment, "train.best", chosen.best)
    return Checkpoints(
        folder.checkpoints,
        chosen.keep_checkpoints,
        warn,
        best=f"{EVALUATION}{chosen.best}",
        higher_is_better=metric.higher_is_better,
    )


def chosen_hooks(experiment: Experiment) -> Hooks:
    """The hooks of `fnn.train.fit`, early stopping among them.

    Raises:
        ConfigError: a function that cannot be found, no such metric, or nothing to stop by but the
            test.
    """
    config = experiment.config
    hooks: dict[str, list[Any]] = {event: [] for event in ("on_step", "on_evaluation", "on_save")}
    named = config.train.hooks.model_dump() if config.train.hooks else {}
    for event, function in named.items():
        if function is not None:
            key = f"train.hooks.{event}"
            check_builder(function, key)
            hooks[event].append(find(function, f"{key} = {function!r}", config.run.search))
    if stopping := config.train.early_stopping:
        metric = _watched(experiment, "train.early_stopping", stopping.metric)
        hooks["on_evaluation"].append(
            early_stopping(
                f"{EVALUATION}{stopping.metric}",
                stopping.patience,
                higher_is_better=metric.higher_is_better,
                smallest_change=stopping.smallest_change,
            )
        )
    return Hooks(**hooks)


def chosen_writers(
    config: Config, folder: RunFolder
) -> tuple[list[MetricsWriter], list[MetricsWriter]]:
    """Where the metrics of a run go, and where its speeds go.

    Of many processes the first alone writes; the others read what it has written.

    Raises:
        ConfigError: TensorBoard is asked for, and what writes its files is not installed.

    >>> from funcnn.config import Config, ModelConfig
    >>> metrics, speeds = chosen_writers(Config(model=ModelConfig(name="mlp")), RunFolder("x"))
    >>> [writer.path.name for writer in (*metrics, *speeds)]
    ['metrics.jsonl', 'speed.jsonl']
    """
    if not is_first():
        return [OthersLog(folder.metrics)], []
    both: list[MetricsWriter] = []
    if config.train.tensorboard:
        try:
            both.append(TensorBoardLog(folder.tensorboard))
        except ModuleNotFoundError as error:
            raise ConfigError([f"train.tensorboard: {error}"]) from None
    return [MetricsLog(folder.metrics), *both], [MetricsLog(folder.speed), *both]


def result_step(config: Config, checkpoints: Checkpoints) -> int | None:
    """The step of the checkpoint that is the result of a run: the best, or None for the newest."""
    return None if config.train.best is None else checkpoints.best_step()


def _watched(experiment: Experiment, key: str, name: str) -> Metric:
    metrics = experiment.measured.figures()
    check_known(key, name, list(metrics))
    if experiment.dataset.validation is None:
        cure = "set rows apart for it with data.validation_fraction"
        raise ConfigError([f"{key} = {name!r}: would choose by the test split; {cure}"])
    return metrics[name]
