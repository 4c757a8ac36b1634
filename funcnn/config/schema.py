"""What a config may hold: one frozen model a table, with types, ranges and combinations."""

import os
import re
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from funcnn.config.toml import shown, tables
from funcnn.names import files, parameters, required


def _place(path: str) -> str:
    if "\0" in path:
        raise PydanticCustomError("check", "no path: it holds a NUL character")
    return os.path.expanduser(path)


# Their names are read off the files: to import one costs an import of NumPy.
SETS = "funcnn.data.sets"


def _function(path: str | None) -> str | None:
    if path is not None and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", path):
        found = {"found": shown(path)}
        raise PydanticCustomError("check", 'expected "package.module:build", found {found}', found)
    return path


Name: TypeAlias = Annotated[str, Field(min_length=1)]
Place: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_place)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Options: TypeAlias = dict[str, Any]
FunctionPath: TypeAlias = Annotated[str, AfterValidator(_function)]
Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class Table(BaseModel):
    """One table of the file: frozen, no unknown keys, no conversions (5 is a float, "5" is not)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Chosen(Table):
    """A table that chooses: by the name of one of ours, or a function of the user's own.

    Where neither is given it is `usual`, or an error.
    """

    usual: ClassVar[str | None] = None

    name: Name | None = None
    function: FunctionPath | None = None
    options: Options = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _usual_name(cls, given: Any) -> Any:
        if cls.usual and isinstance(given, dict) and not {"name", "function"} & given.keys():
            return {"name": cls.usual, **given}
        return given

    @field_validator("function")
    @classmethod
    def _at_most_one(cls, function: str | None, info: ValidationInfo) -> str | None:
        if function is not None and info.data.get("name") is not None:
            raise _one_of(cls, "both")
        return function


def _one_of(table: type[Table], found: str) -> PydanticCustomError:
    name = table.__name__.removesuffix("Config").lower()
    message = "give exactly one of {name}.name and {name}.function, found {found}"
    return PydanticCustomError("check_table", message, {"name": name, "found": found})


class RunConfig(Table):
    """[run]: the seed of everything random, the device, and where results go.

    `search` holds the folders where a relative `data.path` and the module of `model.function` are
    looked for, after the current one; a run keeps it, so that it is evaluated from anywhere.
    """

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    platform: Literal["auto", "cpu", "gpu"] = "auto"
    folder: Place = "runs/run"
    search: list[Place] = Field(default_factory=list)


class DataConfig(Chosen):
    """[data]: which rows, how many a step, and how many are kept from training.

    `order` is "shuffled", or "streams": row i of a batch goes on where row i of the one before
    ended. `last` says what becomes of rows that fill no batch.
    """

    usual: ClassVar[str | None] = "digits"

    path: Place | None = Field(default=None, validate_default=True)
    batch_size: Count = 32
    test_fraction: Fraction = 0.2
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    order: Literal["shuffled", "streams"] = "shuffled"
    last: Literal["fill", "drop", "pad", "error"] = "fill"

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str | None) -> str | None:
        if name is not None and name not in (known := files(SETS)):
            *others, last = known
            expected = f"{', '.join(map(repr, others))} or {last!r}"
            raise PydanticCustomError("literal_error", "unknown", {"expected": expected})
        return name

    @field_validator("path")
    @classmethod
    def _path_fits_name(cls, path: str | None, info: ValidationInfo) -> str | None:
        if name := info.data.get("name"):
            names = {"name": name}
            if path is None and "path" in required(SETS, name):
                raise PydanticCustomError("check", 'needed for data.name = "{name}"', names)
            if path is not None and "path" not in parameters(SETS, name):
                message = 'not used by data.name = "{name}"; leave it out'
                raise PydanticCustomError("check", message, names)
        return path


class TaskConfig(Chosen):
    """[task]: what the model takes of a batch, and what its outputs are held against."""

    usual: ClassVar[str | None] = "classification"


class AugmentConfig(Table):
    """[augment]: what is done to the inputs of a step, by names of `funcnn.augment`, in order.

    `function` returns further ones, f(key, x) or a list of them. `options` has a table for each
    name. Where the model predicts, only what draws nothing is done, as "normalise".
    """

    names: list[Name] = Field(default_factory=list)
    function: FunctionPath | None = None
    options: Options = Field(default_factory=dict)


class InitFromConfig(Table):
    """[model.init_from]: params that a new run starts from, of `fnn.load_weights`.

    `path` is a safetensors file, or the folder of a run; a relative one is looked for as data are.
    """

    path: Place
    rename: dict[str, str] = Field(default_factory=dict)
    only: list[Name] | None = None
    strict: bool = True


class ModelConfig(Chosen):
    """[model]: a model of funcnn by name, or the user's own by "package.module:build".

    A builder that takes `classes` or `vocabulary` gets that of the data where `options` say
    nothing.
    """

    function: FunctionPath | None = Field(default=None, validate_default=True)
    init_from: InitFromConfig | None = None

    @field_validator("function")
    @classmethod
    def _at_least_one(cls, function: str | None, info: ValidationInfo) -> str | None:
        if function is None and "name" in info.data and info.data["name"] is None:
            raise _one_of(cls, "neither")
        return function


class LossConfig(Chosen):
    """[loss]: the cost of one row; that of the task where none is named."""


class MetricsConfig(Table):
    """[metrics]: what is measured; that of the task where nothing is named.

    `function` returns further ones, {name: Metric}. `options` has a table for each name; what else
    it has is for the function.
    """

    names: list[Name] | None = None
    function: FunctionPath | None = None
    options: Options = Field(default_factory=dict)


class ScheduleConfig(Table):
    """[optimizer.schedule]: a learning rate that changes with the step, by its name in optax."""

    name: Name
    options: Options = Field(default_factory=dict)


class OptimizerConfig(Chosen):
    """[optimizer]: by its name in optax, or a function that returns one of its transformations.

    The learning rate is a number or a schedule; a function is given it where it takes it. The
    others are those of `fnn.train.make_optimizer`, and for an optimizer by its name.
    """

    usual: ClassVar[str | None] = "adam"

    schedule: ScheduleConfig | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    undecayed: list[Name] = Field(default_factory=list)
    groups: dict[str, Literal["frozen"] | Options] = Field(default_factory=dict)
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)

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


class EarlyStoppingConfig(Table):
    """[train.early_stopping]: a run ends after `patience` evaluations that are no better.

    `metric` is one of the evaluation, "loss" or one of the metrics.
    """

    metric: Name = "loss"
    patience: Count
    smallest_change: Annotated[float, Field(ge=0)] = 0.0


class HooksConfig(Table):
    """[train.hooks]: functions of the user's own that `fnn.train.fit` calls at its events."""

    on_step: FunctionPath | None = None
    on_evaluation: FunctionPath | None = None
    on_save: FunctionPath | None = None


