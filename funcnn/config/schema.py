"""What a config may hold: one frozen model a table, with types, ranges and combinations."""

import os
import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from funcnn.config.toml import shown, tables
from funcnn.names import files, parameters


def _place(path: str) -> str:
    if "\0" in path:
        raise PydanticCustomError("check", "no path: it holds a NUL character")
    return os.path.expanduser(path)


# Their names are read off the files: to import one costs an import of NumPy.
SETS = "funcnn.data.sets"


def _data_set(name: object) -> object:
    *others, last = files(SETS)
    if name not in (*others, last):
        expected = f"{', '.join(map(repr, others))} or {last!r}"
        raise PydanticCustomError("literal_error", "unknown", {"expected": expected})
    return name


Name: TypeAlias = Annotated[str, Field(min_length=1)]
Place: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_place)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Options: TypeAlias = dict[str, Any]


class Table(BaseModel):
    """One table of the file: frozen, no unknown keys, no conversions (5 is a float, "5" is not)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RunConfig(Table):
    """[run]: the seed of everything random, the device, and where results go.

    `search` holds the folders where a relative `data.path` and the module of `model.function` are
    looked for, after the current one; a run keeps it, so that it is evaluated from anywhere.
    """

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    platform: Literal["auto", "cpu", "gpu"] = "auto"
    folder: Place = "runs/run"
    search: list[Place] = Field(default_factory=list)


class DataConfig(Table):
    """[data]: which images, and how many a step."""

    name: Annotated[str, BeforeValidator(_data_set)] = "digits"
    path: Place | None = Field(default=None, validate_default=True)
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    batch_size: Count = 32

    @field_validator("path")
    @classmethod
    def _path_fits_name(cls, path: str | None, info: ValidationInfo) -> str | None:
        if name := info.data.get("name"):
            wanted, names = "path" in parameters(SETS, name), {"name": name}
            if wanted and path is None:
                raise PydanticCustomError(
                    "check", 'needed for data.name = "{name}": the folder', names
                )
            if path is not None and not wanted:
                raise PydanticCustomError(
                    "check", 'not used by data.name = "{name}"; leave it out', names
                )
        return path


class ModelConfig(Table):
    """[model]: a model of funcnn by name, or the user's own by "package.module:build"."""

    name: Name | None = None
    function: str | None = Field(default=None, validate_default=True)
    options: Options = Field(default_factory=dict)

    @field_validator("function")
    @classmethod
    def _exactly_one(cls, function: str | None, info: ValidationInfo) -> str | None:
        if "name" in info.data and (info.data["name"] is None) == (function is None):
            given = "neither" if function is None else "both"
            raise PydanticCustomError(
                "check_table",
                "give exactly one of model.name and model.function, found {found}",
                {"found": given},
            )
        if function is not None and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", function):
            raise PydanticCustomError(
                "check",
                'expected "package.module:build", found {found}',
                {"found": shown(function)},
            )
        return function


class LossConfig(Table):
    """[loss]: the cost of one row."""

    name: Name = "softmax_cross_entropy"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ScheduleConfig(Table):
    """[optimizer.schedule]: a learning rate that changes with the step, by its name in optax."""

    name: Name
    options: Options = Field(default_factory=dict)


class OptimizerConfig(Table):
    """[optimizer]: by its name in optax; the learning rate is a number or a schedule."""

    name: Name = "adam"
    schedule: ScheduleConfig | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    options: Options = Field(default_factory=dict)

    @field_validator("learning_rate")
    @classmethod
    def _number_or_schedule(cls, rate: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("schedule") is None:
            return 1e-3 if rate is None else rate
        if rate is not None:
            raise PydanticCustomError(
                "check", "replaced by [optimizer.schedule]; give only one of the two"
            )
        return rate


class TrainConfig(Table):
    """[train]: how long, and how often to log, evaluate and save (in steps; 0: only at the end)."""

    steps: Count = 1500
    steps_per_call: Count = 8
    log_every: Count = 100
    evaluate_every: Annotated[int, Field(ge=0)] = 500
    checkpoint_every: Annotated[int, Field(ge=0)] = 500
    keep_checkpoints: Count = 2


class Config(Table):
    """One run, resolved: every key has its value. Frozen; made by `load_config`.

    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> config.train.steps, config.optimizer.name, config.optimizer.learning_rate
    (1500, 'adam', 0.001)
    """

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()


def dump_config(config: Config) -> str:
    """The resolved config as TOML text: every key with its value; it loads back equal.

    >>> print(dump_config(Config(model=ModelConfig(name="mlp", options={"hidden": [64, 32]}))))
    [run]
    seed = 0
    ...
    [model]
    name = "mlp"
    <BLANKLINE>
    [model.options]
    hidden = [64, 32]
    ...
    """
    return "\n".join(tables(config.model_dump(exclude_none=True))).lstrip("\n") + "\n"
