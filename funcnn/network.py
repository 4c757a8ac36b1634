"""A config's model at its task, tried on shapes alone: nothing is drawn, no data are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from funcnn.chosen import (
    chosen_augmenting,
    chosen_losses,
    chosen_metrics,
    chosen_model,
    chosen_task,
)
from funcnn.config import Config, ConfigError
from funcnn.core.caching import start_cache
from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.core.memory import SeesAhead
from funcnn.data.known import Known
from funcnn.foreign import BUILDS, no_exit
from funcnn.task.losses.softmax_cross_entropy import softmax_cross_entropy
from funcnn.task.measured import Measured
from funcnn.task.scored import head_of
from funcnn.train.statistics import Statistics
from funcnn.types import Params, PyTree


class Network(NamedTuple):
    """What is known of a model before any number is drawn.

    Attributes:
        measured: the model at its task, with losses and metrics.
        draw: `draw() -> params`, from the seed of the config; one program for all of them.
        params: their shapes.
        statistics: the shapes of the statistics of its batch norms, `{}` where there is none.
        carry: the shapes of what it carries from batch to batch, `()` where it carries nothing.
    """

    measured: Measured
    draw: Callable[[], Params]
    params: Params
    statistics: Statistics
    carry: PyTree


def network_of(config: Config, known: Known) -> Network:
    """The model of a config for data of which this is known, with all that belongs to it.

    Raises:
        ConfigError: a name or an option that does not exist, or a model that does not fit.

    >>> from funcnn.config import Config, ModelConfig
    >>> x, y = jax.ShapeDtypeStruct((1, 3), "float32"), jax.ShapeDtypeStruct((1,), "int32")
    >>> known = Known({"x": x, "y": y}, classes=2)
    >>> network = network_of(Config(model=ModelConfig(name="mlp")), known)
    >>> network.params["dense_0"]["w"].shape, network.params["dense_2"]["w"].shape
    ((3, 64), (32, 2))
    """
    task = chosen_task(config)
    augmenting, model = chosen_augmenting(config, task), chosen_model(config, known)
    losses, metrics = chosen_losses(config, task), chosen_metrics(config, task)
    measured = Measured(model, task, losses, metrics, augmenting)
    key, row = jax.random.key(config.run.seed), known.arrays
    inputs = task.taken(row)
    source = f"model: does not fit {_shapes(inputs)}"
    init = jax.jit(lambda key: model.init(key, inputs))
    with no_exit(source):
        try:
            params = jax.eval_shape(init, key)
        except Exception as error:
            raise ConfigError([f"{source}: init(key, x): {_told(error)}"]) from error
        _check_params(params)
        _check_augmenting(measured, row)
        statistics = _outputs_and_statistics(measured, params, row, known.classes, source)
        carry = _carry(config, measured, params, inputs)
        _check_sight(config, model, params)

    def draw() -> Params:
        with no_exit(source):
            try:
                return init(key)
            except Exception as error:
                raise ConfigError([f"{source}: init(key, x): {_told(error)}"]) from error

    return Network(measured, draw, params, statistics, carry)


def _check_augmenting(measured: Measured, row: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Whether the augmentations take the inputs, and leave them their shape and dtype."""
    augmenting, task, key = measured.augmenting, measured.task, jax.random.key(0)
    if augmenting is None:
        return
    inputs = str(task.inputs)
    x = row[inputs]
    source = f"augment: does not fit {_shapes(x)}"
    try:
        ys = [jax.eval_shape(augmenting.of_inputs, k, x) for k in (None, key)]
        if task.objective is None:
            jax.eval_shape(lambda row: augmenting.of_batch(key, row, inputs, task.targets), row)
    except Exception as error:
        raise ConfigError([f"{source}: {_told(error)}"]) from error
    for y in ys:
        if jax.typeof(y) != jax.typeof(x):
            kinds = f"{jax.typeof(x)} becomes {jax.typeof(y)}"
            raise ConfigError([f"{source}: shape and dtype must stay, and {kinds}"])


def _outputs_and_statistics(
    measured: Measured,
    params: Params,
    row: Mapping[str, jax.ShapeDtypeStruct],
    classes: int | None,
    source: str,
) -> Statistics:
    """The statistics that the model takes in training, once its outputs are what the task needs."""
    model, task = measured.model, measured.task
    if task.objective is not None:
        return {}
    arguments = params, task.taken(row), jax.random.key(0)
    try:
        outputs, statistics = jax.eval_shape(model.value_and_statistics, *arguments)
    except Exception as error:
        raise ConfigError([f"{source}: {_told(error, params)}"]) from error
    if task.fused:
        _check_fused(measured)
    targets = row[task.targets]
    if wrong := task.check(outputs, targets, classes):
        raise ConfigError([f"model: {wrong}"])
    _check_losses(measured, outputs, targets)
    return statistics


