"""A task and a model made into what a step minimises and what an evaluation looks at."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from funcnn.augment.mixup import MixedLabels, mixed_losses
from funcnn.core.layer import Layer, Statistics
from funcnn.data.batches import MASK
from funcnn.data.streams import FIRST
from funcnn.task.augmenting import Augmenting
from funcnn.task.metric import Metric, in_training, mean_of
from funcnn.task.scored import scored
from funcnn.task.task import Losses, Task
from funcnn.types import Array, Key, Params, PyTree

CARRY = "carry"
WEIGHT = "weight"  # of the step, which takes it out of the metrics


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model at a task, with the losses of its rows and the metrics that are asked for.

    Attributes:
        model: outputs = model(params, inputs, key=key).
        task: what the model takes of a batch, and what its outputs are held against.
        losses: (outputs, targets) -> (B,) or (B, ...); of no use where the task has an objective.
        metrics: by name.
        augmenting: what is done to the inputs first, or None.

    >>> import jax, funcnn as fnn
    >>> from funcnn.task.losses.squared_error import squared_error
    >>> from funcnn.task.metrics.mse import mse
    >>> from funcnn.task.kinds.regression import regression
    >>> line = Measured(fnn.dense(1), regression(), squared_error, {"mse": mse()})
    >>> params = {"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}
    >>> batch = {"x": jnp.array([[1.0], [2.0]]), "y": jnp.array([1.0, 4.0])}
    >>> value, metrics = line.loss(params, batch, jax.random.key(0))
    >>> float(value), float(metrics["mse"])
    (1.0, 2.0)
    """

    model: Layer
    task: Task
    losses: Losses
    metrics: Mapping[str, Metric]
    augmenting: Augmenting | None = None

    def loss(
        self, params: Params, batch: Mapping[str, Array], key: Key | None
    ) -> tuple[Array, dict[str, PyTree]]:
        """The mean loss of a batch, and its metrics: what `make_step` takes."""
        mask = batch.get(MASK)
        batch, key = self._augmented(batch, key)
        if self.task.objective is not None:
            losses, found = _checked(self.task.objective(self.model, params, batch, key))
            return self._mean(losses, jnp.ones_like(losses), mask, found)
        if self.task.fused:
            return self._fused_mean(params, batch, key, mask)
        outputs, taken = self.model.value_and_statistics(params, self.task.taken(batch), key)
        return self._mean_and_metrics(outputs, taken, batch[self.task.targets], mask)

    def carrying_loss(
        self, params: Params, batch: Mapping[str, Array], key: Key | None, extra: PyTree
    ) -> tuple[Array, dict[str, PyTree]]:
        """`loss` of a model that goes on from `extra["carry"]`, of which the next is returned.

        The carry starts again in the rows that are the first of their stream: truncated
        backpropagation through time. Evaluation starts anew in each row.
        """
        first = batch[FIRST]
        carry = jax.tree.map(lambda c: jnp.where(_beside(first, c), 0, c), extra[CARRY])
        inputs = carry, self.task.taken(batch)
        (carry, outputs), taken = self.model.value_and_statistics(params, inputs, key)
        targets, mask = batch[self.task.targets], batch.get(MASK)
        value, found = self._mean_and_metrics(outputs, taken, targets, mask)
        return value, {**found, "extra": {**extra, CARRY: jax.lax.stop_gradient(carry)}}

    def predict(self, params: Params, inputs: PyTree) -> PyTree:
        """The outputs of the model for the inputs of some rows, as in evaluation."""
        if self.augmenting is not None:
            inputs = self.augmenting.of_inputs(None, inputs)
        return self.model(params, inputs)

    def _augmented(
        self, batch: Mapping[str, Array], key: Key | None
    ) -> tuple[Mapping[str, PyTree], Key | None]:
        """The batch, and the key that is left for the model."""
        if self.augmenting is None:
            return batch, key
        inputs, targets = str(self.task.inputs), self.task.targets
        if key is None:
            return {**batch, inputs: self.augmenting.of_inputs(None, batch[inputs])}, None
        drawing, key = jax.random.split(key)
        return self.augmenting.of_batch(drawing, batch, inputs, targets), key

    def _mean_and_metrics(
        self, outputs: PyTree, taken: Statistics, targets: PyTree, mask: Array | None
    ) -> tuple[Array, dict[str, PyTree]]:
        if isinstance(targets, MixedLabels):
            losses = mixed_losses(self.losses, outputs, targets)
            targets = targets.y  # a metric asks for what an image shows most of
        else:
            losses = self.losses(outputs, targets)
        found: dict[str, PyTree] = {
            name: in_training(metric, outputs, targets, mask)
            for name, metric in self.metrics.items()
            if metric.is_mean
        }
        found |= {"statistics": taken} if taken else {}
        return self._mean(losses, self._counts(losses, targets), mask, found)

    def rows(self, params: Params, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What each row gives to the loss and to each metric, (B, ...), in evaluation."""
        found = {}
        batch, _ = self._augmented(batch, None)
        if self.task.objective is not None:
            losses, _ = _checked(self.task.objective(self.model, params, batch, None))
            found["loss"] = self._loss_metric().rows(losses, losses)
            if not self.metrics:
                return found
        outputs, targets = self.model(params, self.task.taken(batch)), batch[self.task.targets]
        named = self.figures() if self.task.objective is None else self.metrics
        return found | {name: metric.rows(outputs, targets) for name, metric in named.items()}

    def figures(self) -> dict[str, Metric]:
        """The metrics of an evaluation, the loss among them."""
        return {"loss": self._loss_metric(), **self.metrics}

    def _loss_metric(self) -> Metric:
        if self.task.objective is not None:
            return mean_of(lambda losses, _: losses)
        return mean_of(self.losses, ignored=self.task.ignored)

    def _fused_mean(
        self, params: Params, batch: Mapping[str, Array], key: Key | None, mask: Array | None
    ) -> tuple[Array, dict[str, PyTree]]:
        """The mean loss alone: metrics would ask for the logits."""
        labels, ignored = batch[self.task.targets], self.task.ignored
        unknown = -1 if ignored is None else ignored  # no label is negative
        if mask is not None:
            labels = jnp.where(mask.reshape(-1, *[1] * (labels.ndim - 1)), labels, unknown)
        model = scored(self.model, labels, unknown, **_smoothing(self.losses))
        value, taken = model.value_and_statistics(params, self.task.taken(batch), key)
        found: dict[str, PyTree] = {"statistics": taken} if taken else {}
        if mask is not None or ignored is not None:
            found[WEIGHT] = jnp.sum(labels != unknown).astype(value.dtype)
        return value, found

    def _mean(
        self, losses: Array, counts: Array, mask: Array | None, found: dict[str, PyTree]
    ) -> tuple[Array, dict[str, PyTree]]:
        """The mean of the losses (B, ...) that count, in a row that counts.

        Where not all do, `weight` says to a step that accumulates how many did.
        """
        if mask is not None:
            known = jnp.broadcast_to(mask.reshape(-1, *[1] * (losses.ndim - 1)), losses.shape)
            losses, counts = jnp.where(known, losses, 0), jnp.where(known, counts, 0)
        total = jnp.sum(counts)
        some = mask is not None or self.task.ignored is not None
        return jnp.sum(losses) / jnp.maximum(total, 1), found | ({WEIGHT: total} if some else {})

    def _counts(self, losses: Array, targets: Array) -> Array:
        ignored = self.task.ignored
        if ignored is None or not jnp.issubdtype(targets.dtype, jnp.integer):
            return jnp.ones_like(losses)
        return jnp.broadcast_to(targets != ignored, losses.shape).astype(losses.dtype)


def _smoothing(losses: Losses) -> dict[str, float]:
    """The options of softmax_cross_entropy that a head and a loss in one have, too."""
    given = losses.keywords if isinstance(losses, functools.partial) else {}
    return {name: value for name, value in given.items() if name == "smoothing"}


def _checked(found: PyTree) -> tuple[Array, dict[str, PyTree]]:
    """What an objective returned, as losses and metrics."""
    losses, metrics = found if isinstance(found, tuple) else (found, {})
    if not hasattr(losses, "shape") or losses.ndim == 0:
        raise TypeError(
            "task: objective must return the losses of rows, (B,) or (B, ...), alone or in a "
            f"pair with a dict of metrics, found {getattr(losses, 'shape', type(losses))}"
        )
    return losses, dict(metrics)


def _beside(first: Array, carry: Array) -> Array:
    """(B,) as (B, 1, ...), with as many axes as the carry."""
    return first.reshape(first.shape + (1,) * (carry.ndim - 1))
