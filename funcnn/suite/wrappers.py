"""What Equinox and Flax NNX do around a rule that its call after the suite has to do, too.

Of a library that is not there, or does otherwise, nothing is known here: its rules are called as
they were, and where that fails the table says why.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax


def held(rule: Any, tree: Any) -> frozenset[int]:
    """Which leaves of its operands a rule refuses to be differentiated by.

    Equinox gives a rule all arrays, and raises where a derivative is taken by others than those of
    the first argument (`filter_custom_vjp`) or by one that was given by keyword
    (`filter_custom_jvp`).

    Args:
        rule: an instance of `jax.custom_vjp` or `jax.custom_jvp`.
        tree: of its operands, a list of them.
    """
    parts = tree.children()
    made_by = _made_by(rule.fun)
    if made_by == "filter_custom_vjp" and len(parts) == 3:
        first = parts[0].num_leaves
        return frozenset(range(first, tree.num_leaves))
    if made_by == "filter_custom_jvp" and len(parts) == 1 and len(parts[0].children()) == 2:
        first = parts[0].children()[0].num_leaves
        return frozenset(range(first, tree.num_leaves))
    return frozenset()


def _made_by(function: Any) -> str:
    """The class of Equinox that made a function, or ""."""
    if getattr(function, "__module__", "").partition(".")[0] != "equinox":
        return ""
    return getattr(function, "__qualname__", "").partition(".")[0]


def again(rule: Any) -> Any:
    """A rule as a function that can be called when the call that made it is over.

    Flax NNX makes a rule for each call of `nnx.custom_vjp`, which writes into what that call holds.
    Beside its output such a rule returns the state of its arguments, which most of them hand
    through; a backward pass need not heed the cotangents of these, so they are no output here.

    >>> again(jax.nn.relu) is jax.nn.relu
    True
    """
    function = rule.fun
    if type(function).__module__ != "flax.nnx.transforms.autodiff":
        return rule
    kind = type(function).__name__
    if kind == "SimpleCustomVjpFn":
        return lambda *args: rule(*args)[0]
    if kind != "CustomVjpFnWrapper":
        return rule
    free = jax.custom_vjp(
        dataclasses.replace(function, ctxtag=None), nondiff_argnums=rule.nondiff_argnums
    )
    forward = dataclasses.replace(rule.fwd, ctxtag=None)
    free.defvjp(forward, rule.bwd, symbolic_zeros=rule.symbolic_zeros)
    return lambda *args: free(*args)[1]
