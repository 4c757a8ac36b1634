"""The rows that a config names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from funcnn import data
from funcnn.config import Config, ConfigError
from funcnn.data.dataset import OptionError, SplitError
from funcnn.data.loading import SETS, finished, load
from funcnn.data.own import as_dataset
from funcnn.foreign import call_foreign
from funcnn.modules import folders
from funcnn.names import parameters


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
    except OptionError as error:
        raise ConfigError([f"data.options.{error.option}: {error}"]) from error
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
        searched = " or in ".join(folders(config.run.search))
        raise data.DataError(f"no such file or folder in {searched}")
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
