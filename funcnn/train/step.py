"""The training step: a pure function of (state, batch), compiled, one update or K a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import optax

from funcnn.core.usage import as_integer
from funcnn.train.extra import EXTRA, same_types, takes_extra
from funcnn.train.signature import differences, first_of, leaf_name, signature
from funcnn.train.state import TrainState, check_params
from funcnn.train.statistics import Statistics, merge_statistics
from funcnn.types import Array, Batch, Function, Loss, Metrics, PyTree

# One call of a step, `make_step`'s or a plain function.
Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# after_update(params, extra, step) -> extra
AfterUpdate = Callable[[PyTree, PyTree, Array], PyTree]

RESERVED = ("loss", "gradient_norm")
STATISTICS = "statistics"


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps_per_call: int = 1,
    momentum: float = 0.9,
    after_update: AfterUpdate | None = None,
) -> Step:
    """Compile one update of `loss(params, batch, key) -> scalar` or `(scalar, metrics)`.

    The result is called as `state, metrics = step(state, batch)` and donates `state`: the arrays of
    the old state are gone afterwards. `metrics` holds `loss`, the loss's own metrics (a dict of
    scalars) and `gradient_norm`, the root of the sum of squares of the whole gradient. The key of a
    step is `fold_in(key(seed), step)`, so it depends on nothing that happened before.

    A loss of a model with batch norm returns what `model.value_and_statistics` gave it among its
    metrics, as `statistics`: they are no metric, but go into the state, whose running mean forgets
    by `momentum` a step (see `funcnn.train.statistics`); they take no part in the gradient.

    A loss with a parameter named `extra` gets the state's: `loss(params, batch, key, extra)`. What
    it returns as `extra` among its metrics goes into the state, for the next step: the carry of a
    recurrent network, say. `after_update(params, extra, step) -> extra` then sees the new params
    and the number of updates made: `average_params` makes one, and a target network is another,
    `jax.tree.map(lambda new, old: jnp.where(step % 100 == 0, new, old), params, extra)`. Whoever
    returns no `extra` leaves it as it is. No gradient goes through it.

    With `steps_per_call=1` the batch is as the loss takes it and the metrics are scalars. With
    K > 1 every array of the batch has a leading axis of K, or fewer in a last call, and the metrics
    have it too; the K updates run in one `lax.scan` and give the same parameters.

    Raises TypeError, naming the leaf or the shape, where params are not floating point, the loss is
    no scalar or its metrics are no scalars, the optimizer changes the type of its own state, the
    statistics are not those of the state, or `extra` changes its tree or types; ValueError for a
    leading axis that is not 1 ... K, or a momentum outside [0, 1).

    >>> from funcnn.train import TrainState
    >>> def loss(params, batch, key):
    ...     return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)
    >>> step = make_step(loss, optax.sgd(0.1))
    >>> state = TrainState.create({"w": jnp.zeros(2)}, optax.sgd(0.1), seed=0)
    >>> batch = {"x": jnp.eye(2), "y": jnp.ones(2)}
    >>> state, metrics = step(state, batch)
    >>> float(metrics["loss"]), int(state.step)
    (1.0, 1)
    """
    return Step(loss, optimizer, steps_per_call, momentum, after_update)


class Step:
    """A compiled training step, made by `make_step`.

    `body` is the same update as a pure function that is not compiled, always of one batch; `jitted`
    is what a call runs, for `jitted.trace(state, batch)` and ahead of time compilation.
    `learning_rate` is the optimizer's, a number or a function of the updates made before, where it
    tells one (see `make_optimizer`), else None.

    >>> step = make_step(lambda params, batch, key: jnp.sum(params["w"] * batch), optax.sgd(1.0))
    >>> step.steps_per_call
    1
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        steps_per_call: int,
        momentum: float = 0.9,
        after_update: AfterUpdate | None = None,
    ):
        if as_integer(steps_per_call) is None:
            raise ValueError(f"steps_per_call must be an integer, found {steps_per_call!r}")
        if steps_per_call < 1:
            raise ValueError(f"steps_per_call must be at least 1, found {steps_per_call}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, found {momentum!r}")
        self.steps_per_call = steps_per_call
        self.learning_rate: float | Function | None = getattr(optimizer, "learning_rate", None)
        optimizer = optax.with_extra_args_support(optimizer)
        self.body = _make_body(_taking_extra(loss), optimizer, momentum, after_update)

        def scanned(state: TrainState, batches: Batch) -> tuple[TrainState, dict[str, Array]]:
            return jax.lax.scan(self.body, state, batches)

        self.jitted = jax.jit(self.body if steps_per_call == 1 else scanned, donate_argnums=0)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        """Make `steps_per_call` updates, or as many as the leading axis of `batch` has."""
        if self.steps_per_call > 1:
            check_leading_axis(batch, 1, self.steps_per_call)
        return self.jitted(state, batch)


