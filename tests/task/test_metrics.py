"""Metrics: figures of all rows, whatever the batches; each beside a second way to compute it."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from funcnn.names import files, named
from funcnn.task.metric import Metric, in_training, mean_of
from funcnn.task.metrics.auc import auc
from funcnn.train import make_evaluation

RANDOM = np.random.default_rng(0)
ROWS, CLASSES, TOKENS = 23, 4, 5
LOGITS = RANDOM.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, ROWS, dtype=np.int32)
TEXT = RANDOM.normal(size=(ROWS, TOKENS, CLASSES)).astype(np.float32)
NEXT = RANDOM.integers(0, CLASSES, (ROWS, TOKENS), dtype=np.int32)
# Some rows have few tokens that count, and one has none: a mean of means of rows is another one.
NEXT[0] = -100
NEXT[1:9, 1:] = -100
NUMBERS, TARGETS = RANDOM.normal(size=(2, ROWS, 3)).astype(np.float32)


def losses_of_tokens():
    known = NEXT != -100
    top = TEXT.max(-1, keepdims=True)
    logs = TEXT - top - np.log(np.exp(TEXT - top).sum(-1, keepdims=True))
    of_label = np.take_along_axis(logs, np.where(known, NEXT, 0)[..., None], -1)[..., 0]
    return -of_label[known].astype(np.float64)


def rank_of_label():
    order = np.argsort(-LOGITS, -1)
    return np.argmax(order == LABELS[:, None], -1)


ONE_AGAINST_ALL = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
# name -> its options, outputs, targets, and the figure by NumPy or scikit-learn
FIGURES = {
    "accuracy": ({}, LOGITS, LABELS, np.mean(LOGITS.argmax(-1) == LABELS)),
    "top_k": ({"k": 2}, LOGITS, LABELS, np.mean(rank_of_label() < 2)),
    "f1": (
        {},
        LOGITS,
        LABELS,
        sklearn.metrics.f1_score(LABELS, LOGITS.argmax(-1), average="macro"),
    ),
    "auc": (
        {},
        LOGITS,
        LABELS,
        sklearn.metrics.roc_auc_score(LABELS, ONE_AGAINST_ALL, multi_class="ovr"),
    ),
    "perplexity": ({"ignored": -100}, TEXT, NEXT, np.exp(losses_of_tokens().mean())),
    "bits_per_character": ({"ignored": -100}, TEXT, NEXT, losses_of_tokens().mean() / np.log(2)),
    "mse": ({}, NUMBERS, TARGETS, np.mean((NUMBERS - TARGETS) ** 2)),
    "mae": ({}, NUMBERS, TARGETS, np.mean(np.abs(NUMBERS - TARGETS))),
    "r2": ({}, NUMBERS, TARGETS, sklearn.metrics.r2_score(TARGETS, NUMBERS)),
}


def test_each_metric_is_compared():
    assert sorted(FIGURES) == files("funcnn.task.metrics")


def evaluated(metric, outputs, targets, batch_size):
    """The figure over batches, of a model that says what its rows hold."""

    def rows(params, batch):
        return {"figure": metric.rows(batch["outputs"], batch["targets"])}

    arrays = {"outputs": outputs, "targets": targets}
    return make_evaluation(rows, arrays, batch_size, {"figure": metric.value})(None)["figure"]


@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_is_that_of_all_rows_for_batches_of_any_size(name):
    options, outputs, targets, wanted = FIGURES[name]
    metric = named("funcnn.task.metrics", name)(**options)
    figures = [evaluated(metric, outputs, targets, size) for size in (1, 7, ROWS)]
    np.testing.assert_allclose(figures[0], wanted, rtol=1e-5)
    assert figures[1:] == figures[:-1], figures
    assert metric.of(jnp.asarray(outputs), jnp.asarray(targets)) == pytest.approx(wanted, rel=1e-5)


def test_a_mean_of_the_means_of_batches_is_another_figure():
    """What would be reported if batches were averaged: the planted mistake of the test above."""
    metric = named("funcnn.task.metrics", "perplexity")(ignored=-100)
    parts = [metric.of(*(a[i : i + 7] for a in map(jnp.asarray, (TEXT, NEXT)))) for i in (0, 7, 14)]
    assert abs(np.mean(parts) / FIGURES["perplexity"][3] - 1) > 1e-3


def test_accuracy_leaves_out_ignored_labels():
    metric = named("funcnn.task.metrics", "accuracy")(ignored=-100)
    known = NEXT != -100
    wanted = np.mean(TEXT.argmax(-1)[known] == NEXT[known])
    assert metric.of(jnp.asarray(TEXT), jnp.asarray(NEXT)) == pytest.approx(wanted)


def test_rows_that_a_mask_leaves_out_count_nowhere_in_training():
    metric = mean_of(lambda outputs, targets: jnp.abs(outputs - targets))
    outputs, targets = jnp.array([1.0, 5.0, jnp.nan]), jnp.zeros(3)
    mask = jnp.array([True, True, False])
    assert float(in_training(metric, outputs, targets, mask)) == 3.0


def test_without_a_row_that_counts_there_is_no_mean():
    metric = mean_of(lambda outputs, targets: outputs, ignored=-1)
    assert np.isnan(metric.of(jnp.ones(2), jnp.array([-1, -1])))


def test_a_metric_of_ones_own_sees_all_rows():
    median = Metric(lambda outputs, targets: outputs - targets, lambda rows: float(np.median(rows)))
    outputs, targets = np.array([5.0, 0.0, 1.0, 9.0, 2.0], np.float32), np.zeros(5, np.float32)
    assert [evaluated(median, outputs, targets, size) for size in (1, 2, 5)] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("top_k", {"k": 0}, "top_k: k must be an integer from 1 on, found 0"),
        ("f1", {"average": "mean"}, "f1: average must be 'macro', 'micro' or 'weighted', found"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        named("funcnn.task.metrics", name)(**options)


def test_the_area_is_of_one_label_a_sample():
    with pytest.raises(ValueError, match=r"it takes a row of logits \(B, C\) and a label \(B,\)"):
        auc().of(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), int))
