"""How layers compose: `chain`, `residual`, `parallel` and `repeat`.

Each is a layer made of parts. Its forward pass is its parts' forward passes, and its recursion, the
backward pass, calls theirs in exact reverse order; no automatic differentiation is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.layer import Layer, Statistics, as_layer, constructor
from funcnn.core.parts import (
    Paths,
    Run,
    arrays_to_join,
    carry_given,
    compose,
    in_order,
    init_all,
    init_part,
    inside,
    keeper,
    name_parts,
    outputs_of,
    require_key,
    shape_of_part,
    step_back,
    under,
)
from funcnn.core.registry import Rule, removal_in_force
from funcnn.core.usage import positive_integer
from funcnn.types import Function, Key, Params, PyTree, Residuals


@constructor
def chain(*layers: Layer | Function, **named: Layer | Function) -> Layer:
    """The composition f_L(... f_1(x; θ_1) ...; θ_L); the first argument is applied first.

    Unnamed layers are numbered within their kind (`conv_0`, `conv_1`); keywords name layers and
    come after them. Any function `f(params, x)` may stand among them. `params[name]` holds the
    parameters of a part, and a part without any has no entry.

    Backward: δ_L = dy, and δ_{l-1} is what the backward pass of layer l makes of δ_l.

    >>> import jax.numpy as jnp
    >>> model = chain(lambda params, x: x + 1, double=lambda params, x: 2 * x)
    >>> model({}, jnp.ones(2))
    Array([4., 4.], dtype=float32)
    """
    parts = name_parts(layers, named)

    def init(key: Key, x: PyTree) -> Params:
        params: Params = {}
        carried = None
        for name, part in parts.items():
            carried = carry_given(carried, name, part, x)
            drawn = init_part(name, part, key, x)
            params |= {name: drawn} if drawn else {}
            x = shape_of_part(name, part, drawn, x, key)
        return params

    def flow(run: Run, params: Params, x: PyTree, key: Key | None) -> PyTree:
        carried = None
        for name, part in parts.items():
            carried = carry_given(carried, name, part, x)
            x = run(name, part, params, x, key)
        return x

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        dparams, deltas = {}, {}
        for name in reversed(parts):
            dy = step_back(name, parts[name], params, res[name], dy, dparams, deltas)
        return in_order(dparams, params), dy, deltas

    return compose("chain", parts, init, flow, recursion)


@constructor
def residual(body: Layer | Function, shortcut: Layer | Function | None = None) -> Layer:
    """y = body(x) + x, or body(x) + shortcut(x).

    Backward: both branches get dy, and dx is the sum of what they return.

    Raises:
        ValueError: at `init`, where the two branches have different shapes.

    >>> import jax.numpy as jnp
    >>> residual(lambda params, x: 2 * x)({}, jnp.ones(2))
    Array([3., 3.], dtype=float32)
    """
    parts = {"body": as_layer(body)}
    if shortcut is not None:
        parts["shortcut"] = as_layer(shortcut)

    def init(key: Key, x: PyTree) -> Params:
        params = init_all(parts, key, x)
        shapes = [shape_of_part(n, p, params.get(n, {}), x, key).shape for n, p in parts.items()]
        shapes += [x.shape]  # without a shortcut x itself is the second branch
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"residual: body returns {shapes[0]} and the shortcut {shapes[1]}: give shortcut= "
                "a layer that returns the shape of the body"
            )
        return params

    def flow(run: Run, params: Params, x: PyTree, key: Key | None) -> PyTree:
        y = run("body", parts["body"], params, x, key)
        other = x if shortcut is None else run("shortcut", parts["shortcut"], params, x, key)
        return _JOIN["sum"]((y, other))

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        dparams, deltas = {}, {}
        dx = dy
        if shortcut is not None:
            dx = step_back(
                "shortcut", parts["shortcut"], params, res["shortcut"], dy, dparams, deltas
            )
        dx = dx + step_back("body", parts["body"], params, res["body"], dy, dparams, deltas)
        return in_order(dparams, params), dx, deltas

    return compose("residual", parts, init, flow, recursion)


# How the outputs of parallel branches are joined.
_JOIN: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": lambda ys: sum(arrays_to_join(ys)[1:], ys[0]),
    "concatenate": lambda ys: jnp.concatenate(arrays_to_join(ys), axis=-1),
}


def _split(combine: str | Function | None, ys: Sequence[PyTree], dy: PyTree) -> Sequence[PyTree]:
    """The cotangent of each branch's output from that of what they were joined to."""
    if combine is None:
        return dy
    if combine == "sum":
        return [dy] * len(ys)
    ends = [sum(y.shape[-1] for y in ys[: i + 1]) for i in range(len(ys))]
    return [dy[..., end - y.shape[-1] : end] for y, end in zip(ys, ends, strict=True)]


@constructor
def parallel(
    *branches: Layer | Function, combine: str | Function | None = None, **named: Layer | Function
) -> Layer:
    """Every branch on the same x; a tuple of their outputs, or what `combine` makes of it.

    Args:
        branches: layers or functions, numbered and named as in `chain`.
        combine: None for the tuple, "sum", "concatenate" (last axis), or a function of the
            outputs, `combine(y_0, y_1, ...)`, through which `fnn.backprop` cannot go.
        named: further branches.

    Backward: dx is the sum of what the branches return, last branch first.

    >>> import jax.numpy as jnp
    >>> parallel(lambda p, x: x, lambda p, x: 2 * x, combine="sum")({}, jnp.ones(2))
    Array([3., 3.], dtype=float32)
    """
    parts = name_parts(branches, named)
    if not (callable(combine) or combine in (None, *_JOIN)):
        raise ValueError(
            f"parallel: combine is None, 'sum', 'concatenate' or a function, found {combine!r}"
        )

    def flow(run: Run, params: Params, x: PyTree, key: Key | None) -> PyTree:
        ys = [run(name, part, params, x, key) for name, part in parts.items()]
        if combine is None:
            return tuple(ys)
        return _JOIN[combine](ys) if isinstance(combine, str) else combine(*ys)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        kept: dict[str, Any] = {}
        ys: list[Any] = []
        run = keeper(kept)
        y = flow(lambda *step: ys.append(run(*step)) or ys[-1], params, x, key)
        return y, (kept, ys)

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        kept, ys = res
        dparams, deltas = {}, {}
        dys = dict(zip(parts, _split(combine, ys, dy), strict=True))
        dxs = [
            step_back(name, parts[name], params, kept[name], dys[name], dparams, deltas)
            for name in reversed(parts)
        ]
        given = [dx for dx in dxs if dx is not None]  # integers have no cotangent
        dx = sum(given[1:], given[0]) if given else None
        return in_order(dparams, params), dx, deltas

    composed = compose(
        "parallel", parts, lambda key, x: init_all(parts, key, x), flow, recursion, forward
    )
    if combine is None or isinstance(combine, str):
        return composed
    return Layer(
        "parallel",
        composed.init,
        composed.apply,
        parts=parts,
        outputs=composed.outputs,
        collect=composed.collect,
    )


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
