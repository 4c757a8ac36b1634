"""Updates that must not be made: a loss or gradient that is not finite, or far above the others."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jmp
import numpy as np

from funcnn.core.given import described
from funcnn.types import Array, PyTree

# What a state keeps of it: scalars by name.
Health: TypeAlias = dict[str, Array]
_MEMORY = 100  # updates that the running mean of a loss looks back on
_FIRST = 20  # updates before one can be far above the others
_SMALLEST = 0.1  # a deviation below this part of the mean says nothing
_WATCHED = ("loss", "gradient_norm")


class Guard(NamedTuple):
    """What becomes of an update whose loss or gradient is not finite, or far above the others.

    Such an update is not made, compiled into the step, so that nothing waits for it. With "halt"
    the state stays as it is before the bad step from then on, and `fit` raises TrainingError, which
    says where the numbers arose, once it sees that. With "skip" the run goes on with the next
    batch, and counts: metrics then have `skipped`, how many so far. The statistics of batch norm
    must be finite as well: one that is not would stay in their running mean.

    Fields:
        action: "halt" or "skip".
        spike: how many standard deviations above its running mean, over some 100 updates that were
            made, a loss or gradient norm is no longer believed; None, it may be anything finite.
        loss_scale: for a model that computes in float16: the loss is multiplied by this number
            before it is differentiated, so that small gradients do not vanish, and the gradient
            divided. It doubles after 2,000 good updates and halves at one that overflows, which is
            not made either, and is no reason to halt.

    >>> Guard("skip", spike=6.0).action
    'skip'
    """

    action: Literal["halt", "skip"] = "halt"
    spike: float | None = None
    loss_scale: float | None = None

    def check(self) -> None:
        """Raise ValueError where a field has a value that it cannot have.

        >>> Guard("stop").check()
        Traceback (most recent call last):
        ValueError: guard: action is 'halt' or 'skip', found 'stop'
        """
        if self.action not in ("halt", "skip"):
            raise ValueError(f"guard: action is 'halt' or 'skip', found {self.action!r}")
        for name in ("spike", "loss_scale"):
            value = getattr(self, name)
            real = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
            if value is not None and not (real and 0 < value < float("inf")):
                raise ValueError(f"guard: {name} is a number above 0, found {value!r}")
            if value is not None and value >= 2**24:
                raise ValueError(f"guard: {name} is a number below 2**24, found {value!r}")

    def start(self) -> Health:
        """What a state keeps before the first step.

        >>> sorted(Guard().start())[:3]
        ['gradient_norm_mean', 'gradient_norm_variance', 'halted_at']
        """
        self.check()
        of = {f"{name}_{what}": 0.0 for name in _WATCHED for what in ("mean", "variance")}
        health = {name: jnp.asarray(x, jnp.float32) for name, x in of.items()}
        counts = ("halted_at", "skipped", "seen")
        health |= {name: jnp.zeros((), jnp.int32) for name in counts}
        if self.loss_scale is not None:
            health["loss_scale"] = jnp.asarray(self.loss_scale, jnp.float32)
            health["scale_age"] = jnp.zeros((), jnp.int32)
        return health

    def judged(
        self,
        health: Health,
        step: Array,
        loss: Array,
        gradient_norm: Array,
        statistics: PyTree = (),
    ) -> tuple[Array, Health]:
        """Whether an update, the one after `step` others, is made; and what a state keeps then.

        >>> good, health = Guard().judged(Guard().start(), jnp.int32(4), jnp.nan, jnp.float32(1))
        >>> bool(good), int(health["halted_at"])
        (False, 5)
        """
        values = dict(zip(_WATCHED, (loss, gradient_norm), strict=True))
        values = {name: jnp.asarray(x, jnp.float32) for name, x in values.items()}
        finite = jnp.isfinite(values["loss"]) & jnp.isfinite(values["gradient_norm"])
        overflow = jnp.zeros((), bool)
        if self.loss_scale is not None:
            overflow = jnp.isfinite(values["loss"]) & ~jnp.isfinite(values["gradient_norm"])
            # At the smallest scale it is no matter of the scale any more.
            overflow &= health["loss_scale"] > 1
        fine = finite & _finite(statistics)
        if self.spike is not None:
            fine &= ~_spikes(health, values, self.spike)
        running = health["halted_at"] == 0
        good = fine & running
        new, scaled = {**health, **_remembered(health, values, good)}, self._scaled(health, finite)
        bad = running & ~fine & ~overflow
        if self.action == "halt":
            new["halted_at"] = jnp.where(bad, step + 1, health["halted_at"])
            # What comes after a halt is of no run that goes on.
            scaled = {n: jnp.where(running & ~bad, x, health[n]) for n, x in scaled.items()}
        else:
            new["skipped"] = health["skipped"] + bad.astype(jnp.int32)
        return good, {**new, **scaled}

    def _scaled(self, health: Health, finite: Array) -> Health:
        if self.loss_scale is None:
            return {}
        scale = jmp.DynamicLossScale(health["loss_scale"], health["scale_age"])
        with jax.numpy_dtype_promotion("standard"):
            scale = scale.adjust(finite)
        return {"loss_scale": scale.loss_scale, "scale_age": scale.counter}


def checked_guard(guard: object) -> Guard | None:
    """The guard, or None; TypeError where it is neither, ValueError for one that cannot be.

    >>> checked_guard("skip")
    Traceback (most recent call last):
    TypeError: guard is a fnn.train.Guard, such as Guard('skip'), or None, found str 'skip'
    """
    if guard is None:
        return None
    if not isinstance(guard, Guard):
        example = "a fnn.train.Guard, such as Guard('skip'), or None"
        raise TypeError(f"guard is {example}, found {described(guard)}")
    guard.check()
    return guard


def _finite(tree: PyTree) -> Array:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.ones((), bool)


def _spikes(health: Health, values: dict[str, Array], spike: float) -> Array:
    found = jnp.zeros((), bool)
    for name, value in values.items():
        mean, variance = health[f"{name}_mean"], health[f"{name}_variance"]
        deviation = jnp.maximum(jnp.sqrt(variance), _SMALLEST * jnp.abs(mean))
        found |= value > mean + spike * deviation
    return found & (health["seen"] >= _FIRST)


def _remembered(health: Health, values: dict[str, Array], good: Array) -> Health:
    """The running means and variances after one more update, where that is made."""
    seen = health["seen"] + good.astype(jnp.int32)
    weight = jnp.maximum(1 / jnp.maximum(seen, 1).astype(jnp.float32), 1 / _MEMORY)
    new: Health = {"seen": seen}
    for name, value in values.items():
        mean, variance = health[f"{name}_mean"], health[f"{name}_variance"]
        away = value - mean
        moved = {"mean": mean + weight * away}
        moved["variance"] = (1 - weight) * (variance + weight * away**2)
        new |= {
            f"{name}_{what}": jnp.where(good, x, health[f"{name}_{what}"])
            for what, x in moved.items()
        }
    return new


def kept_where(good: Array, new: PyTree, old: PyTree) -> PyTree:
    """The new arrays where an update is good, else the old ones.

    >>> kept_where(jnp.array(False), {"w": jnp.ones(2)}, {"w": jnp.zeros(2)})
    {'w': Array([0., 0.], dtype=float32)}
    """

    def kept(one: Array, other: Array) -> Array:
        return jax.lax.select(jnp.broadcast_to(good, one.shape), one, other)

    return jax.tree.map(kept, new, old)
