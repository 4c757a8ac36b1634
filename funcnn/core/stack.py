"""One layer n times over, each time with its own parameters: `repeat`, in a scan."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.layer import Layer, Statistics, as_layer, constructor
from funcnn.core.parts import (
    Paths,
    carry_given,
    inside,
    outputs_of,
    require_key,
    shape_of_part,
    step_back,
    under,
)
from funcnn.core.registry import Rule
from funcnn.core.removal import removal_in_force
from funcnn.core.usage import positive_integer
from funcnn.types import Function, Key, Params, PyTree, Residuals


@constructor
def repeat(layer: Layer | Function, n: int) -> Layer:
    """The layer n times over, each time with its own parameters, stacked on axis 0.

    The layers run in a `lax.scan`, so that the program does not grow with n. The layer must return
    the shape that it takes. Backward: the same scan in reverse; deltas are stacked likewise.

    Where the layer has hand-derived passes, the inputs of the n layers alone are kept, and the
    forward pass of each is computed again just before its backward pass. Autodiff of a scan stacks
    every array that any layer inside keeps; with `jax.checkpoint` it keeps as little as this.

    Raises:
        ValueError: n is not a positive integer; at `init`, the layer changes the shape.

    >>> import jax.numpy as jnp
    >>> repeat(lambda params, x: 2 * x, 3)({}, jnp.ones(2))
    Array([8., 8.], dtype=float32)
    """
    n, part = positive_integer("repeat", "n", n), as_layer(layer)
    name = part.kind

    def init(key: Key, x: PyTree) -> Params:
        require_key(key)
        carry_given(carry_given(None, name, part, x), f"the next {name}", part, x)
        drawn = [part.init(jax.random.fold_in(key, i), x) for i in range(n)]
        y = shape_of_part(name, part, drawn[0], x, key)
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"repeat: {name} takes {x.dtype}{x.shape} and returns {y.dtype}{y.shape}: a layer "
                "that is repeated must return what it takes"
            )
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)

    def keys_of(key: Key | None) -> PyTree:
        return key if key is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))

    def over_layers(step: Any, x: PyTree, params: Params, key: Key | None) -> PyTree:
        carry_given(carry_given(None, name, part, x), f"the next {name}", part, x)
        with inside(name):
            return jax.lax.scan(lambda x, p: step(p[0], x, p[1]), x, (params, keys_of(key)), n)

    def plain(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return over_layers(lambda p, x, k: (part.apply(p, x, k), None), x, params, key)[0]

    def outputs(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        order: list[str] = []  # scan sorts a dict by its keys

        def step(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
            y, further = outputs_of(part, params, x, key)
            seen = under(name, y, further)
            order[:] = seen
            return y, seen

        y, stacked = over_layers(step, x, params, key)
        return y, {path: stacked[path] for path in order}

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        def step(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
            assert part.forward is not None
            return part.forward(params, x, key)[0], x

        y, xs = over_layers(step, x, params, key)
        return y, (xs, key)

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        order: list[str] = []  # scan sorts a dict by its keys
        xs, key = res

        def step(dy: PyTree, layer: PyTree) -> tuple[Any, tuple[Params, Paths]]:
            assert part.forward is not None
            dparams, deltas = {}, {}
            own, x, key = layer
            with jax.named_scope(name):
                _, kept = part.forward(own, x, key)
            dx = step_back(name, part, {name: own}, kept, dy, dparams, deltas)
            order[:] = deltas
            return dx, (dparams.get(name, {}), deltas)

        layers = params, xs, keys_of(key)
        dx, (dparams, deltas) = jax.lax.scan(step, dy, layers, n, reverse=True)
        return dparams, dx, {path: deltas[path] for path in order}

    def collect(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        return over_layers(part.value_and_statistics, x, params, key)

    takes = collect if part.collect else None
    if part.forward is None:
        return Layer("repeat", init, plain, parts={name: part}, outputs=outputs, collect=takes)
    apply = _stack(plain, forward, recursion)
    return Layer("repeat", init, apply, forward, recursion, {name: part}, outputs, takes)


def _stack(plain: Function, forward: Function, recursion: Function) -> PyTree:
    """The apply of a stack of layers with one rule round them all."""

    def repeat(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return plain(params, x, key)

    def keep(params: Params, x: PyTree, key: Key | None) -> PyTree:
        y, res = forward(params, x, key)
        return y, (params, res)

    def backward(res: Residuals, dy: PyTree) -> PyTree:
        return *recursion(*res, dy)[:2], None

    rule = Rule(repeat, "repeat")
    rule.defvjp(keep, backward)

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        # Inside, the rule would hide the layers' own from a removal that names those.
        return plain(params, x, key) if removal_in_force() else rule(params, x, key)

    return apply
