"""How many training steps one compiled call should take: measured, and a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from funcnn.bench.measure import Arm, Row, measure
from funcnn.gradient.cost.timing import seconds
from funcnn.train import TrainState
from funcnn.train.step import Step
from funcnn.types import Batch

CANDIDATES = (1, 4, 16, 64)
_LONGEST = 1.0  # seconds of a call; where a step takes long, calls cost nothing beside it
_NEAR = 1.05  # of the fastest: what a smaller number of steps may cost, for its shorter wait


class _Run:
    """The loop's work for one number of steps a call: the batches of the call, then the call."""

    def __init__(
        self,
        make: Callable[[int], Step],
        first_state: Callable[[], TrainState],
        batches: Callable[..., Batch],
        steps: int,
    ):
        self.step = make(steps)
        self.first_state, self.batches, self.steps = first_state, batches, steps
        self.state, self.position = first_state(), 0

    def call(self) -> np.ndarray:
        """One call; its losses."""
        at = self.position
        batch = self.batches(at) if self.steps == 1 else self.batches(at, self.steps)
        self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready((self.state, metrics))
        self.position += self.steps
        return np.ravel(metrics["loss"])

    def losses(self, count: int) -> list[float]:
        """Of the first `count` steps; the run starts anew behind them."""
        self.state, self.position = self.first_state(), 0
        losses: list[float] = []
        while len(losses) < count:
            losses += self.call().tolist()
        self.state, self.position = self.first_state(), 0
        return losses[:count]


def compare_steps_per_call(
    make: Callable[[int], Step],
    first_state: Callable[[], TrainState],
    batches: Callable[..., Batch],
    rounds: int,
) -> list[Row]:
    """A row for each number of steps a call, in ms a step, after the losses have agreed.

    Args:
        make: the step that makes so many updates a call.
        first_state: the state before the first step, made anew at each call.
        batches: `batches(step)` and `batches(step, count)`, as `fnn.train.fit` asks for them.
        rounds: how often each is timed, in turn.

    >>> import optax, jax.numpy as jnp
    >>> from funcnn.train import make_step
    >>> loss = lambda params, batch, key: jnp.sum((params - batch) ** 2)
    >>> rows = compare_steps_per_call(
    ...     lambda n: make_step(loss, optax.sgd(0.1), steps_per_call=n),
    ...     lambda: TrainState.create(jnp.zeros(2), optax.sgd(0.1), seed=0),
    ...     lambda step, *count: np.ones((*count, 2), np.float32), rounds=2)
    >>> [row.arm for row in rows]
    ['1 step a call', '4 steps a call', '16 steps a call', '64 steps a call']
    """
    single = _Run(make, first_state, batches, 1)
    single.losses(1)  # compiles
    step_seconds = seconds(lambda: single.losses(1))
    sizes = [n for n in CANDIDATES if n == 1 or n * step_seconds <= _LONGEST]
    arms = []
    for size in sizes:
        run = single if size == 1 else _Run(make, first_state, batches, size)
        name = f"{size} step{'s' if size > 1 else ''} a call"
        arms.append(Arm(name, run.call, lambda run=run: run.losses(sizes[-1]), size))
    return measure("steps_per_call", arms, rounds)


def recommended(rows: Sequence[Row]) -> int:
    """The fewest steps a call that come near the fastest.

    >>> recommended([Row("", "1 step a call", 2.0), Row("", "4 steps a call", 1.02),
    ...              Row("", "16 steps a call", 1.0)])
    4
    """
    measured = [row for row in rows if not row.note]
    fastest = min(row.median for row in measured)
    return next(int(r.arm.split()[0]) for r in measured if r.median <= _NEAR * fastest)
