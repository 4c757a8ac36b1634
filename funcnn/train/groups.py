"""Params that are trained otherwise than the rest, chosen by patterns of their names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

import jax
import optax

from funcnn.core.patterns import matches, matching
from funcnn.train.signature import leaf_names
from funcnn.types import PyTree

FROZEN, UNDECAYED = "frozen", "optimizer.undecayed"
_REST = ""

# A pattern of names, "body/*", to the options in which its params differ, or to "frozen".
Groups = Mapping[str, str | Mapping[str, object]]


def in_groups(
    make: Callable[[Mapping[str, object]], optax.GradientTransformation],
    groups: Groups,
    clip_norm: float | None,
) -> optax.GradientTransformation:
    """One optimizer for each group of params, the first whose pattern matches, and for the rest.

    Args:
        make: an optimizer, from the options in which it differs from that of the rest.
        groups: its options by the pattern, or "frozen": those params stay as they are.
        clip_norm: the largest norm of the gradient of all that is trained; a longer one is scaled.

    >>> import jax.numpy as jnp
    >>> optimizer = in_groups(lambda options: optax.sgd(**{"learning_rate": 1.0, **options}),
    ...                       {"body/*": "frozen", "head/b": {"learning_rate": 0.5}}, None)
    >>> params = {"body": {"w": jnp.ones(2)}, "head": {"b": jnp.ones(1), "w": jnp.ones(1)}}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> [float(u[0]) for u in jax.tree.leaves(updates)]
    [0.0, -0.5, -1.0]
    """
    steps = []
    frozen = [pattern for pattern, how in groups.items() if how == FROZEN]
    if frozen and clip_norm is not None:  # what is not trained has no part in the norm
        steps.append(optax.masked(optax.set_to_zero(), lambda tree: _frozen(tree, groups)))
    if clip_norm is not None:
        steps.append(optax.clip_by_global_norm(clip_norm))
    if not groups:
        return optax.chain(*steps, make({})) if steps else make({})
    made: dict[Hashable, optax.GradientTransformation] = {_REST: make({})}
    for pattern, how in groups.items():
        made[pattern] = optax.set_to_zero() if isinstance(how, str) else _made(make, pattern, how)
    return optax.chain(*steps, optax.partition(made, lambda tree: _labels(tree, groups)))


def _made(
    make: Callable[[Mapping[str, object]], optax.GradientTransformation],
    pattern: str,
    how: Mapping[str, object],
) -> optax.GradientTransformation:
    try:
        return make(how)
    except ValueError as error:
        raise ValueError(f"groups: {pattern}: {error}") from error


def checked_groups(groups: Groups | None) -> Groups:
    """The groups, each either "frozen" or a table of options; else a ValueError of one line.

    >>> checked_groups({"body/*": "freeze"})
    Traceback (most recent call last):
    ValueError: groups: body/* is "frozen" or a table of options, found 'freeze'
    """
    for pattern, how in (groups or {}).items():
        if how != FROZEN and not isinstance(how, Mapping):
            wanted = f'is "{FROZEN}" or a table of options'
            raise ValueError(f"groups: {pattern} {wanted}, found {how!r}")
    return groups or {}


def left_out(tree: PyTree, patterns: Iterable[str]) -> PyTree:
    """False where the name of a leaf matches a pattern, True elsewhere.

    >>> left_out({"dense_0": {"b": 1.0, "w": 2.0}}, ["*/b"])
    {'dense_0': {'b': False, 'w': True}}
    """
    kept = [not matches(UNDECAYED, patterns, name) for name in leaf_names(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), kept)


def _labels(tree: PyTree, groups: Groups) -> PyTree:
    """The pattern of each leaf's group."""
    names = leaf_names(tree)
    labels = dict.fromkeys(names, _REST)
    for pattern in groups:
        own = matching("optimizer.groups", pattern, names)
        free = [name for name in own if labels[name] == _REST]
        if not free:
            raise ValueError(f"optimizer.groups: an earlier group has all that {pattern} matches")
        labels |= dict.fromkeys(free, pattern)
    return jax.tree.unflatten(jax.tree.structure(tree), list(labels.values()))


def _frozen(tree: PyTree, groups: Groups) -> PyTree:
    return jax.tree.map(lambda label: groups.get(label) == FROZEN, _labels(tree, groups))
