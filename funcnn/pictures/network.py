"""A trained network to be looked at: its classes, its convolution layers, images that fit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.rules.convolution.conv import conv
from funcnn.types import ArrayLike, Params, PyTree

# Any pure function logits (N, classes) = model(params, images), a Layer or not.
Model = Callable[..., Any]
ROWS = 256  # images that go through a network in one call


class Convolution(NamedTuple):
    """A convolution layer inside a model.

    Attributes:
        path: where it stands, "block/conv_0".
        params: its parameters, w (H, W, C, K) and perhaps b (K).
        repeats: in how many `repeat` it stands; the first of the repeated layers is meant.

    >>> Convolution("conv_0", {}, 0).path
    'conv_0'
    """

    path: str
    params: Params
    repeats: int


def convolutions(model: Layer, params: Params) -> list[Convolution]:
    """The layers made by `fnn.conv` with two spatial axes, in the order of the model.

    A function of one's own inside the model hides what it computes: nothing is found in it.

    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.conv(4, (3, 3)), fnn.relu, fnn.flatten, fnn.dense(3))
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    >>> [(c.path, c.params["w"].shape) for c in convolutions(model, params)]
    [('conv_0', (3, 3, 1, 4))]
    """
    return _convolutions(model, params, "", 0)


def _convolutions(layer: Layer, params: Params, path: str, repeats: int) -> list[Convolution]:
    # A copy of the rule with other passes has its reference.
    is_conv = layer.rule is not None and layer.rule.reference is conv.reference
    if is_conv and jnp.ndim(params["w"]) == 4:
        return [Convolution(path, params, repeats)]
    layers = []
    for name, part in layer.parts.items():
        here = f"{path}/{name}" if path else name
        if layer.stacked:
            first = jax.tree.map(lambda leaf: leaf[0], params)
            layers += _convolutions(part, first, here, repeats + 1)
        else:
            layers += _convolutions(part, params.get(name, {}), here, repeats)
    return layers


def fitting(model: Model, params: PyTree, images: ArrayLike) -> jax.Array:
    """The images as an array, once it is known that the model returns one row of logits for each.

    Nothing is computed.

    Args:
        model: logits (N, classes) = model(params, images), a layer or any pure function.
        params: its parameters.
        images: (N, H, W, C), floating point, finite.

    Raises:
        ValueError: images of another shape or dtype, or which the model cannot take.

    >>> import funcnn as fnn
    >>> model = fnn.models.mlp(hidden=[4], classes=3)
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    >>> fitting(model, params, jnp.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 1)
    >>> fitting(model, params, jnp.ones((2, 9, 9, 1)))
    Traceback (most recent call last):
    ValueError: images of shape (9, 9, 1) do not fit the model: linear: ...
    """
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[0] == 0:
        raise ValueError(f"images have the shape (N, H, W, C), N at least 1, found {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images are floating point, found {images.dtype}")
    try:
        logits = jax.eval_shape(model, params, images)
    except (TypeError, ValueError, KeyError) as error:
        shape = tuple(images.shape[1:])
        raise ValueError(
            f"images of shape {shape} do not fit the model: {first_line(error)}"
        ) from error
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(images):
        raise ValueError(f"the model returns {shape} for {len(images)} images, not (N, classes)")
    return images


def probabilities(model: Model, params: PyTree, images: ArrayLike) -> jax.Array:
    """The softmax of the logits, (N, classes), `ROWS` images at a time.

    Raises:
        ValueError: see `fitting`.

    >>> import funcnn as fnn
    >>> model = fnn.models.mlp(hidden=[4], classes=3)
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    >>> p = probabilities(model, params, jnp.ones((2, 8, 8, 1)))
    >>> p.shape, round(float(p.sum()), 3)
    ((2, 3), 2.0)
    """
    images = fitting(model, params, images)
    of_some = jax.jit(lambda params, x: jax.nn.softmax(model(params, x)))
    parts = [of_some(params, images[i : i + ROWS]) for i in range(0, len(images), ROWS)]
    return jnp.concatenate(parts)


def winners(model: Model, params: PyTree, images: ArrayLike) -> jax.Array:
    """The class with the largest logit for each image, int32 (N,).

    Raises:
        ValueError: see `fitting`.

    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.flatten)
    >>> winners(model, {}, jnp.ones((2, 1, 3, 1)) * jnp.array([0.0, 2.0, 1.0])[:, None]).tolist()
    [1, 1]
    """
    return probabilities(model, params, images).argmax(-1).astype(jnp.int32)


def chosen_classes(
    model: Model,
    params: PyTree,
    images: jax.Array | np.ndarray,
    classes: ArrayLike | Sequence[int] | None,
) -> jax.Array:
    """The classes asked for, one for each image, int32 (N,); the winners where that is None.

    Raises:
        ValueError: not one class for each image, or a class that the model does not have.

    >>> chosen_classes(None, {}, jnp.ones((2, 1, 3, 1)), [0, 1, 2])
    Traceback (most recent call last):
    ValueError: one class for each of the 2 images is wanted, found shape (3,)
    """
    if classes is None:
        return winners(model, params, images)
    classes = jnp.asarray(classes, jnp.int32)
    if classes.shape != images.shape[:1]:
        wanted = f"one class for each of the {len(images)} images is wanted"
        raise ValueError(f"{wanted}, found shape {classes.shape}")
    count = jax.eval_shape(model, params, images).shape[-1]
    wrong = classes[(classes < 0) | (classes >= count)]
    if wrong.size:
        raise ValueError(f"class {wrong[0]} is none of the {count} of the model (0 to {count - 1})")
    return classes
