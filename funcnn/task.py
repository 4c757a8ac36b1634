"""What a task is: what a model takes of a batch, what its outputs are held against, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from funcnn.core.layer import Layer
from funcnn.types import Array, Batch, Key, Params, PyTree, Shaped

# (outputs of the model, targets) -> the loss of each row, (B,) or (B, ...).
Losses = Callable[[PyTree, Array], Array]
# (model, params, batch, key) -> scalar, or (scalar, {name: scalar}).
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
        loss: the loss by name, where a config names none: a file of `funcnn.losses`.
        metrics: those by name: files of `funcnn.metrics`.
        check: what is wrong with outputs of these shapes, in one line.
        ignored: the label that does not count, in the loss and in the metrics.
        objective: a loss of one's own instead of `loss`, of the model itself and a whole batch: for
            derivatives by x, several passes, draws.

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

    def taken(self, batch: Mapping[str, PyTree]) -> PyTree:
        """What the model is given of a batch."""
        if isinstance(self.inputs, str):
            return batch[self.inputs]
        return tuple(batch[name] for name in self.inputs)

    def names(self) -> tuple[str, ...]:
        """The arrays that it needs."""
        inputs = (self.inputs,) if isinstance(self.inputs, str) else self.inputs
        return tuple(dict.fromkeys((*inputs, *((self.targets,) if self.loss else ()))))


def check_logits(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """Whether there is a logit for each class of each label.

    >>> import jax, jax.numpy as jnp
    >>> logits, labels = jnp.zeros((1, 3)), jnp.zeros(1, jnp.int32)
    >>> check_logits(logits, labels, 10)
    'returns (1, 3) for one row and the data has 10 classes: it must return logits of shape (1, 10)'
    """
    if not _is_integer(targets):
        return f"the targets are {targets.dtype}, and classes are integers: another task fits them"
    many = (*targets.shape, "classes" if classes is None else classes)
    wanted = f"it must return logits of shape ({', '.join(map(str, many))})"
    if not hasattr(outputs, "shape"):
        return _of_several(outputs, wanted)
    known = f" and the data has {classes} classes" if classes is not None else ""
    if outputs.shape[:-1] != targets.shape or classes not in (None, outputs.shape[-1]):
        return f"returns {outputs.shape} for one row{known}: {wanted}"
    return "" if _is_float(outputs) else f"returns {outputs.dtype}: logits must be floats"


def check_numbers(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """Whether there is a number for each of the targets.

    >>> import jax, jax.numpy as jnp
    >>> check_numbers(jnp.zeros((1, 3)), jnp.zeros(1), None)
    'returns (1, 3) for one row: it must return numbers of shape (1,) or (1, 1)'
    """
    shapes = dict.fromkeys([targets.shape, *([(*targets.shape, 1)] if targets.ndim == 1 else [])])
    wanted = f"it must return numbers of shape {' or '.join(map(str, shapes))}"
    if not _is_float(targets):
        return f"the targets are {targets.dtype}, and numbers are floats: another task fits them"
    if not hasattr(outputs, "shape"):
        return _of_several(outputs, wanted)
    if outputs.shape not in shapes:
        return f"returns {outputs.shape} for one row: {wanted}"
    return "" if _is_float(outputs) else f"returns {outputs.dtype}: numbers must be floats"


def _of_several(outputs: PyTree, wanted: str) -> str:
    kind, cure = f"a {type(outputs).__name__}", ""
    if isinstance(outputs, dict):
        kind = f"a dict of {', '.join(map(str, outputs))}"
        first = next(iter(outputs), "logits")
        cure = f", as in apply(params, x)[{first!r}]"
    return f"returns {kind}: {wanted} alone{cure}"


def _is_integer(x: Shaped) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.integer))


def _is_float(x: Shaped) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
