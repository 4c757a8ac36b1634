"""optax's optimizers by name, for a config; a wrong name or option is one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import optax

from funcnn.core.patterns import matching
from funcnn.train.by_name import check_rate, find, make, public_functions
from funcnn.train.groups import UNDECAYED, Groups, checked_groups, in_groups, left_out
from funcnn.train.schedules import schedule_of, warmed_up
from funcnn.train.signature import leaf_names
from funcnn.types import Function, PyTree


class RatedOptimizer(optax.GradientTransformationExtraArgs):
    """An optimizer of optax that tells its `learning_rate`, a number or a function of the step.

    >>> make_optimizer("adam", learning_rate=0.001).learning_rate
    0.001
    """

    learning_rate: float | Function | None = None


def make_optimizer(
    name: str,
    *,
    learning_rate: float | Function | None = None,
    schedule: str | None = None,
    schedule_options: Mapping[str, object] | None = None,
    warmup: int = 0,
    steps: int | None = None,
    clip_norm: float | None = None,
    undecayed: Sequence[str] = (),
    groups: Groups | None = None,
    **options: object,
) -> RatedOptimizer:
    """optax's optimizer `name`, also one of `optax.contrib`, with the options that optax gives it.

    With `schedule`, one of optax's by name, the learning rate follows it; `learning_rate` then
    fills the schedule's `peak_value`, `init_value` or `value`, the first of them that it takes.
    The result has it as `learning_rate`, which `fit` records; None where it has no such option.
    In the first `warmup` updates the rate, also that of a group, rises evenly from 0; `steps` are
    the updates of the run, which "train.steps" stands for in the schedule: see `make_schedule`.

    `clip_norm` is the largest norm of the whole gradient, which is scaled down to it. `undecayed`
    are patterns of names that weight decay leaves out, ["*/b", "*/scale"]. `groups` has for a
    pattern the options in which its params differ, {"head/*": {"learning_rate": 0.01}}, or
    "frozen"; the first pattern that matches decides, and one that matches nothing is an error when
    the state is made.

    `schedule_free_sgd` and `schedule_free_adamw` evaluate other params than they train:
    `TrainState.evaluation_params` gives those.

    Raises ValueError, one line, for an unknown optimizer or schedule, an option that it does not
    take, one that it needs and was not given, and a value of the wrong kind.

    >>> optimizer = make_optimizer("adam", learning_rate=0.001, b1=0.8)
    >>> optimizer = make_optimizer("sgd", learning_rate=0.1, schedule="cosine_decay_schedule",
    ...                            schedule_options={"decay_steps": 100})
    >>> make_optimizer("adamm", learning_rate=0.001)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown optimizer 'adamm': did you mean 'adam'? ...
    """
    factory = find("optimizer", name, optimizers())
    rate = _rate_option(factory)
    if schedule is not None:
        options_of = schedule_options or {}
        learning_rate = schedule_of(schedule, learning_rate, options_of, steps, warmup)
    elif schedule_options:
        raise ValueError(f"schedule options {sorted(schedule_options)} given without a schedule")
    elif learning_rate is not None:
        learning_rate = warmed_up(learning_rate, warmup, steps)
    elif warmup:
        raise ValueError("warmup needs a learning_rate, or a schedule, to warm up to")
    if learning_rate is not None:
        options = {"learning_rate": learning_rate, **options}
    if undecayed:
        options[_decay_mask(name, factory)] = lambda params: left_out(params, undecayed)
    if clip_norm is not None:
        _check_positive("clip_norm", clip_norm)

    def make_one(differing: Mapping[str, object]) -> optax.GradientTransformation:
        own = {**options, **differing}
        if rate in own:
            check_rate(own[rate])
        if "learning_rate" in differing:
            own["learning_rate"] = warmed_up(own["learning_rate"], warmup, steps)
        if "warmup_steps" in own:  # whose rate a record would not have
            raise ValueError(f"optimizer '{name}' takes no warmup_steps here: its warmup says them")
        return make("optimizer", name, factory, own)

    # A step does the same to an optimizer without extra arguments.
    made = optax.with_extra_args_support(in_groups(make_one, checked_groups(groups), clip_norm))

    def init(params: PyTree) -> PyTree:
        matching(UNDECAYED, undecayed, leaf_names(params))  # an optimizer may ask for a part alone
        return made.init(params)

    optimizer = RatedOptimizer(init if undecayed else made.init, made.update)
    optimizer.learning_rate = learning_rate
    return optimizer


def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Every public function of optax that takes a learning rate and gives a transformation.

    One that is made from another optimizer, as `schedule_free`, is none.

    >>> "adamw" in optimizers(), "scale_by_adam" in optimizers(), "schedule_free" in optimizers()
    (True, False, False)
    """
    kinds = (optax.GradientTransformation, optax.GradientTransformationExtraArgs)
    return {
        name: function
        for name, (function, signature) in public_functions().items()
        if signature.return_annotation in kinds
        and _rate_option(function) is not None
        and not name.startswith("scale_by_")
        and "base_optimizer" not in signature.parameters
    }


def _decay_mask(name: str, factory: Function) -> str:
    """The option that says what an optimizer's weight decay leaves out."""
    parameters = inspect.signature(factory).parameters
    mask = next((o for o in ("weight_decay_mask", "mask") if o in parameters), None)
    if mask is None or "weight_decay" not in parameters:
        raise ValueError(f"optimizer '{name}' has no weight decay that undecayed could leave out")
    return mask


def _rate_option(factory: Function) -> str | None:
    parameters = inspect.signature(factory).parameters
    return next((o for o in ("learning_rate", "max_learning_rate") if o in parameters), None)


def _check_positive(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{what} must be a number above 0, found {value!r}")
