"""Programs that end: a loop that goes on and on is stopped, inside compiled code too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.stages import Lowered, Traced

from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.jaxprs import bind, closed, subprograms
from funcnn.types import Array, ArrayLike, ClosedJaxpr, Equation, Function, Jaxpr, PyTree

SECONDS = 5.0  # that the loops of one run of a program may take
_EVERY = 256  # iterations between two looks at the clock


class EndlessLoop(Exception):
    """A loop was stopped; the message says after how long."""


def has_loop(program: Jaxpr | ClosedJaxpr) -> bool:
    """Whether a while_loop stands anywhere in a jaxpr: what else JAX has ends by itself.

    >>> settle = lambda x: jax.lax.while_loop(lambda x: x > 0.1, lambda x: x / 2, x)
    >>> has_loop(jax.make_jaxpr(settle)(1.0)), has_loop(jax.make_jaxpr(jnp.sin)(1.0))
    (True, False)
    """
    return any(
        eqn.primitive.name == "while" or any(map(has_loop, subprograms(eqn)))
        for eqn in closed(program).jaxpr.eqns
    )


class Ending:
    """A compiled function whose loops are stopped after a while.

    Raises:
        EndlessLoop: when called, where they were.

    >>> Ending(lambda x: jax.lax.while_loop(lambda x: x < 2, jnp.cos, x), 0.1, {})(1.0)
    Traceback (most recent call last):
    funcnn.gradient.program.loops.EndlessLoop: a loop had not ended after 0.1 s
    """

    def __init__(self, f: Function, seconds: float, options: dict[str, Any]):
        self.f, self.jitted = f, jax.jit(f, **options)
        self.seconds, self.options = seconds, options
        self._watched: dict[Any, Function | None] = {}

    def __call__(self, *args: PyTree) -> PyTree:
        """The function at its arguments; while it is traced, as it is."""
        leaves, tree = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self.f(*args)
        avals = tuple(map(jax.typeof, leaves))
        key = tree, avals, jnp.result_type(float)
        if key not in self._watched:
            traced = self.jitted.trace(*args)
            self._watched[key] = self._watch(traced) if has_loop(traced.jaxpr) else None
        watched = self._watched[key]
        return self.jitted(*args) if watched is None else watched(leaves)

    def eval_shape(self, *args: PyTree) -> PyTree:
        """As `jax.eval_shape`; what is traced here is traced for the call, too."""
        return self.jitted.eval_shape(*args)

    def jaxpr(self, *args: PyTree) -> ClosedJaxpr:
        """The program of a call."""
        return self.jitted.trace(*args).jaxpr

    def lower(self, *args: PyTree) -> Lowered:
        """As `jax.jit(f).lower`, with the loops as they are."""
        return self.jitted.lower(*args)

    def _watch(self, traced: Traced) -> Callable[[list[Any]], PyTree]:
        clock = _Clock(self.seconds)
        evaluate, tree = _Watched(clock), jax.tree.structure(traced.out_info)
        run = jax.jit(lambda leaves: evaluate(traced.jaxpr, leaves), **self.options)

        def watched(leaves: list[Any]) -> PyTree:
            clock.begun = None
            outs = jax.block_until_ready(run(leaves))
            if clock.late:
                clock.late = False
                raise EndlessLoop(f"a loop had not ended after {self.seconds:g} s")
            return jax.tree.unflatten(tree, outs)

        return watched


class _Clock:
    """Runs from its first reading on."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.begun: float | None = None
        self.late = False

    def __call__(self, _: ArrayLike) -> np.bool_:
        now = time.monotonic()
        self.begun = now if self.begun is None else self.begun
        self.late = self.late or now - self.begun > self.seconds
        return jnp.bool_.dtype.type(self.late)


class _Watched(Evaluation):
    """Each loop looks at the clock now and then, and stops when it is late."""

    def __init__(self, clock: _Clock):
        self.clock = clock

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        if eqn.primitive.name == "while":
            return self._while(eqn, x)
        # The axes of a shard_map are bound inside it alone: its loops run as they are.
        if eqn.primitive.name != "shard_map" and any(map(has_loop, subprograms(eqn))):
            return super().equation(eqn, x)
        return bind(eqn, x)

    def _while(self, eqn: Equation, x: list[Any]) -> list[Any]:
        n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        condition, body = closed(eqn.params["cond_jaxpr"]), closed(eqn.params["body_jaxpr"])
        every = 1 if has_loop(body) else _EVERY

        def late(count: Array) -> Array:
            return jax.pure_callback(self.clock, jax.ShapeDtypeStruct((), jnp.bool_), count)

        def go_on(state: tuple[Array, Array, list[Any]]) -> Array:
            _, stopped, carry = state
            return ~stopped & jnp.any(self(condition, [*x[:n], *carry])[0])

        def step(state: tuple[Array, Array, list[Any]]) -> tuple[Array, Array, list[Any]]:
            count, _, old = state
            new = self(body, [*x[n : n + m], *old])
            on = self(condition, [*x[:n], *old])[0] if condition.out_avals[0].shape else None
            look = count % every == every - 1
            stopped = jax.lax.cond(look, late, lambda _: jnp.bool_(False), count)
            return count + 1, stopped, [_chosen(on, a, b) for a, b in zip(new, old, strict=True)]

        start = jnp.uint32(0), jnp.bool_(False), x[n + m :]
        return jax.lax.while_loop(go_on, step, start)[2]


def _chosen(on: Array | None, new: ArrayLike, old: ArrayLike) -> ArrayLike:
    """Under vmap each row goes on for as long as its own condition says."""
    if on is None:
        return new
    return jnp.where(on.reshape(on.shape + (1,) * (jnp.ndim(new) - on.ndim)), new, old)
