"""Whether a piece of a program has a reverse mode: JAX has none for a while_loop or a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from funcnn.gradient.program.jaxprs import manual_axes
from funcnn.types import Array, ArrayLike, Aval, ClosedJaxpr, Function


def has_reverse_mode(closed: ClosedJaxpr, mapped: dict[str, Any] | None = None) -> bool:
    """Whether JAX can differentiate a closed jaxpr; nothing is compiled or run.

    Args:
        closed: the closed jaxpr.
        mapped: the parameters of the shard_map inside which it stands, whose axes it may name.

    >>> def until_large(x):
    ...     return jax.lax.while_loop(lambda x: x < 9.0, lambda x: 2 * x, x)
    >>> [has_reverse_mode(jax.make_jaxpr(f)(1.0)) for f in (jnp.sin, until_large)]
    [True, False]
    """

    def pull_back(*args: ArrayLike) -> list[Any]:
        y, pull = jax.vjp(lambda *a: _inexact(jex.jaxpr_as_fun(closed)(*a)), *args)
        return _inexact(pull(y))

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.in_avals]
    try:
        if mapped is None:
            jax.eval_shape(pull_back, *shapes)
        else:
            _eval_inside(mapped, pull_back, closed.in_avals)
    except Exception:  # JAX raises ValueError, TypeError or NotImplementedError, by the primitive
        return False
    return True


def _eval_inside(mapped: Any, f: Function, avals: Sequence[Aval]) -> None:
    """Trace `f` inside a shard_map like the given one, where its axes and their types exist."""
    mesh, axes = mapped["mesh"], manual_axes(mapped)
    checked = mapped["check_vma"]
    varying = [tuple(sorted(a.mat.varying)) if checked else tuple(sorted(axes)) for a in avals]

    def body(*stacked: Array) -> Array:
        f(*(x[0] for x in stacked))
        return jnp.zeros(())

    shapes = [
        jax.ShapeDtypeStruct((math.prod(mesh.shape[name] for name in names), *a.shape), a.dtype)
        for names, a in zip(varying, avals, strict=True)
    ]
    specs = tuple(PartitionSpec(names) if names else PartitionSpec() for names in varying)
    run = jax.shard_map(
        body,
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec(),
        axis_names=axes,
        check_vma=checked,
    )
    jax.eval_shape(run, *shapes)


def _inexact(leaves: Iterable[Any]) -> list[Any]:
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
