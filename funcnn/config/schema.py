"""What a config may hold: one frozen model a table, with types, ranges and combinations.

The tables of training stand in `training`, what all tables are in `table`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from funcnn.config.table import (
    Chosen,
    Count,
    Fraction,
    FunctionPath,
    Name,
    Options,
    Place,
    Table,
    one_of,
)
from funcnn.config.toml import tables
from funcnn.config.training import OptimizerConfig, TrainConfig
from funcnn.names import files, parameters, required

# Their names are read off the files: to import one costs an import of NumPy.
SETS = "funcnn.data.sets"


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


class MeshConfig(Table):
    """[mesh]: the devices, by axes whose product is their number; one may be -1, the rest.

    Rows of a batch lie along `data` and `fsdp`, params along `fsdp` and `tensor`, as
    `train.sharding` says. `processes` is the number of processes that train together, each with
    devices of its own; their coordinator's address and their own number stand in the environment.
    """

    data: Annotated[int, Field(ge=-1)] = -1
    fsdp: Annotated[int, Field(ge=-1)] = 1
    tensor: Annotated[int, Field(ge=-1)] = 1
    processes: Count = 1


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
            raise one_of(cls, "neither")
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


class Config(Table):
    """One run, resolved: every key has its value. Frozen; made by `load_config`.

    >>> config = Config(model=ModelConfig(name="mlp"))
    >>> config.train.steps, config.optimizer.name, config.optimizer.learning_rate
    (1500, 'adam', 0.001)
    """

    run: RunConfig = RunConfig()
    mesh: MeshConfig | None = None
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
