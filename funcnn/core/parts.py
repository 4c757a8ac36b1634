"""The parts of a composition: their names, and one step of each through one of them.

A composition says once how x flows through its parts, `flow(step, params, x, key) -> (y, extras)`,
where `step(part, params, x, key) -> (y, extra)` is one part's step, and `extras` holds what each
part's step returned beside y, by the part's name. What `step` does makes the difference between
applying the parts, recording their outputs, taking their statistics and keeping their residuals.

Likewise `back(params, res, dy) -> (dx, taken)` says how a cotangent flows back, and `taken` holds
what `step_back` returned beside dx. A step fills nothing: what it has found, it returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from funcnn.core.drawing import one_program
from funcnn.core.errors import noted
from funcnn.core.layer import (
    Extras,
    Flow,
    Forward,
    Init,
    Layer,
    Statistics,
    Step,
    as_layer,
    fold_path,
    output_shape,
)
from funcnn.core.memory import of_part
from funcnn.core.registry import Value
from funcnn.core.usage import MissingParameter, MissingStatistics
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals

Parts = dict[str, Layer]
Paths = dict[str, Array]  # by the path of a layer
# The gradient of each part's parameters and its deltas, by the name of the part.
Taken = dict[str, tuple[Params, Paths]]
Back = Callable[[Params, Residuals, PyTree], tuple[PyTree, Taken]]


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
    kind: str,
    parts: Parts,
    init: Init,
    flow: Flow,
    back: Back | None,
    forward: Forward | None = None,
    *,
    rebuild: Callable[[Mapping[str, Layer]], Layer] | None,
    sequential: bool = False,
    stacked: bool = False,
) -> Layer:
    """The layer made of `parts`; without hand-derived passes where one of the parts has none.

    Args:
        kind, init, rebuild, sequential, stacked: as in `Layer`.
        parts: by name; one alone where `stacked`.
        flow: how x flows through the parts.
        back: how a cotangent flows back; None where it cannot.
        forward: the forward pass, where it keeps more or less than the residuals of each part.
    """
    first = next(iter(parts))

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return flow(step_apply, params, x, key)[0]

    def outputs(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        y, seen = flow(step_record, params, x, key)
        return y, by_path(seen)

    def keep_all(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        return flow(keep, params, x, key)

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        assert back is not None
        dx, taken = back(params, res, dy)
        # In the order of the parameters, not in that of the recursion.
        dparams = taken[first][0] if stacked else {name: taken[name][0] for name in params}
        return dparams, dx, by_path({name: deltas for name, (_, deltas) in taken.items()})

    def collect(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        y, statistics = flow(step_collect, params, x, key)
        return y, statistics[first] if stacked else by_path(statistics)

    by_hand = back is not None and all(part.forward for part in parts.values())
    passes = (forward or keep_all, recursion) if by_hand else (None, None)
    takes = collect if any(part.collect for part in parts.values()) else None
    carries = not stacked and any(part.carries for part in parts.values())
    made = Layer(kind, one_program(init), apply, *passes, parts, outputs, takes, carries)
    shown = {"rebuild": rebuild, "sequential": sequential, "stacked": stacked, "flow": flow}
    return dataclasses.replace(made, **shown)


def carry_given(before: str | None, name: str, part: Layer, x: PyTree) -> str | None:
    """The name of a part that is given a carry with x, and so returns one with y; else None.

    A TypeError where that is the carry which the part `before` returned. A function may take it.

    >>> carry_given("gru_0", "max_0", as_layer(max), (0.0, 1.0)) is None
    True
    """
    if before is not None and (part.forward or part.parts):
        raise TypeError(
            f"{name}: {before} passes on (carry, y), and its carry is not one of {name}: give "
            "x without a carry, or stack recurrent layers with fnn.stack_recurrent(...), which has "
            "a carry for each"
        )
    return name if part.carries and isinstance(x, tuple) else None


def arrays_to_join(ys: Sequence[PyTree]) -> Sequence[PyTree]:
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


def through(
    step: Step, name: str, part: Layer, params: Params, x: PyTree, key: Key | None
) -> tuple[PyTree, PyTree]:
    """A step through the part called `name`, with its own of the params and of the key.

    >>> by = as_layer(lambda params, x: x / params)
    >>> through(step_apply, "half", by, {"half": 2.0}, 4.0, None)
    (2.0, None)
    """
    with inside(name):
        return step(part, of_part(params, name), x, fold_path(key, name))


def through_each(
    step: Step, parts: Parts, params: Params, xs: Sequence[PyTree], key: Key | None
) -> tuple[tuple[PyTree, ...], Extras]:
    """A step through each of the parts, which stand side by side: their outputs, and the extras.

    >>> both = {"half": as_layer(lambda params, x: x / 2), "same": as_layer(lambda params, x: x)}
    >>> through_each(step_apply, both, {}, [4.0, 3.0], None)
    ((2.0, 3.0), {'half': None, 'same': None})
    """
    ways = zip(parts.items(), xs, strict=True)
    done = {name: through(step, name, part, params, x, key) for (name, part), x in ways}
    return tuple(y for y, _ in done.values()), {name: extra for name, (_, extra) in done.items()}


def step_apply(part: Layer, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, None]:
    """The step that applies a part, and finds nothing besides."""
    return part.apply(params, x, key), None


def step_record(part: Layer, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
    """The step that finds the outputs of a part and of the parts inside it."""
    y, further = outputs_of(part, params, x, key)
    return y, _own_first(y, further)


def step_collect(
    part: Layer, params: Params, x: PyTree, key: Key | None
) -> tuple[PyTree, Statistics]:
    """The step that finds the statistics of a batch."""
    return part.value_and_statistics(params, x, key)


def keep(part: Layer, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
    """The step of the forward pass: y and the residuals of the part."""
    assert part.forward is not None
    return part.forward(params, x, key)


def keep_with_output(
    part: Layer, params: Params, x: PyTree, key: Key | None
) -> tuple[PyTree, tuple[PyTree, Residuals]]:
    """The step of a forward pass whose way back asks for the output of each part, too."""
    y, res = keep(part, params, x, key)
    return y, (y, res)


def step_back(
    name: str, part: Layer, params: Params, res: Residuals, dy: PyTree
) -> tuple[PyTree, tuple[Params, Paths]]:
    """One step of the recursion through one part: dx, and the part's gradient and its deltas.

    >>> half = Layer("half", None, None, None, lambda params, res, dy: ({}, dy / 2, {}))
    >>> dx, (dparams, deltas) = step_back("half_0", half, {}, None, 4.0)
    >>> dx, dparams, by_path({"half_0": deltas})
    (2.0, {}, {'half_0': 4.0})
    """
    assert part.recursion is not None
    with jax.named_scope(name):
        dparams, dx, further = part.recursion(params.get(name, {}), res, dy)
    return dx, (dparams, _own_first(dy, further))


def step_back_each(
    parts: Parts, params: Params, res: Residuals, dys: Sequence[PyTree]
) -> tuple[dict[str, PyTree], Taken]:
    """The recursion through parts that stand side by side, last part first: the dxs by name."""
    dy_of = dict(zip(parts, dys, strict=True))
    done = {n: step_back(n, parts[n], params, res[n], dy_of[n]) for n in reversed(parts)}
    return {n: dx for n, (dx, _) in done.items()}, {n: taken for n, (_, taken) in done.items()}


def _own_first(own: Array, further: Mapping[str, Array]) -> Paths:
    """What belongs to a part, under the path "", and to the parts inside it.

    A scan sorts a dict by its keys, and leaves an OrderedDict in its order.
    """
    return OrderedDict({"": own, **further})


def by_path(of_parts: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """What belongs to the parts and to the parts inside them, by path; the path "" is a part's own.

    >>> by_path({"block": {"": 1, "conv_0": 2}, "head": {"": 3}})
    {'block': 1, 'block/conv_0': 2, 'head': 3}
    """
    return {
        f"{name}/{path}" if path else name: value
        for name, of_part in of_parts.items()
        for path, value in of_part.items()
    }


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
    with noted(name, x):
        return output_shape(part, params, x, key)
