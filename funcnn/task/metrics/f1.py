"""The harmonic mean of precision and recall, averaged over the classes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from funcnn.task.metric import Metric
from funcnn.types import Array


def f1(average: str = "macro", ignored: int | None = None) -> Metric:
    """Logits (B, ..., C), labels (B, ...) -> from 0 to 1, that of scikit-learn.

    It is taken over the classes that occur.

    `average`: "macro", every class weighs the same; "micro", every row; "weighted", by frequency.
    Raises ValueError for any other.

    >>> f1().of(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 1]))
    1.0
    """
    if average not in ("macro", "micro", "weighted"):
        raise ValueError(f"f1: average must be 'macro', 'micro' or 'weighted', found {average!r}")

    def of_all(rows: np.ndarray) -> float:
        from sklearn.metrics import f1_score

        predicted, labels = known(rows, ignored)
        classes = np.unique(np.concatenate([predicted, labels]))
        return float(f1_score(labels, predicted, labels=classes, average=average))

    return Metric(predictions, of_all, higher_is_better=True)


def predictions(logits: Array, labels: Array) -> Array:
    """The class of the largest logit and the label of each row, (B, 2, ...).

    >>> predictions(jnp.array([[0.0, 3.0]]), jnp.array([0])).tolist()
    [[[1], [0]]]
    """
    predicted = jnp.argmax(logits, -1).astype(labels.dtype)
    return jnp.stack([v.reshape(v.shape[0], -1) for v in (predicted, labels)], axis=1)


def known(rows: np.ndarray, ignored: int | None) -> np.ndarray:
    """Predictions and labels, (2, N), of all rows whose label counts.

    >>> known(np.array([[[1], [0]], [[2], [-1]]]), ignored=-1).tolist()
    [[1], [0]]
    """
    flat = rows.transpose(1, 0, 2).reshape(2, -1)
    return flat if ignored is None else flat[:, flat[1] != ignored]
