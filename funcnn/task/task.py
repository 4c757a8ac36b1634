"""What a task is: what a model takes of a batch, what its outputs are held against, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from funcnn.core.layer import Layer
from funcnn.types import Array, Batch, Key, Params, PyTree, Shape, Shaped

# (outputs of the model, targets) -> the loss of each row, (B,) or (B, ...).
Losses = Callable[[PyTree, Array], Array]
# (model, params, batch, key) -> the losses of rows, or a pair of them and {name: scalar}.
Objective = Callable[[Layer, Params, Batch, Key | None], PyTree]
# (shapes of the outputs of one row, of its targets, classes of the data) -> what is wrong, or "".
Check = Callable[[PyTree, Shaped, int | None], str]


def anything(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """No outputs are wrong.

    >>> anything(None, None, None)
    ''
    """
    return ""


@dataclasses.dataclass(frozen=True)
class Task:
    """Of a batch, which is named arrays, the inputs of a model and the targets of its outputs.

    Attributes:
        inputs: the name of the array that the model is given; of several, a tuple of them.
        targets: the name of the array that its outputs are held against.
        loss: the loss by name, where a config names none: a file of `funcnn.task.losses`.
        metrics: those by name: files of `funcnn.task.metrics`.
        check: what is wrong with outputs of these shapes, in one line.
        ignored: the label that does not count, in the loss and in the metrics.
        objective: in the place of a loss, the losses of rows from the model itself and a whole
            batch: for derivatives by x, several passes, draws.
        fused: whether the model's head and the loss are one in training (`fnn.task.scored`): the
            logits never stand whole, and of a step there is the loss alone.

    >>> Task(targets="x", loss="squared_error", metrics=("mse",)).inputs
    'x'
    """

    inputs: str | tuple[str, ...] = "x"
    targets: str = "y"
    loss: str = "softmax_cross_entropy"
    metrics: tuple[str, ...] = ()
    check: Check = anything
    ignored: int | None = None
    objective: Objective | None = None
    fused: bool = False

    def taken(self, batch: Mapping[str, PyTree]) -> PyTree:
        """What the model is given of a batch."""
        if isinstance(self.inputs, str):
            return batch[self.inputs]
        return tuple(batch[name] for name in self.inputs)

    def names(self) -> tuple[str, ...]:
        """The arrays that it needs; what an objective takes beside the inputs is its own matter."""
        inputs = (self.inputs,) if isinstance(self.inputs, str) else self.inputs
        has_targets = self.objective is None or self.metrics
        return tuple(dict.fromkeys((*inputs, *((self.targets,) if has_targets else ()))))


def check_logits(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """Whether there is a logit for each class of each label.

    >>> logits, labels = jnp.zeros((1, 3)), jnp.zeros(1, jnp.int32)
    >>> check_logits(logits, labels, 10)
    'returns (1, 3) for one row: it must return logits of shape (batch, 10)'
    """
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        return f"the targets are {targets.dtype}, and classes are integers: another task fits them"
    wanted = (*targets.shape, getattr(outputs, "shape", (0,))[-1] if classes is None else classes)
    last = "classes" if classes is None else str(classes)
    shape = ", ".join(["batch", *map(str, targets.shape[1:]), last])
    return _misfit(outputs, [wanted], f"it must return logits of shape ({shape})", "logits")


def check_numbers(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """Whether there is a number for each of the targets.

    >>> check_numbers(jnp.zeros((1, 3)), jnp.zeros(1), None)
    'returns (1, 3) for one row: it must return numbers of shape (batch,) or (batch, 1)'
    """
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        return f"the targets are {targets.dtype}, and numbers are floats: another task fits them"
    shapes = [targets.shape, *([(1, 1)] if targets.ndim == 1 else [])]
    inner = [", ".join(map(str, shape[1:])) for shape in shapes]
    words = " or ".join(f"(batch, {rest})" if rest else "(batch,)" for rest in inner)
    return _misfit(outputs, shapes, f"it must return numbers of shape {words}", "numbers")


def _misfit(outputs: PyTree, shapes: list[Shape], wanted: str, kind: str) -> str:
    """What is wrong with outputs that should have one of the shapes and be floats, or ""."""
    if not hasattr(outputs, "shape"):
        named, cure = type(outputs).__name__, ""
        if isinstance(outputs, dict):
            named = f"a dict of {', '.join(map(str, outputs))}"
            fit = [key for key, y in outputs.items() if getattr(y, "shape", None) in shapes]
            cure = f", as in apply(params, x)[{fit[0]!r}]" if fit else ""
        return f"returns {named}: {wanted} alone{cure}"
    if outputs.shape not in shapes:
        return f"returns {outputs.shape} for one row: {wanted}"
    is_float = jnp.issubdtype(outputs.dtype, jnp.floating)
    return "" if is_float else f"returns {outputs.dtype}: {kind} must be floats"
