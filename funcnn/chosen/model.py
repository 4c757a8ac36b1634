"""The model that a config names."""

from __future__ import annotations

from funcnn import models
from funcnn.config import Config, ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.core.precision import compute_in
from funcnn.core.remat import remat
from funcnn.data.known import Known
from funcnn.foreign import build_foreign, built_by


def chosen_model(config: Config, known: Known) -> Layer:
    """The model; one that takes `classes` or `vocabulary` has those of the data.

    It computes in the precision of the config, and again on the way back what that says.

    >>> from funcnn.config import Config, ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp", options={"hidden": []}))
    >>> chosen_model(config, Known({}, classes=3))
    chain(flatten_0=flatten, dense_0=dense)
    """
    model, chosen = _built(config, known), config.train
    try:
        model = remat(model, *chosen.remat) if chosen.remat else model
    except ValueError as error:
        raise ConfigError([f"train.{first_line(error)}"]) from error
    return model if chosen.precision == "float32" else compute_in(model, chosen.precision)


def _built(config: Config, known: Known) -> Layer:
    options, given = dict(config.model.options), known.given()
    if config.model.function is not None:
        return build_foreign(config.model.function, options, config.run.search, given)
    name = config.model.name or ""
    check_known("model.name", name, models.__all__)
    return built_by(getattr(models, name), options, f"model.name = {name!r}", given)
