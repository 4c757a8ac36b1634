"""Params of a model of ours out of a state dict of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from funcnn.core.errors import first_line
from funcnn.core.given import described
from funcnn.core.layer import Layer
from funcnn.core.patterns import renamed, unknown_names
from funcnn.exchange.torch.conversion import CONVERSIONS, KNOWN, Arrays, channels_last
from funcnn.exchange.torch.modules import Module, modules_of, shown_shapes
from funcnn.exchange.torch.places import Place, places_of
from funcnn.report.rows import counted
from funcnn.types import Params, PyTree, Shaped

_LISTED = 8  # layers of each side that an error lists
_STATISTICS = {"mean", "variance"}  # which batch norm has in the params, and not from its init


def import_torch(
    state: Mapping[str, Any],
    model: Layer,
    x: PyTree,
    *,
    rename: Mapping[str, str] | None = None,
) -> Params:
    """The params of `model`, taken from the state dict of a PyTorch module. It needs no PyTorch.

    The modules of the state dict go to the layers of the model that have params in the order of
    both, the order in which torch registers modules, or by name as `rename` says. Each array must
    fit. The layers, with torch's names: dense (Linear), conv and conv_transposed (Conv1d to Conv3d,
    ConvTranspose1d to 3d), embedding, rnn, lstm and gru (each direction of each of their layers is
    one, `lstm.l0`, `lstm.l0_reverse`), and batch_norm (with its running statistics), layer_norm,
    rms_norm, group_norm, instance_norm.

    Windows get our order of axes, and those of a transposed convolution are turned round. Where an
    image was flattened, the features after it are put from torch's order (C, H, W) to ours. x
    counts as an image in torch's order where it has four axes or more, and what comes out of a
    convolution or batch norm does; what comes out of a recurrent layer, an embedding or a dense
    layer has its features last in both.

    Options are yours to choose as torch has them: `padding=((1, 1), (1, 1))` for its padding=1, in
    a transposed convolution the pair (k - 1) d - p of window k, dilation d and torch's padding p,
    `fnn.gelu(approximate=False)`, and the same epsilons.

    Args:
        state: arrays by name: `module.state_dict()`, or what safetensors or `torch.load` returns.
        model: the layer whose params are wanted.
        x: an input of it, in our order of axes, or its `jax.ShapeDtypeStruct`.
        rename: from patterns of names of modules to paths of layers, {"features.0": "conv_0",
            "body.*.fc": "repeat_0/*/dense_0"}; the n-th star of a path is what the n-th star of the
            pattern has matched. The other modules go in order.

    Raises:
        ValueError: the two sides differ in number or shapes, or a dtype does; a name of `rename` is
            none of theirs. The line lists both sides.
        TypeError: `state` holds what is no array; the model is no layer.

    Source: the formulas of https://docs.pytorch.org/docs/stable/nn.html.

    >>> import numpy as np
    >>> import funcnn as fnn
    >>> state = {"fc.weight": np.array([[1.0, 2.0]], np.float32), "fc.bias": np.ones(1, np.float32)}
    >>> import_torch(state, fnn.chain(fnn.dense(1)), jnp.ones((1, 2)))
    {'dense_0': {'w': Array([[1.],
           [2.]], dtype=float32), 'b': Array([1.], dtype=float32)}}
    """
    if not isinstance(model, Layer):
        raise TypeError(
            f"import_torch: model is a layer such as fnn.dense(3), found {described(model)}"
        )
    modules = modules_of(state)
    params = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))
    places = places_of(model, params, jax.tree.map(_shape_of, x))
    try:
        pairs = _pairs(modules, places, rename)
        arrays = {place.path: _converted(module, place) for place, module in pairs}
    except _Unlike as error:
        raise ValueError(f"import_torch: {error}; {_both(modules, places)}") from error
    return _assembled(model, params, arrays, "")


class _Unlike(ValueError):
    """What does not go together; both sides are listed behind it."""


def _pairs(
    modules: list[Module], places: list[Place], rename: Mapping[str, str] | None
) -> list[tuple[Place, Module]]:
    """Each place with its module: by name where it has one, else in order."""
    by_name = {module.name: module for module in modules}
    by_path = {place.path: place for place in places}
    new_names = renamed("import_torch", list(by_name), rename)
    chosen = {new: by_name[old] for new, old in new_names.items() if new != old}
    lost = [new for new in chosen if new not in by_path]
    if lost:
        raise _Unlike(f"no layer of the model is called {unknown_names(lost, list(by_path))}")
    taken = {module.name for module in chosen.values()}
    modules_left = [module for module in modules if module.name not in taken]
    places_left = [place for place in places if place.path not in chosen]
    if len(modules_left) != len(places_left):
        raise _Unlike(
            f"{counted(len(modules_left), 'module')} of torch's for "
            f"{counted(len(places_left), 'layer')} with params"
            f"{', beside those of rename' if chosen else ''}: leave out of the state, or of the "
            "model, what has no counterpart"
        )
    chosen |= {p.path: m for p, m in zip(places_left, modules_left, strict=True)}
    return [(place, chosen[place.path]) for place in places]


def _converted(module: Module, place: Place) -> Arrays:
    """The params of a place, checked against the shapes and dtypes that it has."""
    if place.rule not in CONVERSIONS:
        raise _Unlike(f"{place} has params that no module of torch's is known to have")
    if place.unclear:
        raise _Unlike(f"{place} gets features of a flattened image in an order that is not known")
    unfit = f"{module} does not fit {place}"
    try:
        found = CONVERSIONS[place.rule](module.arrays)
    except KeyError as error:
        raise _Unlike(f"{unfit}: it has no {first_line(error)}") from error
    except ValueError as error:
        raise _Unlike(f"{unfit}: {first_line(error)}") from error
    unknown = sorted(set(module.arrays) - KNOWN)
    if unknown:
        raise _Unlike(f"{unfit}: it has {unknown[0]}, which no layer of ours has a use for")
    surplus = set(found) - set(place.params)
    if not (surplus <= _STATISTICS and set(place.params) <= set(found)):
        raise _Unlike(f"{unfit}: as params its arrays are {shown_shapes(found)}")
    for name, wanted in place.params.items():
        if found[name].shape != wanted.shape:
            raise _Unlike(f"{unfit}: as params its arrays are {shown_shapes(found)}")
        if found[name].dtype != wanted.dtype:
            raise _Unlike(
                f"{module} is {found[name].dtype} and {place} {wanted.dtype}: cast the arrays of "
                "the state, or give an x of the other dtype"
            )
    if place.image is None:
        return found
    image = place.image  # the bias of dense belongs to what comes out, all others to what goes in
    return {n: a if n == "b" else channels_last(a, image) for n, a in found.items()}


def _assembled(layer: Layer, params: Params, arrays: Mapping[str, Arrays], path: str) -> Params:
    """The params of a layer, in the tree that its init gives them."""
    if layer.stacked:
        (part,) = layer.parts.values()
        n = jax.tree.leaves(params)[0].shape[0]
        own = [_assembled(part, params, arrays, _below(path, str(i))) for i in range(n)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    if path in arrays:
        return {name: jnp.asarray(a) for name, a in arrays[path].items()}
    return {
        name: _assembled(part, params[name], arrays, _below(path, name))
        for name, part in layer.parts.items()
        if name in params
    }


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _shape_of(leaf: Shaped) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _both(modules: list[Module], places: list[Place]) -> str:
    return f"torch has {_listed(modules)}; the model has {_listed(places)}"


def _listed(things: list[Module] | list[Place]) -> str:
    more = len(things) - _LISTED
    shown = ", ".join(map(str, things[:_LISTED])) or "no arrays"
    return shown + (f" and {more:,} more" if more > 0 else "")
