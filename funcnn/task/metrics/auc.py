"""The area under the curve of true over false positives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.task.metric import Metric
from funcnn.types import Array


def auc() -> Metric:
    """Logits (B, C), labels (B,) -> scikit-learn's `roc_auc_score`, each class against the rest.

    The share of pairs of a row of the class and another in which it has the higher probability,
    averaged over the classes that some rows have and some have not; NaN where there is none.

    >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> auc().of(logits, jnp.array([0, 0, 1])), auc().of(logits, jnp.array([1, 0, 0]))
    (1.0, 0.0)
    """
    return Metric(_scores, _of_all, higher_is_better=True)


def _scores(logits: Array, labels: Array) -> Array:
    if logits.ndim != 2 or labels.ndim != 1:
        raise ValueError("it takes a row of logits (B, C) and a label (B,) of each sample")
    probabilities = jax.nn.softmax(logits, -1)
    return jnp.concatenate([probabilities, labels[:, None].astype(logits.dtype)], -1)  # (B, C + 1)


def _of_all(rows: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    scores, labels = rows[:, :-1], rows[:, -1]
    areas = []
    for c, score in enumerate(scores.T):
        of_class = labels == c
        if of_class.any() and not of_class.all():
            areas.append(roc_auc_score(of_class, score))
    return float(np.mean(areas)) if areas else float("nan")
