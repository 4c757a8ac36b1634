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

from funcnn.core.contract import leaf_names
from funcnn.core.registry import Case, Rule

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
    generator = _generator(key)
    return jax.tree.map(
        lambda a: jnp.asarray(generator.standard_normal(a.shape)).astype(dtype), like
    )


def _generator(key: Any) -> np.random.Generator:
    """NumPy's numbers from a JAX key: they need no compilation for each shape."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


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


def relative_error(computed: Any, truth: Any) -> float:
    """||computed - truth|| / ||truth||; 0 for two zeros, infinite where one is not finite alone."""
    computed, truth = np.asarray(computed, np.float64), np.asarray(truth, np.float64)
    assert computed.shape == truth.shape, (computed.shape, truth.shape)
    odd = ~(np.isfinite(computed) & np.isfinite(truth))
    if not np.array_equal(computed[odd], truth[odd], equal_nan=True):
        return float("inf")
    distance = float(np.linalg.norm(computed[~odd] - truth[~odd]))
    size = float(np.linalg.norm(truth[~odd]))
    return distance / size if size else (0.0 if distance == 0 else float("inf"))


def gradient_error(
    rule: Rule, case: Case, dtype: Any = "float64", through: str = "jit", seed: int = 1
) -> dict[str, float]:
    """Leaf -> relative error of the rule in `dtype` against its reference in float64."""
    errors = gradient_errors(rule, [case], dtype, through, seed)
    return {name: error for (_, name), error in errors.items()}


def gradient_errors(
    rule: Rule, cases: list[Case], dtype: Any = "float64", through: str = "jit", seed: int = 1
) -> dict[tuple[str, str], float]:
    """As `gradient_error` for many cases at once, by (case, leaf): two compilations in all."""
    with jax.enable_x64(True):
        runs = [functools.partial(rule, **c.static) for c in cases]
        plains = [functools.partial(c.reference or rule.reference, **c.static) for c in cases]
        args = [cast(c.args, dtype) for c in cases]
        exact = cast(args, jnp.float64)
        dys = [
            draw(jax.random.key(seed + i), jax.eval_shape(f, *a), dtype)
            for i, (f, a) in enumerate(zip(plains, exact, strict=True))
        ]

        def pull_computed(args: Any, dys: Any) -> Any:
            inner = "eager" if through == "jit" else through
            triples = zip(runs, args, dys, strict=True)
            return [pull_through(f, a, dy, inner) for f, a, dy in triples]

        def pull_truth(args: Any, dys: Any) -> Any:
            return [pull(f, a, dy) for f, a, dy in zip(plains, args, dys, strict=True)]

        computed = (pull_computed if through == "eager" else jax.jit(pull_computed))(args, dys)
        truth = jax.jit(pull_truth)(exact, cast(dys, jnp.float64))
        errors = {}
        for case, a, computed_here, truth_here in zip(cases, args, computed, truth, strict=True):
            names = names_of(rule.reference, a)
            for name, g, t in zip(names, computed_here, truth_here, strict=True):
                assert g.dtype == jnp.dtype(dtype), (rule.name, case.name, name, g.dtype)
                label = " ".join([case.name, *(f"{k}={v}" for k, v in case.static.items())])
                errors[label, name] = relative_error(g.astype(jnp.float64), t)
        return errors


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
        gradients = jax.jit(functools.partial(pull, f))(args, weights)
        leaves, tree = jax.tree.flatten(args)
        places = [i for i, a in enumerate(leaves) if jnp.issubdtype(a.dtype, jnp.inexact)]
        errors = {}
        for name, place, g in zip(names_of(f, args), places, gradients, strict=True):
            along = jax.jit(functools.partial(_along, f, tree, leaves, place, weights))
            generator = _generator(jax.random.fold_in(key, place))
            leaf, g = np.asarray(leaves[place]), np.asarray(g)
            errors[name] = max(
                _direction_error(along, leaf, g, generator) for _ in range(directions)
            )
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


def _direction_error(along: Any, leaf: Any, gradient: Any, generator: Any) -> float:
    if leaf.size == 0:
        return 0.0
    # No component is small, so that no element of the gradient is out of sight.
    u = generator.uniform(0.5, 1.0, leaf.shape) * generator.choice([-1.0, 1.0], leaf.shape)
    # A large offset must not make the step large.
    scale = min(float(np.sqrt(np.mean(leaf * leaf))), 1.0) or 1.0
    h = 2e-3 * scale
    d1, d2, d3 = (float(along(s * u) / (2 * s)) for s in (h, h / 2, h / 4))
    e1, e2 = (4 * d2 - d1) / 3, (4 * d3 - d2) / 3
    difference = (16 * e2 - e1) / 15
    predicted = float(np.sum(gradient * u))
    size = max(abs(difference), abs(predicted), float(np.linalg.norm(gradient.ravel())))
    return abs(difference - predicted) / size if size else 0.0


def ulp_error(computed: Any, truth: Any, dtype: Any) -> np.ndarray:
    """|computed - truth| in units of the last place of the truth in `dtype`."""
    info = jnp.finfo(dtype)
    truth = np.asarray(truth, np.float64)
    exponent = np.floor(np.log2(np.maximum(np.abs(truth), float(info.tiny))))
    return np.abs(np.asarray(computed, np.float64) - truth) / 2.0 ** (exponent - info.nmant)
