"""A reverse mode made of forward mode, for what has no other: a loop that ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from funcnn.gradient.program.jaxprs import bind, closed
from funcnn.types import Array, ArrayLike, ClosedJaxpr, Equation

_MOST = 4096  # numbers of one operand: each costs one run of the program
_ALSO = 32  # iterations


def by_forward_mode(f: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The same function, whose cotangents are collected from one forward derivative a number.

    It shares no rule with what it is held against: forward mode differentiates the body of the
    loop. The function takes arrays and returns a list of them; integers get no cotangent.

    >>> def until_large(x):
    ...     return [jax.lax.while_loop(lambda x: x < 9.0, lambda x: 2 * x, x)]
    >>> float(jax.grad(lambda x: by_forward_mode(until_large)(x)[0])(1.0))
    16.0
    """

    def forward(*x: ArrayLike) -> tuple[list[Any], tuple[ArrayLike, ...]]:
        return f(*x), x

    def backward(x: tuple[Any, ...], dys: list[Any]) -> tuple[Any, ...]:
        return tuple(_cotangent(f, x, i, dys) if _is_float(xi) else None for i, xi in enumerate(x))

    def forward_mode(*x: ArrayLike) -> list[Any]:
        return f(*x)

    made = jax.custom_vjp(forward_mode)
    made.defvjp(forward, backward)
    return made


def is_by_forward_mode(wrapped: ClosedJaxpr) -> bool:
    """Whether a closed jaxpr is what `by_forward_mode` wraps.

    >>> is_by_forward_mode(jax.make_jaxpr(jnp.sin)(1.0))
    False
    """
    return wrapped.jaxpr.debug_info.func_src_info.startswith(f"forward_mode at {__file__}")


def _cotangent(f: Callable[..., list[Any]], x: tuple[Any, ...], i: int, dys: list[Any]) -> Array:
    """The sum of dy times the derivative by each number of x[i], one after the other."""
    n = jnp.size(x[i])
    if n > _MOST:
        raise ValueError(f"forward mode alone, by {n} numbers: more than {_MOST} take too long")
    places = jnp.arange(n).reshape(jnp.shape(x[i]))

    def along(k: Array) -> Array:
        direction = jnp.where(places == k, 1, 0).astype(jnp.result_type(x[i]))
        _, pushed = jax.jvp(lambda xi: f(*x[:i], xi, *x[i + 1 :]), (x[i],), (direction,))
        terms = [jnp.vdot(dy, y) for dy, y in zip(dys, pushed, strict=True) if _is_float(y)]
        return sum(terms, jnp.zeros((), direction.dtype)).astype(direction.dtype)

    return jax.lax.map(along, jnp.arange(n)).reshape(jnp.shape(x[i]))


def _is_float(x: ArrayLike) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


def iterated_further(eqn: Equation) -> Callable[..., list[Any]]:
    """A while_loop, and some more runs of its body: how far from its limit it has stopped shows.

    >>> settle = lambda x: jax.lax.while_loop(lambda x: x > 0.1, lambda x: x / 2, x)
    >>> (eqn,) = jax.make_jaxpr(settle)(1.0).eqns
    >>> bool(iterated_further(eqn)(1.0)[0] < 1e-9)
    True
    """
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    body = jex.jaxpr_as_fun(closed(eqn.params["body_jaxpr"]))

    def run(*x: ArrayLike) -> list[Any]:
        carry = bind(eqn, x)
        fixed: Sequence[Any] = x[n : n + m]
        return jax.lax.fori_loop(0, _ALSO, lambda _, carry: list(body(*fixed, *carry)), carry)

    return run
