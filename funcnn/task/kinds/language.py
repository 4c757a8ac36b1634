"""The next token at each place of a text: logits for each token of the vocabulary."""

from __future__ import annotations

from funcnn.task.task import Task, check_logits


def language(ignored: int | None = None) -> Task:
    """x (B, T) tokens -> logits (B, T, vocabulary), held against y (B, T), the tokens that follow.

    Loss and figures weigh each token the same, and leave out those that are `ignored`, as padding.

    >>> language().metrics
    ('accuracy', 'perplexity', 'bits_per_character')
    """
    metrics = ("accuracy", "perplexity", "bits_per_character")
    return Task(metrics=metrics, check=check_logits, ignored=ignored)
