"""What a config does to the inputs of a step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from funcnn.chosen.ours import options_of_name
from funcnn.config import Config, ConfigError, check_known
from funcnn.foreign import call_foreign
from funcnn.names import files, named, parameters
from funcnn.task.augmenting import Augment, Augmenting
from funcnn.task.task import Task

AUGMENT = "funcnn.augment"


def chosen_augmenting(config: Config, task: Task) -> Augmenting | None:
    """What is done to the inputs of a step, or None.

    >>> from funcnn.chosen import chosen_task
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
        options = options_of_name("augment", chosen.options, name)
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
