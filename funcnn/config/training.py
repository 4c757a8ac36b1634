"""The tables of a config that say how a network is trained: [optimizer] and [train]."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from funcnn.config.table import Chosen, Count, FunctionPath, Name, Options, Table
from funcnn.config.toml import shown


def _group(how: Any) -> Any:
    if how != "frozen" and not isinstance(how, dict):
        found = {"found": shown(how)}
        message = 'expected "frozen" or a table of options, found {found}'
        raise PydanticCustomError("check", message, found)
    return how


def _axes(named: Any) -> Any:
    several = named if isinstance(named, list) else [named]
    if not all(isinstance(axis, str) for axis in several):
        found = {"found": shown(named)}
        message = "expected an axis of the mesh, or a list of them, found {found}"
        raise PydanticCustomError("check", message, found)
    return named


Axes: TypeAlias = Annotated[Any, AfterValidator(_axes)]
Group: TypeAlias = Annotated[Any, AfterValidator(_group)]


class ScheduleConfig(Table):
    """[optimizer.schedule]: a learning rate that changes with the step, by its name in optax.

    A number of updates among its options, `decay_steps`, may be "train.steps".
    """

    name: Name
    options: Options = Field(default_factory=dict)


class OptimizerConfig(Chosen):
    """[optimizer]: by its name in optax, or a function that returns one of its transformations.

    The learning rate is a number or a schedule; a function is given it where it takes it. In the
    first `warmup` updates it rises evenly from 0, and a schedule begins after them. The others are
    those of `fnn.train.make_optimizer`, and for an optimizer by its name.
    """

    usual: ClassVar[str | None] = "adam"

    schedule: ScheduleConfig | None = None
    warmup: Annotated[int, Field(ge=0)] = 0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    undecayed: list[Name] = Field(default_factory=list)
    groups: dict[str, Group] = Field(default_factory=dict)
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


class GuardConfig(Table):
    """[train.guard]: what becomes of a step whose loss or gradient is not finite, or a spike.

    `action` is "halt", or "skip", which goes on without it. `spike` is the number of standard
    deviations above the running mean that makes one.
    """

    action: Literal["halt", "skip"] = "halt"
    spike: Annotated[float, Field(gt=0, lt=2**24)] | None = None


class TrainConfig(Table):
    """[train]: how long, and how often to log, evaluate and save (in steps; 0: only at the end).

    With `checkpoint_minutes` a state is also saved so many minutes after the last one.
    `average` is the decay of an average of the params that is evaluated in their place. `carry`
    hands what a recurrent model carries from batch to batch, in data of the order "streams".
    `best` is a metric of the evaluation: the checkpoint that is best by it is kept, and is the
    result of the run. A batch is cut in `accumulate` parts, one after the other in memory.
    `precision` is what the model computes in; params and all that becomes of them stay float32.
    `sharding` says for patterns of names along which axes of the mesh the last axes of params lie.
    `remat` are patterns of paths of layers whose forward pass is computed again on the way back.
    With `tensorboard` metrics and speeds go to files for TensorBoard, too.
    """

    steps: Count = 1500
    steps_per_call: Count = 8
    log_every: Count = 100
    evaluate_every: Annotated[int, Field(ge=0)] = 500
    checkpoint_every: Annotated[int, Field(ge=0)] = 500
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = None
    keep_checkpoints: Count = 2
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    carry: bool = False
    accumulate: Count = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    remat: list[Name] = Field(default_factory=list)
    sharding: dict[str, list[Axes]] = Field(default_factory=dict)
    best: Name | None = None
    tensorboard: bool = False
    early_stopping: EarlyStoppingConfig | None = None
    hooks: HooksConfig | None = None
    guard: GuardConfig = GuardConfig()
