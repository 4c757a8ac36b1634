"""The training step: a pure function of (state, batch), compiled, one update or K a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from funcnn.core.precision import wide
from funcnn.core.usage import as_integer
from funcnn.train.accumulation import Differentiated, Valued, differentiated, valued
from funcnn.train.extra import same_types
from funcnn.train.health import Guard, Health, checked_guard, kept_where
from funcnn.train.loss import checked_loss
from funcnn.train.mesh import Placement, Sharding
from funcnn.train.signature import leaf_name, signature
from funcnn.train.state import TrainState, check_params
from funcnn.train.statistics import merge_statistics
from funcnn.train.update import updated
from funcnn.types import Array, Batch, Function, Loss, Metrics, PyTree

# One call of a step, `make_step`'s or a plain function.
Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# after_update(params, extra, step) -> extra
AfterUpdate = Callable[[PyTree, PyTree, Array], PyTree]
# One update, which is not compiled.
Body = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps_per_call: int = 1,
    momentum: float = 0.9,
    after_update: AfterUpdate | None = None,
    accumulate: int = 1,
    guard: Guard | None = None,
    mesh: Mesh | None = None,
    sharding: Sharding | None = None,
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

    `accumulate` is the number of parts that a batch is cut in, one after the other in memory: to
    rounding the same update where no row depends on the others. A loss that is not the mean over
    all rows returns among its metrics, as `weight`, over how many it is one. `guard` says what
    becomes of an update that is not finite, or far above the others; the state is then made with
    the same, `TrainState.create(..., guard=guard)`. See `Guard`.

    On many devices `mesh`, of `make_mesh`, says how the rows of a batch and the params lie, and
    `sharding` how single params do, by patterns of their names, {"**/w": ["fsdp", "tensor"]}; see
    `Placement`. `step.place(state)` lays out a first state; a batch may be NumPy's.

    With `steps_per_call=1` the batch is as the loss takes it and the metrics are scalars. With
    K > 1 every array of the batch has a leading axis of K, or fewer in a last call, and the metrics
    have it too; the K updates run in one `lax.scan` and give the same parameters.

    Raises TypeError, naming the leaf or the shape, where params are not floating point, the loss is
    no scalar or its metrics are no scalars, the optimizer changes the type of its own state, the
    statistics are not those of the state, or `extra` changes its tree or types; ValueError for a
    leading axis that is not 1 ... K, rows that cannot be cut in equal parts, or an option that is
    outside its range.

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
    if sharding and mesh is None:
        raise ValueError("make_step: sharding is for a mesh: give mesh=fnn.train.make_mesh(...)")
    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(f"make_step: mesh is one of fnn.train.make_mesh(...), found {mesh!r}")
    if not isinstance(sharding, Mapping | None):
        raise TypeError(f"make_step: sharding is a dict by patterns of names, found {sharding!r}")
    placement = None if mesh is None else Placement(mesh, sharding or {})
    return Step(
        loss, optimizer, steps_per_call, momentum, after_update, accumulate, guard, placement
    )


class Step:
    """A compiled training step, made by `make_step`.

    `body` is the same update as a pure function that is not compiled, always of one batch; `jitted`
    is what a call runs, for `jitted.trace(state, batch)` and ahead of time compilation.
    `differentiated` is the value and the gradient that it takes, in `accumulate` parts of a batch.
    `placement` says how arrays lie on many devices, None on one.
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
        accumulate: int = 1,
        guard: Guard | None = None,
        placement: Placement | None = None,
    ):
        for name, count in (("steps_per_call", steps_per_call), ("accumulate", accumulate)):
            if as_integer(count) is None:
                raise ValueError(f"{name} must be an integer, found {count!r}")
            if count < 1:
                raise ValueError(f"{name} must be at least 1, found {count}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, found {momentum!r}")
        self.steps_per_call, self.accumulate = int(steps_per_call), int(accumulate)
        self.learning_rate: float | Function | None = getattr(optimizer, "learning_rate", None)
        optimizer = optax.with_extra_args_support(optimizer)
        self.loss, self.guard = checked_loss(loss), checked_guard(guard)
        self.differentiated = differentiated(self.loss, self.accumulate)
        value = valued(self.loss, self.accumulate)
        self.placement = placement
        self.body = _make_body(value, self.differentiated, optimizer, momentum, after_update, guard)
        if placement is not None:
            self.body = _laid_out(self.body, placement)

        def scanned(state: TrainState, batches: Batch) -> tuple[TrainState, dict[str, Array]]:
            return jax.lax.scan(self.body, state, batches)

        self.jitted = jax.jit(self.body if steps_per_call == 1 else scanned, donate_argnums=0)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        """Make `steps_per_call` updates, or as many as the leading axis of `batch` has."""
        if self.steps_per_call > 1:
            check_leading_axis(batch, 1, self.steps_per_call)
        if self.placement is not None:
            batch = self.placement.put(batch, self.of_batch(batch))
        return self.jitted(state, batch)

    def of_batch(self, batch: Batch) -> PyTree:
        """How the arrays of the batch of a call are to lie on the mesh, which there is.

        Raises ValueError where their rows cannot be spread evenly.
        """
        assert self.placement is not None
        stacked = self.steps_per_call > 1
        return self.placement.of_batch(batch, stacked=stacked, accumulate=self.accumulate)

    def place(self, state: TrainState) -> TrainState:
        """The state as it is to lie on the devices of the mesh; without a mesh, as it is.

        Raises ValueError where a pattern of `sharding` or an axis of the mesh cannot be meant.
        """
        if self.placement is None:
            return state
        self.placement.check(state.params)
        return self.placement.put(state, self.placement.of_state(state))


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