def check_leading_axis(batch: Batch, smallest: int, largest: int) -> int:
    """The leading axis that all arrays of a stacked batch share; ValueError where they do not.

    >>> check_leading_axis({"x": jnp.zeros((8, 2))}, 1, 8)
    8
    >>> check_leading_axis({"x": jnp.zeros((9, 2))}, 1, 8)
    Traceback (most recent call last):
    ValueError: batch leaf 'x' is float32[9, 2]: its leading axis must count the steps, 1 to 8
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        (array,) = signature(leaf).leaves
        if not array.shape or not smallest <= array.shape[0] <= largest:
            steps = f"1 to {largest}" if smallest < largest else str(largest)
            raise ValueError(
                f"batch leaf '{leaf_name(path)}' is {array}: "
                f"its leading axis must count the steps, {steps}"
            )
        smallest = largest = array.shape[0]
    return largest


def _taking_extra(loss: Loss) -> Loss:
    """The loss as `loss(params, batch, key, extra)`, whether or not it asks for `extra`."""
    if takes_extra(loss):
        return lambda params, batch, key, extra: loss(params, batch, key, extra=extra)
    return lambda params, batch, key, extra: loss(params, batch, key)


def _make_body(
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    momentum: float,
    after_update: AfterUpdate | None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    def body(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        check_params(state.params)
        # The barriers keep XLA from fusing across them, so that the parts are compiled alike in a
        # plain call and in the loop: the slice of the stacked batches stays out of the loss, and
        # the loss out of the update.
        batch = jax.lax.optimization_barrier(batch)
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)

        def objective(params: PyTree) -> tuple[Array, tuple[dict[str, Array], Statistics, PyTree]]:
            return _checked_loss(loss(params, batch, key, state.extra))

        value_and_gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        value_and_gradient = jax.lax.optimization_barrier(value_and_gradient)
        (value, (metrics, statistics, extra)), gradient = value_and_gradient
        params, optimizer_state = _update(optimizer, state, gradient, value, objective)
        statistics = merge_statistics(state.statistics, statistics, momentum)
        extra = _next_extra(state, params, extra, after_update)
        metrics = {"loss": value, **metrics, "gradient_norm": _norm(gradient)}
        state = TrainState(params, optimizer_state, state.step + 1, state.seed, statistics, extra)
        return state, metrics

    return body


def _next_extra(
    state: TrainState, params: PyTree, extra: PyTree, after_update: AfterUpdate | None
) -> PyTree:
    """The `extra` of the next state, from the loss's own, or None, and the new params."""
    cure = "its tree, shapes and dtypes are those of TrainState.create(..., extra=...)"
    extra = state.extra if extra is None else extra
    extra = same_types(extra, state.extra, f"the loss returns another extra ({cure})")
    if after_update is None:
        return extra
    # As in the body: what averages the params is compiled apart from what updates them.
    params, extra = jax.lax.optimization_barrier((params, extra))
    new = after_update(params, extra, state.step + 1)
    return same_types(new, state.extra, f"after_update returns another extra ({cure})")


