"""The augmentations of a task: what is done to a batch before a model sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax

from funcnn.augment.mixup import mixup
from funcnn.types import Array, Key, PyTree

# (key, x) -> x of the same shape; x itself without a key, but for what is no chance.
Augment = Callable[[Key | None, Array], Array]


@dataclasses.dataclass(frozen=True)
class Augmenting:
    """Augmentations one after the other, and perhaps pairs of rows mixed at the end.

    Attributes:
        steps: functions of a key and the inputs.
        mixed: the options of `funcnn.augment.mixup`, or None where nothing is mixed.

    >>> import jax.numpy as jnp
    >>> from funcnn.augment import flip
    >>> batch = {"x": jnp.ones((2, 4, 4, 1)), "y": jnp.array([0, 1])}
    >>> mixing = Augmenting((flip,), mixed={"alpha": 0.2})
    >>> mixing.of_batch(jax.random.key(0), batch, "x", "y")["y"].weight.shape
    (2,)
    >>> Augmenting((flip,)).of_inputs(None, batch["x"]) is batch["x"]
    True
    """

    steps: tuple[Augment, ...] = ()
    mixed: Mapping[str, float] | None = None

    def of_inputs(self, key: Key | None, x: Array) -> Array:
        """The inputs as the model gets them; in evaluation there is no key."""
        keys = [None] * len(self.steps) if key is None else jax.random.split(key, len(self.steps))
        for step, own in zip(self.steps, keys, strict=True):
            x = step(own, x)
        return x

    def of_batch(
        self, key: Key, batch: Mapping[str, PyTree], inputs: str, targets: str
    ) -> dict[str, PyTree]:
        """A batch for training; its targets are `MixedLabels` where rows are mixed."""
        moving, mixing = jax.random.split(key)
        x = self.of_inputs(moving, batch[inputs])
        if self.mixed is None:
            return {**batch, inputs: x}
        x, labels = mixup(mixing, x, batch[targets], **self.mixed)
        return {**batch, inputs: x, targets: labels}
