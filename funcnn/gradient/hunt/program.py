"""The program that repeats what was found, in a few lines."""

from __future__ import annotations

import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.registry import Rule
from funcnn.gradient.case.arguments import Parts
from funcnn.gradient.case.pullbacks import is_array_of_floats
from funcnn.gradient.hunt.search import Wrong
from funcnn.types import Function, PyTree


def arguments_of(wrong: Wrong) -> tuple[Any, ...]:
    """The arguments of a trial in the tree and the dtypes in which they were given.

    Keys and other leaves that do not change are as they were.
    """
    leaves, tree = jax.tree.flatten(wrong.place.situation.args)
    tried = iter(wrong.trial.x)
    filled = [next(tried) if is_array_of_floats(leaf) else leaf for leaf in leaves]
    joined = jax.tree.map(
        lambda x: x.real + np.complex64(1j) * x.imag if isinstance(x, Parts) else x,
        jax.tree.unflatten(tree, filled),
        is_leaf=lambda x: isinstance(x, Parts),
    )
    return jax.tree.map(_as_given, joined, wrong.place.hunted.dtypes)


def _as_given(leaf: Any, dtype: np.dtype[Any] | None) -> Any:
    if dtype is None:
        return leaf
    return leaf > 0.5 if dtype.kind == "b" else np.round(leaf).astype(dtype)


def program_of(target: Rule | Function, static: dict[str, Any], wrong: Wrong) -> str:
    """A program that prints the gradient by hand and the true one at what was found.

    Args:
        target: the function or the rule.
        static: its keyword arguments.
        wrong: what was found.
    """
    args = arguments_of(wrong)
    dtype = wrong.score.dtype
    lines = ["import jax, jax.numpy as jnp, numpy as np", "import funcnn as fnn"]
    lines += _named(target)
    if static:
        given = ", ".join(f"{name}={value!r}" for name, value in static.items())
        lines += ["import functools", f"f = functools.partial(f, {given})"]
    lines += ['jax.config.update("jax_enable_x64", True)', "def args(dtype):"]
    lines += [f"    return {written(args)}", "def dy(dtype):"]
    lines += [f"    return {_cotangents(wrong)}"]
    by_hand, truth = f'"{dtype}"', '"float64"'
    lines += [f"print(jax.vjp(f, *args({by_hand}))[1](dy({by_hand})))  # by hand"]
    without = "fnn.without_rules(f)"
    lines += [f"print(jax.vjp({without}, *args({truth}))[1](dy({truth})))  # the truth"]
    return "\n".join(lines)


def _named(target: Rule | Function) -> list[str]:
    """Where the function comes from, where it has a name in its module."""
    if isinstance(target, Rule) and target.reference.__module__.startswith("funcnn.rules"):
        return [f"f = fnn.rules.{target.name}"]
    module = getattr(target, "__module__", "") or ""
    names = vars(sys.modules[module]) if module in sys.modules and module != "__main__" else {}
    for name, value in names.items():
        if value is target:
            return [f"from {module} import {name} as f"]
    return ["# f is the function that was hunted"]


def _cotangents(wrong: Wrong) -> str:
    """Those of all outputs, in their tree; integers among them have none."""
    place, w = wrong.place, iter(wrong.trial.w)

    def text(shape: Any) -> str:
        if isinstance(shape, Parts):
            real, imag = next(w), next(w)
            return f"{written(np.asarray(real))} - 1j * {written(np.asarray(imag))}"
        if jnp.issubdtype(shape.dtype, jnp.floating):
            return written(next(w))
        return f"np.zeros({shape.shape}, jax.dtypes.float0)"

    # Without its rules, one of which may raise at these sizes.
    situation = place.situation
    shapes = jax.eval_shape(situation.automatic, *situation.args)
    return _tree(jax.tree.map(text, shapes, is_leaf=lambda x: isinstance(x, Parts)))


def written(tree: PyTree) -> str:
    """A tree of arrays as a program writes it; those of floats are in a dtype named `dtype`.

    >>> written((np.array([0.5, -1.0], np.float32), np.array(3)))
    '(jnp.array([0.5, -1.0], dtype), jnp.array(3, "int64"))'
    """
    return _tree(jax.tree.map(_array, tree))


def _tree(tree: PyTree) -> str:
    """A tree of texts as Python writes it, without quotes around them."""
    if isinstance(tree, str):
        return tree
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_tree(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inner = ", ".join(map(_tree, tree))
        if isinstance(tree, list):
            return f"[{inner}]"
        return f"({inner},)" if len(tree) == 1 else f"({inner})"
    return repr(tree)


def _array(x: Any) -> str:
    if not hasattr(x, "dtype"):
        return repr(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return f"jax.random.wrap_key_data(np.array({np.asarray(jax.random.key_data(x)).tolist()}))"
    x = np.asarray(x)
    dtype = "dtype" if jnp.issubdtype(x.dtype, jnp.floating) else f'"{x.dtype}"'
    if x.size > 8 and np.all(x == x.flat[0]):
        return f"jnp.full({x.shape}, {_number(x.flat[0])}, {dtype})"
    if not x.size:
        return f"jnp.zeros({x.shape}, {dtype})"
    return f"jnp.array({_nested(x)}, {dtype})"


def _nested(x: np.ndarray) -> str:
    if not x.ndim:
        return _number(x[()])
    return "[" + ", ".join(map(_nested, map(np.asarray, x))) + "]"


def _number(value: Any) -> str:
    """The shortest text of a number in its own dtype."""
    if isinstance(value, np.floating) or jnp.issubdtype(value.dtype, jnp.floating):
        if not math.isfinite(float(value)):
            return f"{'-' if value < 0 else ''}jnp.inf"
        number = value if isinstance(value, np.floating) else np.float32(value)
        plain = np.format_float_positional(number, trim="0")
        short = np.format_float_scientific(number, trim="0")
        return min(plain, short, key=len)
    return repr(value.item())