def _check_fused(measured: Measured) -> None:
    """Whether the model has a head that can be one with the loss, and the loss is its own."""
    source, needs = "task: fused", ""
    if head_of(measured.model) is None:
        needs = "the model ends in a fnn.dense called head or in its fnn.tokens called tokens"
    elif getattr(measured.losses, "func", None) is not softmax_cross_entropy:
        needs = 'loss.name is "softmax_cross_entropy"'
    elif measured.augmenting is not None:
        needs = "there are no augmentations"
    if needs:
        raise ConfigError([f"{source}: head and loss can be one where {needs}"])


def _carry(config: Config, measured: Measured, params: Params, inputs: PyTree) -> PyTree:
    """The shapes of what the model carries from batch to batch; `()` where it is not to."""
    if not config.train.carry:
        return ()
    source = "train.carry = true"
    if config.data.order != "streams":
        needs = 'needs data.order = "streams", in which a batch goes on from the one before'
        raise ConfigError([f"{source}: {needs}"])
    misfits = {
        "a head and a loss in one: task.options.fused": measured.task.fused,
        "an objective of its own": measured.task.objective is not None,
        "augmentations": measured.augmenting is not None,
        "train.accumulate: what is carried is of all rows": config.train.accumulate > 1,
    }
    for what in (what for what, is_there in misfits.items() if is_there):
        raise ConfigError([f"{source}: does not go with {what}"])
    rows = config.data.batch_size
    x = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), inputs)
    try:
        found = jax.eval_shape(measured.model, params, (None, x))
    except Exception as error:
        raise ConfigError([f"{source}: the model takes no (carry, x): {_told(error)}"]) from error
    if not isinstance(found, tuple) or len(found) != 2 or not jax.tree.leaves(found[0]):
        kind = type(found).__name__
        raise ConfigError([f"{source}: of (carry, x) a model returns (carry, y), found a {kind}"])
    return found[0]


def _check_sight(config: Config, model: Layer, params: Params) -> None:
    """A ConfigError where a model sees the next tokens, which it is to foretell: it would copy."""
    if config.task.name != "language" or config.data.name not in ("text", "tokens"):
        return
    try:
        start_cache(model, params, 1, 1)
    except SeesAhead as error:
        why = f"it sees the next tokens, which it is to foretell: {first_line(error)}"
        raise ConfigError([f"model: {why}"]) from error
    except Exception:
        return  # what no cache holds for another reason may be right


def _shapes(inputs: PyTree) -> str:
    shapes = [str(x.shape[1:]) for x in jax.tree.leaves(inputs)]
    return f"inputs of {' and '.join(shapes)}"


def _check_losses(measured: Measured, outputs: PyTree, targets: jax.ShapeDtypeStruct) -> None:
    """Whether loss and metrics take outputs and targets, and give something for each row."""
    named = {"loss": measured.losses, **{n: m.rows for n, m in measured.metrics.items()}}
    for name, rows in named.items():
        what = "loss" if name == "loss" else f"metric {name!r}"
        fits = f"outputs {jax.tree.map(lambda y: y.shape, outputs)} and targets {targets.shape}"
        with no_exit(what):
            try:
                found = jax.eval_shape(rows, outputs, targets)
            except Exception as error:
                raise ConfigError([f"{what}: does not fit {fits}: {_told(error)}"]) from error
        if not hasattr(found, "shape") or found.shape[:1] != (1,):
            given = getattr(found, "shape", type(found).__name__)
            raise ConfigError(
                [f"{what}: must give something for each row, (B, ...), found {given}"]
            )


def _told(error: Exception, params: PyTree = None) -> str:
    """One line of what the user's model, or one of ours, raised."""
    notes = "; ".join(n for n in getattr(error, "__notes__", []) if n.startswith("in layer"))
    message = first_line(error)
    if isinstance(error, KeyError) and " " not in message:  # a dict says nothing but the key
        held = f"; params hold {', '.join(map(str, params))}" if isinstance(params, dict) else ""
        message = f"there is no {message!r}{held}"
    elif type(error).__module__ != "builtins" or isinstance(error, AttributeError | IndexError):
        message = f"{type(error).__name__}: {message}"
    return message + (f" ({notes})" if notes else "")


def _check_params(params: PyTree) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        message = "has no parameters to train; a function alone has none"
        raise ConfigError([f"model: {message}: {BUILDS}"])
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            message = f"params hold {leaf.dtype} at {name!r}; every parameter must be a float"
            raise ConfigError([f"model: {message}"])
