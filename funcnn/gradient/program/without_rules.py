"""Taking the hand-written rules out of any program.

funcnn's own rules run their references: the function is traced in a context that a Rule heeds.
Foreign rules, `jax.custom_vjp` and `jax.custom_jvp` alike, are taken out of the jaxpr by putting in
their place what they wrap.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from funcnn.core.given import check_function, names_of_rules
from funcnn.core.removal import Removal, removing
from funcnn.gradient.program.rewriting import Rewriting
from funcnn.gradient.program.sites import Site
from funcnn.types import ArrayLike, ClosedJaxpr, Function, PyTree


@dataclasses.dataclass(frozen=True)
class Program:
    """A function traced on its arguments: a closed jaxpr with the trees of what goes in and out.

    Attributes:
        jaxpr: the closed jaxpr, of the flat array leaves.
        leaves: those leaves, the arrays among the arguments.
        out_tree: the tree of the result.
        function: what was traced, of the flat leaves.
    """

    jaxpr: ClosedJaxpr
    leaves: list[Any]
    out_tree: Any
    function: Function

    def run(self, leaves: list[Any] | None = None) -> PyTree:
        """Evaluate the jaxpr and give the result its tree."""
        flat = jex.jaxpr_as_fun(self.jaxpr)(*(self.leaves if leaves is None else leaves))
        return jax.tree.unflatten(self.out_tree, flat)


def trace(f: Function, args: tuple[Any, ...], keywords: dict[str, Any]) -> Program:
    """Trace `f`; arguments that are no arrays (numbers, strings, functions) stay as they are.

    >>> trace(lambda x, n: x * n, (np.ones(3), 2), {}).run()
    Array([2., 2., 2.], dtype=float32)
    """
    leaves, tree = jax.tree.flatten((args, keywords))
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray))]

    def of_arrays(*values: ArrayLike) -> PyTree:
        filled = list(leaves)
        for i, value in zip(arrays, values, strict=True):
            filled[i] = value
        inner_args, inner_keywords = jax.tree.unflatten(tree, filled)
        return f(*inner_args, **inner_keywords)

    values = [leaves[i] for i in arrays]
    jaxpr, shapes = jax.make_jaxpr(of_arrays, return_shape=True)(*values)
    return Program(jaxpr, values, jax.tree.structure(shapes), of_arrays)


def without_rules(
    f: Function, only: Iterable[str] | None = None, exclude: Iterable[str] = ()
) -> Function:
    """The same function with every hand-written rule removed, whoever wrote it.

    `jax.grad(fnn.without_rules(loss))` is the automatic gradient. It goes inside the derivative: in
    a function that has called `jax.grad` itself a foreign rule has left no trace. Works under jit,
    vmap and grad, and through jit, scan, while, cond, remat and vmap inside `f`. A foreign rule
    whose wrapped function has no reverse mode (a while_loop) is kept.

    Args:
        f: any JAX function. Its arguments that are arrays are traced, others passed on.
        only: the names of the rules to remove, by default all. A foreign rule has the name of the
            function that it wraps.
        exclude: the names of rules to keep.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def wrong(x):
    ...     return x * x
    >>> wrong.defvjp(lambda x: (x * x, x), lambda x, dy: (x * dy,))
    >>> float(jax.grad(wrong)(3.0)), float(jax.grad(without_rules(wrong))(3.0))
    (3.0, 6.0)
    """
    check_function("without_rules", f)
    kept = names_of_rules("without_rules", "exclude", exclude)
    removal = Removal(None if only is None else names_of_rules("without_rules", "only", only), kept)

    @functools.wraps(f)
    def automatic(*args: PyTree, **keywords: PyTree) -> PyTree:
        return take_out(f, args, keywords, removal)[0].run()

    return automatic


def take_out(
    f: Function,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    removal: Removal,
    *,
    forward: bool = False,
    further: bool = False,
    keep: Callable[[Site], bool] | None = None,
) -> tuple[Program, list[Site]]:
    """`f` traced without the rules that `removal` covers, and the sites that had to be kept.

    Args:
        f: any JAX function.
        args, keywords: its arguments.
        removal: which rules, by name.
        forward: keep none: what has no reverse mode gets one of its forward mode, and the sites
            returned are those that have no derivative at all any more.
        further: loops run on for a while after they have ended.
        keep: the sites of foreign rules that stay.

    >>> import jax
    >>> program, kept = take_out(jax.nn.relu, (np.ones(2),), {}, Removal())
    >>> kept
    []
    """
    with removing(removal):
        program = trace(f, args, keywords)
    rewriting = Rewriting(
        lambda site: removal.covers(site.name) and not (keep and keep(site)),
        context=functools.partial(removing, removal),
        forward=forward,
        further=further,
    )
    jaxpr = rewriting.closed(program.jaxpr)
    return dataclasses.replace(program, jaxpr=jaxpr), rewriting.irreversible


def differentiable(
    f: Function,
    *,
    further: bool = False,
    keep: Callable[[Site], bool] | None = None,
) -> Function:
    """`f` without hand-written rules and with a reverse mode wherever JAX has any derivative.

    >>> import jax, jax.numpy as jnp
    >>> def until_large(x):
    ...     return jax.lax.while_loop(lambda x: x < 9.0, lambda x: 2 * x, x)
    >>> float(jax.grad(differentiable(until_large))(1.0))
    16.0
    """

    def automatic(*args: PyTree, **keywords: PyTree) -> PyTree:
        options: dict[str, Any] = {"forward": True, "further": further, "keep": keep}
        return take_out(f, args, keywords, Removal(), **options)[0].run()

    return automatic


def with_twins(f: Function) -> Function:
    """`f` with a right rule in the place of each hand-written one: a custom_vjp by autodiff.

    What goes wrong with these goes wrong with any rule. A loop's is made of its forward mode.

    >>> import jax
    >>> float(jax.grad(with_twins(jax.nn.relu))(2.0))
    1.0
    """

    def twins(*args: PyTree, **keywords: PyTree) -> PyTree:
        program = trace(f, args, keywords)
        jaxpr = Rewriting(lambda site: True, forward=True, twins=True).closed(program.jaxpr)
        return dataclasses.replace(program, jaxpr=jaxpr).run()

    return twins


def inlined(f: Function) -> Function:
    """`f` without hand-written rules, and its loops as they are: for its value, and forward mode.

    >>> import jax
    >>> float(jax.jvp(inlined(jax.nn.relu), (3.0,), (1.0,))[1])
    1.0
    """

    def values(*args: PyTree, **keywords: PyTree) -> PyTree:
        with removing(Removal()):
            program = trace(f, args, keywords)
        jaxpr = Rewriting(lambda site: True, inline=True).closed(program.jaxpr)
        return dataclasses.replace(program, jaxpr=jaxpr).run()

    return values
