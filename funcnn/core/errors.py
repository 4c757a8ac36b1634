"""What an error says, in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.types import PyTree

_WHEN_RUN = "a value that is known only when the program runs"
_FIXED = "what is fixed goes into a closure, or into static= of check"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing.

    What JAX says of a tracer, or of a rule without a derivative, is said in plain words; a first
    line that ends in a colon takes the next.

    >>> first_line(ValueError("too long\\nfor a line")), first_line(NotImplementedError())
    ('too long', 'NotImplementedError')
    >>> first_line(KeyError("w"))
    'w'
    """
    plain = _in_plain_words(error)
    if plain:
        return plain
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


@contextlib.contextmanager
def plainly(tool: str) -> Iterator[None]:
    """Inside, what JAX says at length of a function that it traces is one line, with the cure.

    >>> with plainly("census"):
    ...     jax.make_jaxpr(lambda x: x if x > 0 else -x)(1.0)
    Traceback (most recent call last):
    TypeError: census: a Python if, while, and, or, not needs a value that is known only when ...
    """
    try:
        yield
    except (AttributeError, jax.errors.JAXTypeError) as error:
        plain = _in_plain_words(error)
        if not plain:
            raise
        raise TypeError(f"{tool}: {plain}") from error


def _in_plain_words(error: BaseException) -> str:
    """What an error of JAX's means and what to do about it; "" of any other."""
    undefined = re.match(r"No (VJP|JVP) defined for custom_[vj]\w+ function (.+) using", str(error))
    if undefined and isinstance(error, AttributeError):
        kind, name = undefined[1].lower(), undefined[2]
        passes = "forward, backward" if kind == "vjp" else "forward_mode"
        return (
            f"the jax.custom_{kind} of {name} has no derivative: give it one by "
            f"its .def{kind}({passes})"
        )
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return (
            "a value of another trace is used: the rule closes over a tracer, or keeps one outside "
            "its residuals; pass it as an argument or a residual"
        )
    if isinstance(error, jax.errors.TracerBoolConversionError):
        cure = "use jnp.where or jax.lax.cond"
        return f"a Python if, while, and, or, not needs {_WHEN_RUN}: {cure}; {_FIXED}"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return f"NumPy needs {_WHEN_RUN}: use jax.numpy; {_FIXED}"
    if isinstance(
        error, jax.errors.ConcretizationTypeError | jax.errors.TracerIntegerConversionError
    ):
        return f"int(), float(), an index or a shape needs {_WHEN_RUN}: keep an array; {_FIXED}"
    return ""


@contextlib.contextmanager
def noted(name: str, x: PyTree) -> Iterator[None]:
    """An error in here has a note that says in which layer it arose, and on what input.

    >>> try:
    ...     with noted("head", (jnp.ones(2), None)):
    ...         raise ValueError
    ... except ValueError as error:
    ...     error.__notes__
    ['in layer head, on an input of shape (2,)']
    """
    try:
        yield
    except Exception as error:
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(x))
        error.add_note(f"in layer {name}, on an input of shape {shapes}")
        raise
