"""What an error says, in one line."""

from __future__ import annotations

import jax


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing.

    A tracer that escaped is named in plain words; a first line that ends in a colon takes the next.

    >>> first_line(ValueError("too long\\nfor a line")), first_line(NotImplementedError())
    ('too long', 'NotImplementedError')
    >>> first_line(KeyError("w"))
    'w'
    """
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return (
            "a value of another trace is used: the rule closes over a tracer, or keeps one outside "
            "its residuals; pass it as an argument or a residual"
        )
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines else type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """The kind of an error and its first line.

    >>> kind_and_line(ValueError("no")), kind_and_line(AssertionError())
    ('ValueError: no', 'AssertionError')
    """
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
