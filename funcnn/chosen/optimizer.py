"""The optimizer that a config names."""

from __future__ import annotations

import optax

from funcnn.chosen.ours import of_kind
from funcnn.config import Config, ConfigError
from funcnn.core.errors import first_line
from funcnn.foreign import call_foreign
from funcnn.train import make_optimizer
from funcnn.train.schedules import RUN_LENGTH, schedule_of, warmed_up


def chosen_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer, with its learning rate or schedule.

    >>> from funcnn.config import Config, ModelConfig
    >>> chosen_optimizer(Config(model=ModelConfig(name="mlp")))._fields
    ('init', 'update')
    """
    chosen, steps = config.optimizer, config.train.steps
    schedule = chosen.schedule
    try:
        if chosen.function is None:
            return make_optimizer(
                str(chosen.name),
                learning_rate=chosen.learning_rate,
                schedule=schedule and schedule.name,
                schedule_options=schedule and dict(schedule.options),
                warmup=chosen.warmup,
                steps=steps,
                clip_norm=chosen.clip_norm,
                undecayed=chosen.undecayed,
                groups=chosen.groups,
                **chosen.options,
            )
        if chosen.clip_norm is not None or chosen.undecayed or chosen.groups:
            raise ValueError("clip_norm, undecayed and groups are for an optimizer by its name")
        if schedule is not None:
            rate = schedule_of(schedule.name, None, schedule.options, steps, chosen.warmup)
        else:
            rate = warmed_up(chosen.learning_rate, chosen.warmup, steps)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"optimizer: {first_line(error)}"]) from error
    search, given = config.run.search, {"learning_rate": rate}
    made = call_foreign("optimizer.function", chosen.function, chosen.options, search, given)
    source = f"optimizer.function = {chosen.function!r}"
    return of_kind(optax.GradientTransformation, made, source, "an optax.GradientTransformation")


def other_rates(before: Config, now: Config) -> str | None:
    """One line where a run that goes on for another number of steps has other learning rates.

    >>> from funcnn.config import Config, ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> print(other_rates(config, config))
    None
    """
    schedule, steps = now.optimizer.schedule, now.train.steps
    follows = schedule is not None and RUN_LENGTH in schedule.options.values()
    if not follows or steps == before.train.steps:
        return None
    begun = f"{RUN_LENGTH} was {before.train.steps} when this run began and is {steps} now"
    return f"{begun}: from here on the learning rate is that of a run of {steps}"
