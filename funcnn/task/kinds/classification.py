"""One of a number of classes for each row: logits for each."""

from __future__ import annotations

from funcnn.task.task import Task, check_logits


def classification(ignored: int | None = None) -> Task:
    """x -> logits (B, classes), held against y (B,); also (B, ..., classes) against (B, ...).

    >>> classification().metrics
    ('accuracy',)
    """
    return Task(metrics=("accuracy",), check=check_logits, ignored=ignored)
