"""The contract of a backward pass: what JAX itself does not check.

JAX accepts a cotangent of another dtype in silence (an int32 zero for a float32 argument too), and
its message about a wrong shape names neither the rule nor the argument.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from funcnn.core.devices import summed_to, varying
from funcnn.types import DType, PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Contract:
    """The tree, shapes and dtypes of a rule's arguments, which its cotangents must have.

    It travels from the forward to the backward pass among the residuals, as a tree without leaves.

    >>> import jax.numpy as jnp
    >>> contract = Contract.of("double", ("x",), (jnp.ones(3),))
    >>> contract.enforce((jnp.ones(2),))
    Traceback (most recent call last):
    TypeError: double: cotangent of argument x: expected float32[3], found float32[2]
    """

    rule: str
    parameters: tuple[str, ...]
    tree: PyTree
    avals: tuple[_Aval | None, ...]

    @classmethod
    def of(cls, rule: str, parameters: tuple[str, ...], args: tuple[Any, ...]) -> Contract:
        """The contract of one call of a rule with these arguments."""
        leaves, tree = jax.tree.flatten(args, is_leaf=_is_none)
        avals = tuple(None if a is None else _Aval.of(a) for a in leaves)
        return cls(rule, parameters, tree, avals)

    def enforce(self, cotangents: PyTree) -> tuple[Any, ...]:
        """The cotangents, or a TypeError that names rule, argument, expected and found."""
        names = leaf_names(self.parameters, self.tree)
        conformed = [
            _conform(f"{self.rule}: cotangent of argument {name}", aval, leaf)
            for name, aval, leaf in zip(names, self.avals, self._leaves(cotangents), strict=True)
        ]
        return jax.tree.unflatten(self.tree, conformed)

    def shardings(self, cotangents: PyTree) -> tuple[Any, ...]:
        """How cotangents lie, as their arguments do; of those that are None, nothing."""
        leaves = zip(self._leaves(cotangents), self.avals, strict=True)
        lying = [None if leaf is None or aval is None else aval.sharding for leaf, aval in leaves]
        return jax.tree.unflatten(self.tree, lying)

    def _leaves(self, cotangents: PyTree) -> list[Any]:
        if not isinstance(cotangents, tuple):
            raise TypeError(
                f"{self.rule}: backward must return a tuple of cotangents, one for each of "
                f"{self.parameters}, found {type(cotangents).__name__}"
            )
        leaves, tree = jax.tree.flatten(cotangents, is_leaf=_is_none)
        if tree != self.tree:
            raise TypeError(
                f"{self.rule}: backward must return cotangents in the tree of the arguments "
                f"{self.parameters}: expected {self.tree}, found {tree}"
            )
        return leaves


def leaf_names(parameters: tuple[str, ...], tree: PyTree) -> list[str]:
    """A readable name for each leaf of a tree of arguments.

    >>> leaf_names(("params", "x"), jax.tree.structure(({"w": 0}, 0)))
    ["params['w']", 'x']
    """
    numbered = jax.tree.unflatten(tree, range(tree.num_leaves))
    paths = [path for path, _ in jax.tree.flatten_with_path(numbered)[0]]
    return [parameters[path[0].idx] + jax.tree_util.keystr(path[1:]) for path in paths]


def _is_none(x: PyTree) -> bool:
    return x is None


class _Aval(NamedTuple):
    """What a cotangent has in common with its argument."""

    shape: tuple[int, ...]
    dtype: DType
    varying: frozenset[str]
    sharding: NamedSharding

    @classmethod
    def of(cls, x: PyTree) -> _Aval:
        aval = jax.typeof(x)
        return cls(tuple(aval.shape), aval.dtype, varying(x), aval.sharding)

    def __str__(self) -> str:
        return describe(self.shape, self.dtype)


def _conform(where: str, aval: _Aval | None, cotangent: PyTree) -> PyTree:
    """One leaf of the contract: the cotangent, None for an argument without one, or an error."""
    if aval is None or not jnp.issubdtype(aval.dtype, jnp.inexact):
        if cotangent is None or jax.typeof(cotangent).dtype == jax.dtypes.float0:
            return None
        given = _Aval.of(cotangent)
        raise TypeError(f"{where}: {aval} has no cotangent: expected None, found {given}")
    given = None if cotangent is None else _Aval.of(cotangent)
    if cotangent is None or given is None or given[:2] != aval[:2]:
        raise TypeError(f"{where}: expected {aval}, found {given}")
    return summed_to(cotangent, aval.varying)


def describe(shape: tuple[int, ...], dtype: DType) -> str:
    """Shape and dtype as one word.

    >>> describe((2, 3), "float32")
    'float32[2, 3]'
    """
    return f"{dtype}[{', '.join(map(str, shape))}]"


def without_types(signature: inspect.Signature) -> inspect.Signature:
    """The signature as it is called: without annotations.

    >>> without_types(inspect.signature(explained))
    <Signature (name, error)>
    """
    return inspect.Signature([p.replace(annotation=p.empty) for p in signature.parameters.values()])


def explained(name: str, error: TypeError) -> TypeError | None:
    """In place of JAX's error about forward mode, one that says what to do; None for another.

    >>> explained("relu", TypeError("can't apply forward-mode autodiff"))
    TypeError('relu: a hand-written rule has no forward mode (jvp, jacfwd, linearize); ...')
    """
    if "forward-mode" not in str(error):
        return None
    return TypeError(
        f"{name}: a hand-written rule has no forward mode (jvp, jacfwd, linearize); "
        "differentiate fnn.without_rules(f) instead of f"
    )
