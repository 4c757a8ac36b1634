"""A rule of JAX as a `torch.autograd.Function`, for `torch.autograd.gradcheck`.

The passes are JAX's own, in float64, and NumPy carries the numbers to and fro: what the port
computes is the rule, and PyTorch sees what the backward pass returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from checker_tools import Subject, is_float, of_floats

Function = Callable[..., Any]


def by_gradcheck(subject: Subject, order: int) -> None:
    """Raises what PyTorch raises."""
    f, pull, x = _passes(subject)
    tensors = tuple(_tensor(xi).requires_grad_() for xi in x)

    def ported(*tensors: Any) -> Any:
        return _Ported.apply(f, pull, *tensors)

    torch.autograd.gradcheck(ported, tensors)
    if order == 2:
        torch.autograd.gradgradcheck(ported, tensors)


def _passes(subject: Subject) -> tuple[Function, Function, tuple[Any, ...]]:
    """`x -> list of floats`, `(x, dys) -> cotangents`, and x, in float64."""
    if subject.passes is None:
        f, x = of_floats(subject.f, subject.args, "float64")
        return _compiled(f), _compiled(_pull_of(f)), x
    run, back = subject.passes
    leaves, tree = jax.tree.flatten(subject.args)
    leaves = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in leaves]
    floats = [i for i, leaf in enumerate(leaves) if is_float(leaf)]
    with_none = jax.tree.leaves(subject.args, is_leaf=_is_none)
    places = [i for i, leaf in enumerate(with_none) if is_float(leaf)]

    def forward(x: tuple[Any, ...]) -> Any:
        given = list(leaves)
        for i, xi in zip(floats, x, strict=True):
            given[i] = xi
        return run(*jax.tree.unflatten(tree, given))

    def f(*x: Any) -> Any:
        return [y for y in jax.tree.leaves(forward(x)[0]) if is_float(y)]

    def pull(x: tuple[Any, ...], dys: list[Any]) -> Any:
        """Whatever the backward pass returns for the floats, in the container that it chose."""
        y, res = forward(x)
        ys, shape = jax.tree.flatten(y)
        given = iter(dys)
        dy = [next(given) if is_float(y) else np.zeros(y.shape, jax.dtypes.float0) for y in ys]
        found = back(res, jax.tree.unflatten(shape, dy))
        every = jax.tree.leaves(found, is_leaf=_is_none)
        every = [every[i] for i in places] if len(every) == len(with_none) else every
        return tuple(every) if isinstance(found, tuple) else every

    x = tuple(jnp.asarray(leaves[i], "float64") for i in floats)
    return _compiled(f), _compiled(pull), x


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _pull_of(f: Function) -> Function:
    return lambda x, dys: jax.vjp(f, *x)[1](dys)


def _compiled(f: Function) -> Function:
    """f by `jax.jit`, or as it is where it looks at numbers."""
    by_jit = jax.jit(f)

    def run(*args: Any) -> Any:
        try:
            return by_jit(*args)
        except jax.errors.ConcretizationTypeError:
            return f(*args)

    return run


class _Ported(torch.autograd.Function):
    """y = f(x), whose backward pass is `pull`; its own derivative is JAX's."""

    @staticmethod
    def forward(ctx: Any, f: Function, pull: Function, *tensors: Any) -> Any:
        ctx.pull = pull
        ctx.save_for_backward(*tensors)
        return tuple(_tensor(y) for y in f(*map(_array, tensors)))

    @staticmethod
    def backward(ctx: Any, *dys: Any) -> Any:
        x, pull, n = ctx.saved_tensors, ctx.pull, len(ctx.saved_tensors)
        found = pull(tuple(map(_array, x)), list(map(_array, dys)))
        if not any(dy.requires_grad for dy in dys):
            tensors = [None if d is None else _tensor(d) for d in found]
            return (None, None, *tensors) if isinstance(found, tuple) else tensors

        def again(*both: Any) -> Any:
            return [d for d in pull(both[:n], list(both[n:])) if d is not None]

        if not hasattr(pull, "again"):  # compiled once
            pull.again = _compiled(again), _compiled(_pull_of(again))
        given = iter(_Ported.apply(*pull.again, *x, *dys))
        return (None, None, *(None if d is None else next(given) for d in found))


def _array(tensor: Any) -> Any:
    return jnp.asarray(tensor.detach().numpy())


def _tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))
