"""The networks of the training benchmarks, said once for every library, and funcnn's own arms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from funcnn import layers, rules, train
from funcnn.bench.measure import Arm
from funcnn.core.composition import chain
from funcnn.core.layer import Layer
from funcnn.gradient.cost.flops import compiled_expense, count_operations
from funcnn.types import Array, Function, Key, Params

LEARNING_RATE = 1e-3
CHECKED = 3  # steps whose losses the arms must agree on


@dataclasses.dataclass(frozen=True)
class Network:
    """A feedforward classifier, its input and the batch.

    Attributes:
        layers: "relu", "pool" (2x2), "flatten", ("conv", channels) with 3x3 windows, or
            ("dense", width).
        shape: of one input.
        batch: rows.
        classes: of the labels.

    >>> Network((("dense", 4), "relu", ("dense", 2)), (3,), 5, 2).params["dense_0"]["w"].shape
    (3, 4)
    """

    layers: tuple[Any, ...]
    shape: tuple[int, ...]
    batch: int
    classes: int

    @property
    def model(self) -> Layer:
        """The network in funcnn."""
        made = {
            "relu": lambda: layers.relu,
            "pool": lambda: layers.max_pool((2, 2)),
            "flatten": lambda: layers.flatten,
            "conv": lambda n: layers.conv(n, (3, 3)),
            "dense": layers.dense,
        }
        kinds = [layer if isinstance(layer, tuple) else (layer,) for layer in self.layers]
        return chain(*(made[kind](*options) for kind, *options in kinds))

    @property
    def params(self) -> Params:
        """The parameters from which every library starts."""
        x = jax.ShapeDtypeStruct((self.batch, *self.shape), "float32")
        return self.model.init(jax.random.key(0), x)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch, random and fixed."""
        random = np.random.default_rng(0)
        x = random.random((self.batch, *self.shape), dtype=np.float32)
        return x, random.integers(0, self.classes, self.batch, dtype=np.int32)


def loss_of(network: Network) -> Callable[..., Array]:
    """The mean cross entropy, as training takes it.

    >>> loss = loss_of(Network((("dense", 2),), (3,), 5, 2))
    >>> callable(loss)
    True
    """
    model = network.model

    def loss(params: Params, batch: dict[str, Array], key: Key | None) -> Array:
        logits = model(params, batch["x"], key=key)
        return rules.softmax_cross_entropy(logits, batch["y"]).mean()

    return loss


class _Training:
    """A run of a compiled step on one batch."""

    def __init__(self, network: Network, loss: Function, steps: int):
        optimizer = optax.adam(LEARNING_RATE)
        self._fresh = lambda: train.TrainState.create(network.params, optimizer, seed=0)
        self.step = train.make_step(loss, optimizer, steps_per_call=steps)
        x, y = network.data()
        if steps > 1:
            x, y = np.stack([x] * steps), np.stack([y] * steps)
        self.batch = jax.device_put({"x": x, "y": y})
        self.state = self._fresh()

    def call(self) -> None:
        self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))

    def values(self) -> list[float]:
        """The losses of the first steps; the run starts anew."""
        losses: list[float] = []
        while len(losses) < CHECKED:
            self.state, metrics = self.step(self.state, self.batch)
            losses += np.ravel(metrics["loss"]).tolist()
        self.state = self._fresh()
        return losses[:CHECKED]


def training_arm(name: str, network: Network, loss: Function, steps_per_call: int = 1) -> Arm:
    """A training step of `loss`, with what the compiler and the jaxpr say of it.

    >>> network = Network((("dense", 2),), (3,), 5, 2)
    >>> training_arm("funcnn", network, loss_of(network)).flops > 0
    True
    """
    run = _Training(network, loss, steps_per_call)
    compiled = run.step.jitted.lower(run.state, run.batch).compile()
    flops = count_operations(jax.make_jaxpr(run.step.jitted)(run.state, run.batch)).flops
    temporary = compiled_expense(compiled).temporary_bytes
    per_step = flops / steps_per_call if math.isfinite(flops) else math.nan
    return Arm(name, run.call, run.values, steps_per_call, temporary, per_step)
