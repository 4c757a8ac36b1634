"""What a state carries beside params and optimizer: the `extra` that a loss takes and returns."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp

from funcnn.train.signature import differences, first_of, leaf_name, signature
from funcnn.types import ArrayLike, Function, PyTree

EXTRA = "extra"


def takes_extra(loss: Function) -> bool:
    """Whether a loss has a parameter of the name `extra`; one that tells no signature has none.

    >>> takes_extra(lambda params, batch, key: 0.0), takes_extra(lambda p, b, key, extra: 0.0)
    (False, True)
    """
    try:
        return EXTRA in inspect.signature(loss).parameters
    except ValueError:
        return False


def check_extra(extra: PyTree) -> None:
    """Raise TypeError where a leaf is no array, naming it.

    >>> check_extra({"carry": "zeros"})
    Traceback (most recent call last):
    TypeError: extra leaf 'carry' is a str: every leaf must be an array
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(extra)[0]:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            kind = f"a {type(leaf).__name__}"
            raise TypeError(
                f"extra leaf '{leaf_name(path)}' is {kind}: every leaf must be an array"
            )


def same_types(new: PyTree, old: PyTree, complaint: str) -> PyTree:
    """`new` without the weak types that `old` has not; a type that really differs is a TypeError.

    >>> same_types({"carry": jnp.zeros(2)}, {"carry": jnp.zeros(3)}, "the loss changes extra")
    Traceback (most recent call last):
    TypeError: the loss changes extra: carry changed from float32[3] to float32[2]
    """

    def strong(new_leaf: ArrayLike, old_leaf: ArrayLike) -> PyTree:
        old_type = jax.typeof(old_leaf)
        if jax.typeof(new_leaf).dtype != old_type.dtype or old_type.weak_type:
            return new_leaf
        if jnp.issubdtype(old_type.dtype, jax.dtypes.extended):
            return new_leaf
        return jax.lax.convert_element_type(new_leaf, old_type.dtype)

    if jax.tree.structure(new) == jax.tree.structure(old):
        new = jax.tree.map(strong, new, old)
    changes = differences(signature(old), signature(new))
    if changes:
        raise TypeError(f"{complaint}: {first_of(changes)}")
    return new
