"""The layers of a model that have params, in the order of their use, and what is in each of them.

Images are (N, *size, C) here and (N, C, *size) in torch. The weights of a layer do not depend on
that, but what `flatten` makes of an image does: its features stand in another order. So the walk
through a model remembers what was flattened.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from funcnn import rules
from funcnn.core.layer import Layer, output_shape
from funcnn.exchange.torch.modules import shown_shapes
from funcnn.types import Params, PyTree, Shape

# What takes images in torch, and so says in which order their axes are there; other layers with
# params take features on the last axis.
_OF_IMAGES = {rules.conv, rules.conv_transposed, rules.batch_norm, rules.group_norm}
_OF_IMAGES |= {rules.instance_norm}
_NORMALIZE = {rules.batch_norm, rules.layer_norm, rules.rms_norm, rules.group_norm}


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer that has params: its path, and their shapes and dtypes.

    Attributes:
        image: the shape (*size, C) of the image that was flattened into its input, or None.
        unclear: whether the order of its features in torch cannot be known.

    >>> print(Place("dense_0", rules.linear, {"b": jax.ShapeDtypeStruct((3,), "float32")}))
    dense_0 (b [3])
    """

    path: str
    rule: Any
    params: Mapping[str, jax.ShapeDtypeStruct]
    image: Shape | None = None
    unclear: bool = False

    def __str__(self) -> str:
        return f"{self.path or 'the model'} ({shown_shapes(self.params)})"


@dataclasses.dataclass(frozen=True)
class _Stream:
    """What goes from layer to layer: shapes, and how torch arranges them."""

    x: PyTree
    channels_first: bool
    image: Shape | None = None
    unclear: bool = False


def places_of(model: Layer, params: Params, x: PyTree) -> list[Place]:
    """The places of a model whose `params` and `x` are shapes and dtypes; nothing is computed.

    The layers of a `repeat` stand one by one, `repeat_0/0`, `repeat_0/1`, ....

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model, x = fnn.chain(fnn.conv(2, (3, 3)), fnn.flatten, fnn.dense(3)), jnp.ones((1, 4, 4, 1))
    >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
    >>> [(place.path, place.image) for place in places_of(model, params, x)]
    [('conv_0', None), ('dense_0', (4, 4, 2))]
    """
    images = isinstance(x, jax.ShapeDtypeStruct | jax.Array) and x.ndim > 3
    return _walk(model, params, _Stream(x, images), "")[0]


def _walk(layer: Layer, params: Params, stream: _Stream, path: str) -> tuple[list[Place], _Stream]:
    """The places inside a layer, and what comes out of it."""
    y = output_shape(layer, params, stream.x, jax.random.key(0))  # batch norm has no statistics yet
    if layer.stacked:
        return _stacked(layer, params, stream, path)
    if not layer.parts:
        found = [Place(path, layer.rule, params, stream.image, stream.unclear)] if params else []
        return found, _after(layer, params, stream, y)
    found, ends = [], []
    for name, part in layer.parts.items():
        inside = params.get(name, {})
        places, end = _walk(part, inside, stream, f"{path}/{name}" if path else name)
        found += places
        ends.append(end)
        stream = end if layer.sequential else stream
    return found, stream if layer.sequential else _joined(stream, ends, y)


def _stacked(
    layer: Layer, params: Params, stream: _Stream, path: str
) -> tuple[list[Place], _Stream]:
    """Each layer of a stack, with its own slice of the params."""
    (part,) = layer.parts.values()
    found: list[Place] = []
    leaves = jax.tree.leaves(params)
    own = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), params)
    for i in range(leaves[0].shape[0] if leaves else 0):
        places, stream = _walk(part, own, stream, f"{path}/{i}" if path else str(i))
        found += places
    return found, stream


def _after(layer: Layer, params: Params, stream: _Stream, y: PyTree) -> _Stream:
    """What comes out of a layer without parts."""
    x = stream.x
    if layer.rule in _OF_IMAGES and x.ndim > 2:
        return _Stream(y, channels_first=True)
    if _shapes(x) == _shapes(y) and (layer.rule in _NORMALIZE or not params):
        return dataclasses.replace(stream, x=y)  # element by element, or row by row
    if params:
        return _Stream(y, channels_first=False)
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        return _Stream(y, stream.channels_first)
    if y.shape == (x.shape[0], math.prod(x.shape[1:])) and x.ndim > 2:
        image = x.shape[1:] if stream.channels_first else None
        return _Stream(y, False, image, stream.unclear)
    lost = stream.image is not None or stream.unclear
    return _Stream(y, stream.channels_first, unclear=lost)


def _joined(stream: _Stream, ends: list[_Stream], y: PyTree) -> _Stream:
    """What comes out of branches; the order is known where it is that of x and of all of them."""
    images = {end.image for end in ends} | ({stream.image} if stream.image else set())
    same = all(_shapes(end.x) == _shapes(y) for end in ends) and len(images) == 1
    unclear = any(end.unclear for end in ends) or (images != {None} and not same)
    first = any(end.channels_first for end in ends)
    return _Stream(y, first, images.pop() if same and not unclear else None, unclear)


def _shapes(x: PyTree) -> list[Shape]:
    return [leaf.shape for leaf in jax.tree.leaves(x)]
