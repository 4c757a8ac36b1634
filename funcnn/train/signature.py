"""What a compiled program knows of its arguments: the shape, dtype and weak type of every leaf."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from funcnn.types import PyTree, Shape


class Leaf(NamedTuple):
    """What `jax.jit` compiles for, of one array. `str` gives `float32[4, 3]`.

    >>> Leaf.of("bfloat16[4, 3]").shape, str(Leaf.of("float32[]"))
    ((4, 3), 'float32[]')
    """

    shape: Shape
    dtype: Any
    weak_type: bool = False

    def __str__(self) -> str:
        weak = " (weak type)" if self.weak_type else ""
        return f"{self.dtype}{list(self.shape)}{weak}"

    @classmethod
    def of(cls, text: str) -> Leaf:
        """What `str` gives, read back."""
        dtype, _, sizes = text.partition("[")
        inside = sizes.partition("]")[0]
        return cls(tuple(map(int, inside.split(", "))) if inside else (), jnp.dtype(dtype))


class Signature(NamedTuple):
    """An argument's tree and leaves: equal ones need no second compilation."""

    treedef: Any
    leaves: tuple[Leaf, ...]

    def named(self) -> dict[str, Leaf]:
        """Name each leaf by its path: `params/dense_0/w` -> float32[64, 32]."""
        tree = jax.tree.unflatten(self.treedef, range(len(self.leaves)))
        return dict(zip(leaf_names(tree), self.leaves, strict=True))


def leaf_name(path: jax.tree_util.KeyPath) -> str:
    """A leaf's path in readable form: `params/dense_0/w`.

    >>> [(path, _)] = jax.tree_util.tree_flatten_with_path({"dense_0": {"w": 1.0}})[0]
    >>> leaf_name(path)
    'dense_0/w'
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_names(tree: PyTree) -> list[str]:
    """A name for each leaf, no two the same: `a/b`, or `['a/b']` where another leaf is called so.

    Raises ValueError where even the keys in full give two leaves one name.

    >>> leaf_names({"a": {"b": 1, "c": 2}, "a/b": 3})
    ["['a']['b']", 'a/c', "['a/b']"]
    """
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    plain = [leaf_name(path) for path in paths]
    counts = Counter(plain)
    names = [
        name if counts[name] == 1 else jax.tree_util.keystr(path)
        for name, path in zip(plain, paths, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two leaves have the name {twice[0]}: give their keys other names")
    return names


def signature(tree: PyTree) -> Signature:
    """The signature of any tree of arrays, NumPy arrays or `jax.ShapeDtypeStruct`.

    >>> import numpy as np
    >>> print(signature({"x": np.zeros((2, 3), np.float32)}).leaves[0])
    float32[2, 3]
    """
    leaves, treedef = jax.tree.flatten(tree)
    types = [jax.typeof(leaf) for leaf in leaves]
    return Signature(treedef, tuple(Leaf(t.shape, t.dtype, t.weak_type) for t in types))


def differences(expected: Signature, actual: Signature) -> list[str]:
    """One phrase a leaf that is not the same in both, from what it was to what it is.

    >>> import numpy as np
    >>> was, now = ({"x": np.zeros(n, np.float32)} for n in (2, 3))
    >>> differences(signature(was), signature(now))
    ['x changed from float32[2] to float32[3]']
    """
    if expected == actual:
        return []
    was, now = expected.named(), actual.named()
    phrases = [f"{name} ({was[name]}) is missing" for name in was if name not in now]
    phrases += [f"{name} ({now[name]}) is new" for name in now if name not in was]
    phrases += [
        f"{name} changed from {was[name]} to {now[name]}"
        for name in was
        if name in now and was[name] != now[name]
    ]
    return phrases or [f"the tree changed from {expected.treedef} to {actual.treedef}"]


def first_of(phrases: list[str]) -> str:
    """The first phrase and how many more there are, for an error of one line.

    >>> first_of(["x is missing", "y is new"])
    'x is missing (and 1 more)'
    """
    return phrases[0] + (f" (and {len(phrases) - 1} more)" if len(phrases) > 1 else "")
