"""The params that a new run starts from, where its config names a place of some."""

from __future__ import annotations

from funcnn.chosen import located
from funcnn.config import Config, ConfigError
from funcnn.core.errors import first_line
from funcnn.exchange.weights import load_weights
from funcnn.types import Params


def starting_params(config: Config, params: Params) -> Params:
    """The params as drawn, with those of `model.init_from` in their places.

    Raises:
        ConfigError: there is no such file, or it does not fit.

    >>> from funcnn.config import ModelConfig
    >>> starting_params(Config(model=ModelConfig(name="mlp")), {"w": 1.0})
    {'w': 1.0}
    """
    chosen = config.model.init_from
    if chosen is None:
        return params
    place = located(chosen.path, config.run.search) or chosen.path
    try:
        return load_weights(
            place, params, rename=chosen.rename, only=chosen.only, strict=chosen.strict
        )
    except (OSError, ValueError) as error:
        raise ConfigError([f"model.init_from: {first_line(error)}"]) from error
