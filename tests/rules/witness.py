"""Witnesses of a gradient that share nothing with the rule under test.

`finite_difference_error` judges an automatic gradient by differences, `gradient_error` a rule by
the automatic gradient of its reference in float64. Never compare a rule with `jax.grad(rule)`:
that runs the rule.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.contract import leaf_names
from funcnn.registry import Case, Rule

THROUGH = ("eager", "jit", "vmap", "scan")


def is_tail(case: Case) -> bool:
    """Whether the case stands where the plain reference loses its digits, even in float64."""
    return case.reference is not None or case.name.startswith("tail")


def cast(args: Any, dtype: Any) -> Any:
    """The tree with its floating-point leaves in `dtype`; integers and keys stay."""

    def one(a: Any) -> Any:
        a = jnp.asarray(a)
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else a

    return jax.tree.map(one, args)


def float64_args(case: Case) -> tuple[Any, ...]:
    """The arguments of the case in float64; call it inside `jax.enable_x64()`."""
    return cast(case.args, jnp.float64)


def draw(key: Any, like: Any, dtype: Any) -> Any:
    """A tree of normal numbers with the shapes of `like`, rounded to `dtype`."""
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [
        jax.random.normal(k, a.shape).astype(dtype) for k, a in zip(keys, leaves, strict=False)
    ]
    return jax.tree.unflatten(tree, drawn)


def _parameters(f: Callable[..., Any], n: int) -> tuple[str, ...]:
    names = [p.name for p in inspect.signature(f).parameters.values() if p.kind <= 1]
    return tuple(names[:n]) + tuple(f"argument_{i}" for i in range(len(names), n))


def pull(f: Callable[..., Any], args: tuple[Any, ...], dy: Any) -> list[Any]:
    """The cotangents of the floating-point leaves of `args`, in the order of the tree."""
    cotangents = jax.tree.leaves(jax.vjp(f, *args)[1](dy))
    leaves = jax.tree.leaves(args)
    # A cotangent None comes back from jax.vjp as a zero (or float0 where the argument is no float).
    return [
        g
        for a, g in zip(leaves, cotangents, strict=True)
        if jnp.issubdtype(jax.typeof(a).dtype, jnp.inexact)
    ]


def pull_through(f: Callable[..., Any], args: Any, dy: Any, through: str) -> list[Any]:
    """As `pull`, inside jit, or as one element of a batch (vmap) or of a loop (scan)."""
    function = functools.partial(pull, f)
    if through == "eager":
        return function(args, dy)
    if through == "jit":
        return jax.jit(function)(args, dy)
    # The neighbour in the batch is another one, so that elements that get mixed are seen.
    pair = jax.tree.map(lambda a: jnp.stack([_halve(a), a]), (args, dy))
    if through == "vmap":
        stacked = jax.vmap(function)(*pair)
    else:
        stacked = jax.lax.scan(lambda _, xs: (None, function(*xs)), None, pair)[1]
    return [g[1] for g in stacked]


def _halve(a: Any) -> Any:
    return a / 2 if jnp.issubdtype(a.dtype, jnp.inexact) else a


def names_of(f: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """The names of the floating-point leaves of `args`."""
    names = leaf_names(_parameters(f, len(args)), jax.tree.structure(args))
    leaves = jax.tree.leaves(args)
    return [
        n
        for n, a in zip(names, leaves, strict=True)
        if jnp.issubdtype(jax.typeof(a).dtype, jnp.inexact)
    ]


def relative_error(found: Any, truth: Any) -> float:
    """||found - truth|| / ||truth||; 0 for two zeros, infinite where one is not finite alone."""
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    assert found.shape == truth.shape, (found.shape, truth.shape)
    odd = ~(np.isfinite(found) & np.isfinite(truth))
    if not np.array_equal(found[odd], truth[odd], equal_nan=True):
        return float("inf")
    distance = float(np.linalg.norm(found[~odd] - truth[~odd]))
    size = float(np.linalg.norm(truth[~odd]))
    return distance / size if size else (0.0 if distance == 0 else float("inf"))


def gradient_error(
    rule: Rule, case: Case, dtype: Any = "float64", through: str = "eager", seed: int = 1
) -> dict[str, float]:
    """Leaf -> relative error of the rule in `dtype` against its reference in float64."""
    with jax.enable_x64(True):
        args = cast(case.args, dtype)
        exact = cast(args, jnp.float64)
        run = functools.partial(rule, **case.static)
        plain = functools.partial(case.reference or rule.reference, **case.static)
        y = jax.eval_shape(plain, *exact)
        dy = draw(jax.random.key(seed), y, dtype)
        truth = pull(plain, exact, cast(dy, jnp.float64))
        found = pull_through(run, args, dy, through)
        names = names_of(rule.reference, args)
        assert len(names) == len(truth) == len(found)
        for name, g in zip(names, found, strict=True):
            assert g.dtype == jnp.dtype(dtype), (rule.name, name, g.dtype)
        return {
            n: relative_error(g.astype(jnp.float64), t)
            for n, g, t in zip(names, found, truth, strict=True)
        }


def finite_difference_error(
    f: Callable[..., Any], args: tuple[Any, ...], key: Any, directions: int = 3
) -> dict[str, float]:
    """Leaf -> relative error of the automatic gradient of `f` in float64 against differences.

    Central differences along random directions without a blind coordinate, extrapolated twice
    (Richardson), so that the truncation is of sixth order in the step.
    """
    with jax.enable_x64(True):
        args = cast(args, jnp.float64)
        weights = draw(key, jax.eval_shape(f, *args), jnp.float64)
        gradients = pull(f, args, weights)
        leaves, tree = jax.tree.flatten(args)
        places = [i for i, a in enumerate(leaves) if jnp.issubdtype(a.dtype, jnp.inexact)]
        errors = {}
        for name, place, g in zip(names_of(f, args), places, gradients, strict=True):
            worst = 0.0
            for k in jax.random.split(jax.random.fold_in(key, place), directions):
                along = functools.partial(_along, f, tree, leaves, place, weights)
                worst = max(worst, _direction_error(along, leaves[place], g, k))
            errors[name] = worst
        return errors


def _along(f: Any, tree: Any, leaves: Any, place: int, weights: Any, step: Any) -> Any:
    """Sum of the weighted differences of `f` between one leaf plus and minus `step`."""

    def value(sign: float) -> Any:
        moved = list(leaves)
        moved[place] = leaves[place] + sign * step
        return f(*jax.tree.unflatten(tree, moved))

    # Differences first, sum after: the sum would drown them.
    parts = jax.tree.map(lambda w, p, m: jnp.sum(w * (p - m)), weights, value(1.0), value(-1.0))
    return sum(jax.tree.leaves(parts))


def _direction_error(along: Any, leaf: Any, gradient: Any, key: Any) -> float:
    if leaf.size == 0:
        return 0.0
    sizes, signs = jax.random.split(key)
    u = jax.random.uniform(sizes, leaf.shape, minval=0.5) * jax.random.rademacher(
        signs, leaf.shape, jnp.float64
    )
    scale = float(jnp.sqrt(jnp.mean(leaf * leaf))) or 1.0
    h = 2e-3 * scale
    d1, d2, d3 = (float(along(s * u) / (2 * s)) for s in (h, h / 2, h / 4))
    e1, e2 = (4 * d2 - d1) / 3, (4 * d3 - d2) / 3
    difference = (16 * e2 - e1) / 15
    predicted = float(jnp.sum(gradient * u))
    size = max(abs(difference), abs(predicted), float(jnp.linalg.norm(jnp.ravel(gradient))))
    return abs(difference - predicted) / size if size else 0.0


def ulp_error(found: Any, truth: Any, dtype: Any) -> np.ndarray:
    """|found - truth| in units of the last place of the truth in `dtype`."""
    info = jnp.finfo(dtype)
    truth = np.asarray(truth, np.float64)
    exponent = np.floor(np.log2(np.maximum(np.abs(truth), float(info.tiny))))
    return np.abs(np.asarray(found, np.float64) - truth) / 2.0 ** (exponent - info.nmant)
