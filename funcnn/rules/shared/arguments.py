"""What every rule demands of its arguments, and the one line that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import jax
import jax.numpy as jnp

from funcnn.types import ArrayLike


def floating(rule: str, **arguments: ArrayLike) -> tuple[jax.Array, ...]:
    """The arguments as arrays, or a TypeError that names the one that is not floating point.

    >>> floating("relu", x=3)
    Traceback (most recent call last):
    TypeError: relu: x must be floating point, found int32[]; cast it: x.astype(float)
    """
    arrays = tuple(_array(rule, name, a) for name, a in arguments.items())
    for name, a in zip(arguments, arrays, strict=True):
        if not jnp.issubdtype(a.dtype, jnp.floating):
            raise TypeError(
                f"{rule}: {name} must be floating point, found {describe(a)}; "
                f"cast it: {name}.astype(float)"
            )
    return arrays


def _array(rule: str, name: str, a: object) -> jax.Array:
    try:
        return jnp.asarray(a)
    except (TypeError, ValueError):
        if not isinstance(a, (str, bytes, Mapping, type(None))):
            raise
        raise TypeError(f"{rule}: {name} must be an array, found a {type(a).__name__}") from None


def same_dtype(rule: str, **arguments: jax.Array | None) -> None:
    """A TypeError unless the arguments have one dtype; None counts as having it.

    >>> same_dtype("linear", x=jnp.zeros(2), w=jnp.zeros((2, 3), jnp.bfloat16))
    Traceback (most recent call last):
    TypeError: linear: x and w must have one dtype, found float32[2] and bfloat16[2, 3]; cast one
    """
    given = {name: a for name, a in arguments.items() if a is not None}
    (first, x), *others = given.items()
    for name, a in others:
        if a.dtype != x.dtype:
            raise TypeError(
                f"{rule}: {first} and {name} must have one dtype, "
                f"found {describe(x)} and {describe(a)}; cast one"
            )


def is_known(size: object) -> TypeGuard[int]:
    """Whether a size is a number: `jax.export` may leave the batch open, which is a symbol then.

    Of a symbol one can ask whether it equals a number (no), but not whether it is larger.

    >>> is_known(3), is_known(jax.export.symbolic_shape("n")[0])
    (True, False)
    """
    return isinstance(size, int)


def at_least(size: object) -> int:
    """The size; 1 where it is left open, so that what is chosen by it is right for any.

    >>> at_least(3), at_least(2 * jax.export.symbolic_shape("n")[0])
    (3, 1)
    """
    return size if is_known(size) else 1


def describe(x: jax.Array) -> str:
    """Dtype and shape in a word, for messages.

    >>> describe(jnp.zeros((2, 3)))
    'float32[2, 3]'
    """
    return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