class TrainConfig(Table):
    """[train]: how long, and how often to log, evaluate and save (in steps; 0: only at the end).

    `average` is the decay of an average of the params that is evaluated in their place. `carry`
    hands what a recurrent model carries from batch to batch, in data of the order "streams".
    `best` is a metric of the evaluation: the checkpoint that is best by it is kept, and is the
    result of the run.
    """

    steps: Count = 1500
    steps_per_call: Count = 8
    log_every: Count = 100
    evaluate_every: Annotated[int, Field(ge=0)] = 500
    checkpoint_every: Annotated[int, Field(ge=0)] = 500
    keep_checkpoints: Count = 2
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    carry: bool = False
    best: Name | None = None
    early_stopping: EarlyStoppingConfig | None = None
    hooks: HooksConfig | None = None


class Config(Table):
    """One run, resolved: every key has its value. Frozen; made by `load_config`.

    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> config.train.steps, config.optimizer.name, config.optimizer.learning_rate
    (1500, 'adam', 0.001)
    """

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig(name="digits")
    augment: AugmentConfig = AugmentConfig()
    task: TaskConfig = TaskConfig(name="classification")
    model: ModelConfig
    loss: LossConfig = LossConfig()
    metrics: MetricsConfig = MetricsConfig()
    optimizer: OptimizerConfig = OptimizerConfig(name="adam")
    train: TrainConfig = TrainConfig()

    def functions(self) -> dict[str, str]:
        """The user's own functions that it names: {"model.function": "package.module:build"}."""
        named = {"data": self.data, "task": self.task, "model": self.model, "loss": self.loss}
        named |= {"metrics": self.metrics, "optimizer": self.optimizer, "augment": self.augment}
        chosen = {f"{table}.function": choice.function for table, choice in named.items()}
        hooks = self.train.hooks.model_dump() if self.train.hooks else {}
        chosen |= {f"train.hooks.{event}": function for event, function in hooks.items()}
        return {key: path for key, path in chosen.items() if path is not None}


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