def _laid_out(body: Body, placement: Placement) -> Body:
    """The same update, whose new state lies as the old one."""

    def laid_out(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        state, metrics = body(state, batch)
        return placement.constrained(state), metrics

    return laid_out


def _make_body(
    again: Valued,
    find: Differentiated,
    optimizer: optax.GradientTransformationExtraArgs,
    momentum: float,
    after_update: AfterUpdate | None,
    guard: Guard | None,
) -> Body:
    def body(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        check_params(state.params)
        _check_health(guard, state.health)
        # The barriers keep XLA from fusing across them, so that the parts are compiled alike in a
        # plain call and in the loop: the slice of the stacked batches stays out of the loss, and
        # the loss out of the update.
        batch = jax.lax.optimization_barrier(batch)
        key = state.step_key()

        scale = state.health.get("loss_scale")
        found = find(state.params, batch, key, state.extra, scale)
        value, outcome, gradient = jax.lax.optimization_barrier(found)

        def value_fn(params: PyTree) -> Array:
            return again(params, batch, key, state.extra)

        params, optimizer_state = updated(optimizer, state, gradient, value, value_fn)
        statistics = merge_statistics(state.statistics, outcome.statistics, momentum)
        extra = _next_extra(state, params, outcome.extra, after_update)
        metrics = {"loss": value, **outcome.metrics, "gradient_norm": _norm(gradient)}
        step, health = state.step + 1, state.health
        new = TrainState(params, optimizer_state, step, state.seed, statistics, extra, health)
        return (new, metrics) if guard is None else _guarded(guard, state, new, metrics)

    return body


def _guarded(
    guard: Guard, old: TrainState, new: TrainState, metrics: dict[str, Array]
) -> tuple[TrainState, dict[str, Array]]:
    """The new state where its update is to be made; else the old one, one step on or halted."""
    values = metrics["loss"], metrics["gradient_norm"], new.statistics
    good, health = guard.judged(old.health, old.step, *values)
    kept = kept_where(good, new._replace(health={}), old._replace(health={}))
    stays = (health["halted_at"] > 0).astype(jnp.int32)
    told = "halted_at" if guard.action == "halt" else "skipped"
    metrics = {**metrics, told: health[told]}
    if guard.loss_scale is not None:
        metrics["loss_scale"] = old.health["loss_scale"]
    return kept._replace(step=old.step + 1 - stays, health=health), metrics


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


def _check_health(guard: Guard | None, health: Health) -> None:
    """Raise TypeError where the state was made with another guard than the step, or none."""
    wanted, found = (set() if guard is None else set(guard.start())), set(health)
    if wanted != found:
        raise TypeError(
            "the step's guard is not that of the state: make both with the same, "
            "TrainState.create(params, optimizer, seed, guard=guard) and "
            "make_step(loss, optimizer, guard=guard)"
        )


def _norm(gradient: PyTree) -> Array:
    """Root of the sum of squares over all leaves, in float32 or better."""
    leaves = jax.tree.leaves(gradient)
    dtype = max(map(wide, (leaf.dtype for leaf in leaves)), key=lambda dtype: dtype.itemsize)
    squares = [jnp.sum(jnp.square(x.astype(dtype))) for x in leaves]
    return jnp.sqrt(sum(squares, jnp.zeros((), dtype)))
