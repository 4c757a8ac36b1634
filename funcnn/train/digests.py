"""A digest of each leaf of a state: whether what was read is what was saved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.types import ArrayLike


def digest_of_leaf(leaf: ArrayLike) -> str | None:
    """The SHA-256 of a leaf: of its dtype, its shape, and its bytes in the order of C.

    A typed random key counts as the numbers it is made of. An array of which other processes hold
    parts has none.

    >>> digest_of_leaf(np.ones(2, np.float32)) == digest_of_leaf(jnp.ones(2, "float32"))
    True
    >>> digest_of_leaf(np.ones((1, 2))) == digest_of_leaf(np.ones((2, 1)))
    False
    """
    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            return None
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    sha256 = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def digests(leaves: Mapping[str, ArrayLike]) -> dict[str, str]:
    """The digests of the leaves that have one, by name.

    >>> list(digests({"w": np.zeros(2)}))
    ['w']
    """
    found = {name: digest_of_leaf(leaf) for name, leaf in leaves.items()}
    return {name: digest for name, digest in found.items() if digest is not None}


def changed_leaves(leaves: Mapping[str, ArrayLike], expected: Mapping[str, str]) -> list[str]:
    """The names of those whose digest is another than is expected; what has none is not compared.

    >>> changed_leaves({"w": np.ones(2), "b": np.ones(1)}, digests({"w": np.zeros(2)}))
    ['w']
    """
    return [
        name
        for name, leaf in leaves.items()
        if name in expected and digest_of_leaf(leaf) not in (None, expected[name])
    ]
