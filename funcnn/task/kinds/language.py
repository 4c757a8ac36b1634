"""The next token at each place of a text: logits for each token of the vocabulary."""

from __future__ import annotations

from funcnn.task.task import Task, check_logits
from funcnn.types import PyTree, Shaped


def language(ignored: int | None = None, fused: bool = False) -> Task:
    """x (B, T) tokens -> logits (B, T, vocabulary), held against y (B, T), the tokens that follow.

    Loss and figures weigh each token the same, and leave out those that are `ignored`, as padding.

    With `fused` the head of the model and the loss are one in training, which needs no memory for
    the logits of a large vocabulary; the metrics are those of evaluations then.

    >>> language().metrics
    ('accuracy', 'perplexity', 'bits_per_character')
    """
    metrics = ("accuracy", "perplexity", "bits_per_character")
    return Task(metrics=metrics, check=check_vocabulary, ignored=ignored, fused=fused)


def check_vocabulary(outputs: PyTree, targets: Shaped, classes: int | None) -> str:
    """Whether there is a logit for each token; for more, too, where a vocabulary is filled up.

    >>> import jax.numpy as jnp
    >>> logits, tokens = jnp.zeros((1, 2, 12)), jnp.zeros((1, 2), jnp.int32)
    >>> check_vocabulary(logits, tokens, 10), check_vocabulary(logits, tokens, 13)[:42]
    ('', 'returns (1, 2, 12) for one row: it must re')
    """
    found = getattr(outputs, "shape", None) or (0,)
    enough = classes is not None and found[-1] > classes
    return check_logits(outputs, targets, None if enough else classes)
