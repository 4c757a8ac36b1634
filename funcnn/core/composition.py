"""How layers compose: `chain`, `residual` and `parallel`.

Each is a layer made of parts. Its forward pass is its parts' forward passes, and its recursion, the
backward pass, calls theirs in exact reverse order; no automatic differentiation is used.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from funcnn.core.beside import apart, without_seen
from funcnn.core.layer import Layer, as_layer, constructor
from funcnn.core.parts import (
    Extras,
    Step,
    Taken,
    arrays_to_join,
    carry_given,
    compose,
    init_all,
    init_part,
    keep,
    name_parts,
    shape_of_part,
    step_back,
    step_back_each,
    through,
    through_each,
)
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

    def flow(step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        extras: Extras = {}
        carried = None
        for name, part in parts.items():
            carried = carry_given(carried, name, part, x)
            x, extras[name] = through(step, name, part, params, x, key)
        return x, extras

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        taken: Taken = {}
        for name in reversed(parts):
            dy, taken[name] = step_back(name, parts[name], params, res[name], dy)
        return dy, taken

    return compose(
        "chain", parts, init, flow, back, rebuild=lambda parts: chain(**parts), sequential=True
    )


@constructor
def residual(body: Layer | Function, shortcut: Layer | Function | None = None) -> Layer:
    """y = body(x) + x, or body(x) + shortcut(x).

    A pair (x, seen), see `fnn.pass_beside`, becomes (y, seen): the branches take and return pairs.
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
        ys = [shape_of_part(n, p, params.get(n, {}), x, key) for n, p in parts.items()]
        # Without a shortcut x itself is the second branch.
        shapes = [apart(y)[0].shape for y in (*ys, x)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"residual: body returns {shapes[0]} and the shortcut {shapes[1]}: give shortcut= "
                "a layer that returns the shape of the body"
            )
        return params

    def flow(step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        ys, extras = through_each(step, parts, params, [x] * len(parts), key)
        ys, seen = ys if "shortcut" in parts else (*ys, x), apart(x)[1]
        if seen is None:
            return _JOIN["sum"](ys), extras
        return (_JOIN["sum"]([without_seen("residual", y) for y in ys]), seen), extras

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        dxs, taken = step_back_each(parts, params, res, [dy] * len(parts))
        one, other = dxs.get("shortcut", dy), dxs["body"]
        # Arrays are joined, and so a tuple is a pair: beside a cotangent stands None.
        return (one[0] + other[0], None) if isinstance(dy, tuple) else one + other, taken

    return compose("residual", parts, init, flow, back, rebuild=lambda parts: residual(**parts))


# How the outputs of parallel branches are joined.
_JOIN: dict[str, Callable[[Sequence[PyTree]], PyTree]] = {
    "sum": lambda ys: sum(arrays_to_join(ys)[1:], ys[0]),
    "concatenate": lambda ys: jnp.concatenate(arrays_to_join(ys), axis=-1),
}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Width:
    """A residual without arrays: how many of the joined numbers came from a branch."""

    of_last_axis: int


def _keep_with_width(
    part: Layer, params: Params, x: PyTree, key: Key | None
) -> tuple[PyTree, tuple[_Width, Residuals]]:
    y, res = keep(part, params, x, key)
    # Of what is no array, which is never joined along its last axis, the width is not asked for.
    return y, (_Width(y.shape[-1] if getattr(y, "ndim", 0) else 0), res)


def _split(combine: str | Function | None, widths: Sequence[int], dy: PyTree) -> Sequence[PyTree]:
    """The cotangent of each branch's output from that of what they were joined to."""
    if combine is None:
        return dy
    if combine == "sum":
        return [dy] * len(widths)
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    return [dy[..., end - width : end] for width, end in zip(widths, ends, strict=True)]


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

    def flow(step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        ys, extras = through_each(step, parts, params, [x] * len(parts), key)
        if combine is None:
            return ys, extras
        return (_JOIN[combine](ys) if isinstance(combine, str) else combine(*ys)), extras

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        widths = [res[name][0].of_last_axis for name in parts]
        kept = {name: own for name, (_, own) in res.items()}
        dxs, taken = step_back_each(parts, params, kept, _split(combine, widths, dy))
        given = [dx for dx in dxs.values() if dx is not None]  # integers have no cotangent
        return sum(given[1:], given[0]) if given else None, taken

    init, forward = functools.partial(init_all, parts), functools.partial(flow, _keep_with_width)
    way_back = None if callable(combine) else back

    def rebuild(parts: Mapping[str, Layer]) -> Layer:
        return parallel(combine=combine, **parts)

    return compose("parallel", parts, init, flow, way_back, forward, rebuild=rebuild)