def _update(
    optimizer: optax.GradientTransformationExtraArgs,
    state: TrainState,
    gradient: PyTree,
    value: Array,
    objective: Callable[[PyTree], tuple[Array, PyTree]],
) -> tuple[PyTree, PyTree]:
    # optax's adam and schedules mix dtypes, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        _check_optimizer(optimizer, state)

        def value_fn(params: PyTree) -> Array:
            return objective(params)[0]

        # What line searches, Polyak steps and sharpness-aware ones ask for; the others ignore it.
        extra = {"value": value, "grad": gradient, "value_fn": value_fn}
        extra |= {"grad_fn": lambda params, _=None: jax.grad(value_fn)(params)}
        try:
            updates, optimizer_state = optimizer.update(
                gradient, state.optimizer_state, state.params, **_taken(optimizer.update, extra)
            )
        except (TypeError, ValueError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise TypeError(
                f"the optimizer's update fails: {reason} (beside gradient, state and params it is "
                f"given what it takes of {', '.join(extra)})"
            ) from error
        params = optax.apply_updates(state.params, updates)
    complaint = "the optimizer changes the type of its own state"
    return params, same_types(optimizer_state, state.optimizer_state, complaint)


def _taken(update: Function, extra: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that an optimizer's update names, or all where it takes any."""
    parameters = inspect.signature(update).parameters
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # A line search hands what it does not know on to value_fn, which takes no grad_fn.
    return {n: x for n, x in extra.items() if n in parameters or (any_name and n != "grad_fn")}


def _check_optimizer(optimizer: optax.GradientTransformation, state: TrainState) -> None:
    """Raise TypeError where the state was made with another optimizer than the step."""
    made = jax.eval_shape(optimizer.init, state.params)
    was, now = (signature({"optimizer_state": t}) for t in (made, state.optimizer_state))
    if was.treedef == now.treedef and [x.shape for x in was.leaves] == [
        x.shape for x in now.leaves
    ]:
        return
    raise TypeError(
        f"the step's optimizer is not that of the state, {first_of(differences(was, now))}: make "
        f"step and state with the same, TrainState.create(params, optimizer, seed) and "
        f"make_step(loss, optimizer)"
    )


def _norm(gradient: PyTree) -> Array:
    """Root of the sum of squares over all leaves, in float32 or better."""
    leaves = jax.tree.leaves(gradient)
    # The widest, not the promoted dtype: strict promotion has no dtype for bfloat16 and float32.
    dtypes = [jnp.dtype(jnp.float32), *(leaf.dtype for leaf in leaves)]
    dtype = max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)
    squares = [jnp.sum(jnp.square(x.astype(dtype))) for x in leaves]
    return jnp.sqrt(sum(squares, jnp.zeros((), dtype)))


def _checked_loss(output: PyTree) -> tuple[Array, tuple[dict[str, Array], Statistics, PyTree]]:
    """The loss's scalar, and metrics, statistics and extra or None; else a TypeError says why."""
    value, metrics = output if isinstance(output, tuple) and len(output) == 2 else (output, {})
    if not _is_scalar(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"loss must return a floating point scalar, found {_describe(value)}")
    if not isinstance(metrics, dict):
        raise TypeError(f"loss must return its metrics as a dict, found {_describe(metrics)}")
    statistics, extra = metrics.get(STATISTICS, {}), metrics.get(EXTRA)
    metrics = {name: x for name, x in metrics.items() if name not in (STATISTICS, EXTRA)}
    for name, metric in metrics.items():
        if name in RESERVED:
            raise TypeError(f"loss returns a metric named '{name}', which the step itself gives")
        if not _is_scalar(metric):
            raise TypeError(f"metric '{name}' must be a scalar, found {_describe(metric)}")
    return value, (metrics, statistics, extra)


def _is_scalar(value: PyTree) -> TypeGuard[Array]:
    is_array = jax.tree.all(jax.tree.map(lambda x: hasattr(x, "dtype"), value))
    return is_array and jax.tree.structure(value) == jax.tree.structure(0) and value.shape == ()


def _describe(value: PyTree) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"
