"""The parts of a composition: their names, and one step of each through one of them.

A composition says once how x flows through its parts, `flow(run, params, x, key) -> y`, where
`run(name, part, params, x, key) -> y` is one part's step. What `run` does makes the difference
between applying the parts, recording their outputs and keeping their residuals.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.layer import Layer, Statistics, as_layer, fold_path, output_shape
from funcnn.core.registry import Value
from funcnn.core.usage import MissingParameter, MissingStatistics
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals

Parts = Mapping[str, Layer]
Paths = dict[str, Array]  # by the path of a layer
Run = Callable[[str, Layer, Params, PyTree, Key | None], PyTree]
Flow = Callable[[Run, Params, PyTree, Key | None], PyTree]


def name_parts(
    layers: Sequence[Layer | Function], named: Mapping[str, Layer | Function]
) -> dict[str, Layer]:
    """The layers by name; those without one are numbered within their kind.

    >>> list(name_parts([max, max], {"head": max}))
    ['max_0', 'max_1', 'head']
    """
    seen: Counter[str] = Counter()
    parts: dict[str, Layer] = {}
    for layer in map(as_layer, layers):
        parts[f"{layer.kind}_{seen[layer.kind]}"] = layer
        seen[layer.kind] += 1
    for name, layer in named.items():
        if name in parts:
            raise ValueError(f"two layers are called {name}: choose another name for the named one")
        parts[name] = as_layer(layer)
    if not parts:
        raise ValueError("a composition needs at least one layer")
    return parts


def compose(
    kind: str, parts: Parts, init: Function, flow: Flow, recursion: Function, forward: Any = None
) -> Layer:
    """The layer made of `parts`; without hand-derived passes where one of the parts has none."""

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return flow(_apply, params, x, key)

    def outputs(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        seen: Paths = {}
        return flow(_recorder(seen), params, x, key), seen

    def keep(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        kept: dict[str, Any] = {}
        return flow(keeper(kept), params, x, key), kept

    def collect(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        found: Statistics = {}
        return flow(_collector(found), params, x, key), found

    takes = collect if any(part.collect for part in parts.values()) else None
    by_hand = all(part.forward for part in parts.values())
    passes = (forward or keep, recursion) if by_hand else (None, None)
    carries = any(part.carries for part in parts.values())
    return Layer(kind, init, apply, *passes, parts, outputs, takes, carries)


def carry_given(before: str | None, name: str, part: Layer, x: PyTree) -> str | None:
    """The name of a part that is given a carry with x, and so returns one with y; else None.

    A TypeError where that is the carry which the part `before` returned. A function may take it.

    >>> carry_given("gru_0", "max_0", as_layer(max), (0.0, 1.0)) is None
    True
    """
    if before is not None and (part.forward or part.parts):
        raise TypeError(
            f"{name}: {before} passes on (carry, y), and its carry is not one of {name}: give "
            "x without a carry, or call the layers one by one, each with its own"
        )
    return name if part.carries and isinstance(x, tuple) else None


def arrays_to_join(ys: Sequence[Any]) -> Sequence[Any]:
    """The outputs of branches, unless they are tuples, whose sum would be a longer tuple.

    >>> arrays_to_join([(0.0, 1.0), 1.0])
    Traceback (most recent call last):
    TypeError: residual and parallel join arrays, found a tuple: ...
    """
    for y in ys:
        if isinstance(y, (tuple, list, dict)):
            raise TypeError(
                f"residual and parallel join arrays, found a {type(y).__name__}: give a recurrent "
                "layer x without a carry, or join the branches by a function"
            )
    return ys


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """What happens here stands under the name of the part in reports and in errors.

    >>> with inside("block"), inside("norm"):
    ...     raise MissingStatistics("batch_norm_0")
    Traceback (most recent call last):
    funcnn.core.usage.MissingStatistics: block/norm/batch_norm_0: no statistics to evaluate ...
    """
    try:
        with jax.named_scope(name):
            yield
    except (MissingStatistics, MissingParameter) as error:
        raise error.inside(name) from None


def _apply(name: str, part: Layer, params: Params, x: PyTree, key: Key | None) -> PyTree:
    with inside(name):
        return part.apply(params.get(name, {}), x, fold_path(key, name))


def _recorder(seen: Paths) -> Run:
    def run(name: str, part: Layer, params: Params, x: PyTree, key: Key | None) -> PyTree:
        with inside(name):
            y, further = outputs_of(part, params.get(name, {}), x, fold_path(key, name))
        seen.update(under(name, y, further))
        return y

    return run


def _collector(found: Statistics) -> Run:
    def run(name: str, part: Layer, params: Params, x: PyTree, key: Key | None) -> PyTree:
        with inside(name):
            y, own = part.value_and_statistics(params.get(name, {}), x, fold_path(key, name))
        # A layer that takes statistics itself has the path "".
        found.update({f"{name}/{path}".rstrip("/"): value for path, value in own.items()})
        return y

    return run


def keeper(kept: dict[str, Any]) -> Run:
    """The step of the forward pass: files the residuals of each part in `kept`.

    >>> callable(keeper({}))
    True
    """

    def run(name: str, part: Layer, params: Params, x: PyTree, key: Key | None) -> PyTree:
        assert part.forward is not None
        with inside(name):
            y, kept[name] = part.forward(params.get(name, {}), x, fold_path(key, name))
        return y

    return run


def step_back(
    name: str,
    part: Layer,
    params: Params,
    res: Residuals,
    dy: PyTree,
    dparams: Params,
    deltas: Paths,
) -> PyTree:
    """One step of the recursion through one part: files its gradient and its deltas, returns dx.

    >>> from funcnn.core.layer import Layer
    >>> half = Layer("half", None, None, None, lambda params, res, dy: ({}, dy / 2, {}))
    >>> deltas = {}
    >>> step_back("half_0", half, {}, None, 4.0, {}, deltas), deltas
    (2.0, {'half_0': 4.0})
    """
    assert part.recursion is not None
    with jax.named_scope(name):
        gradient, dx, further = part.recursion(params.get(name, {}), res, dy)
    if gradient:
        dparams[name] = gradient
    deltas.update(under(name, dy, further))
    return dx


def under(name: str, value: Value, further: Mapping[str, Value]) -> dict[str, Value]:
    """What belongs to a part and to the parts inside it, by path.

    >>> under("block", 1, {"conv_0": 2})
    {'block': 1, 'block/conv_0': 2}
    """
    return {name: value, **{f"{name}/{path}": inner for path, inner in further.items()}}


def outputs_of(
    layer: Layer, params: Params, x: PyTree, key: Key | None = None
) -> tuple[PyTree, Paths]:
    """`(y, {path: output})`: what a layer returns, and what each of the layers inside it returns.

    >>> outputs_of(as_layer(lambda params, x: x + 1), {}, 1.0)
    (2.0, {})
    """
    if layer.outputs is None:
        return layer.apply(params, x, key), {}
    return layer.outputs(params, x, key)


def init_part(name: str, part: Layer, key: Key, x: PyTree) -> Params:
    """The parameters of one part, drawn from its own key."""
    require_key(key)
    return part.init(fold_path(key, name), x)


def require_key(key: Key | None) -> None:
    """A TypeError where `init` got no key.

    >>> require_key(None)
    Traceback (most recent call last):
    TypeError: init needs a key: model.init(jax.random.key(0), x)
    """
    if key is None:
        raise TypeError("init needs a key: model.init(jax.random.key(0), x)")


def init_all(parts: Parts, key: Key, x: PyTree) -> Params:
    """The parameters of parts that all see the same x; a part without any has no entry."""
    drawn = {name: init_part(name, part, key, x) for name, part in parts.items()}
    return {name: params for name, params in drawn.items() if params}


def shape_of_part(name: str, part: Layer, params: Params, x: PyTree, key: Key | None) -> PyTree:
    """The shape of what a part returns in training; an error says in which layer it arose."""
    try:
        return output_shape(part, params, x, key)
    except Exception as error:
        error.add_note(f"in layer {name}, on an input of shape {jnp.shape(x)}")
        raise


def in_order(dparams: Params, params: Params) -> Params:
    """Gradients in the order of the parameters, not in that of the recursion.

    >>> in_order({"b": 1, "a": 2}, {"a": 0, "b": 0})
    {'a': 2, 'b': 1}
    """
    return {name: dparams[name] for name in params}


def missing_backward(layer: Layer, path: str = "") -> list[str]:
    """The paths of the layers inside that have no hand-derived backward pass.

    >>> missing_backward(as_layer(lambda params, x: x))
    ['function']
    """
    inside = [
        found
        for name, part in layer.parts.items()
        for found in missing_backward(part, f"{path}/{name}" if path else name)
    ]
    return inside or ([] if layer.forward else [path or layer.kind])
