"""Saliency: which pixels move the score of a class (Simonyan, Vedaldi and Zisserman 2013)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.pictures.network import Model, chosen_classes, fitting
from funcnn.pictures.panels import colour_bar, largest, name_row, panels, show_image, show_map
from funcnn.pictures.style import POSITIVE, SIGNED, styled
from funcnn.types import ArrayLike, PyTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = 0.995  # of the pixels are within the scale; the rest have the colour of its end


def image_gradient(
    model: Model,
    params: PyTree,
    images: ArrayLike,
    classes: ArrayLike | Sequence[int] | None = None,
) -> jax.Array:
    """The gradient of one logit by the image, ds_c / dx, for each image: (N, H, W, C).

    Each image stands alone, whatever the model does with a batch. The gradient is that of the
    model's own rules: `fnn.without_rules(model)` in place of `model` gives JAX's.

    Args:
        model: logits (N, classes) = model(params, images), a layer or any pure function.
        params: its parameters.
        images: (N, H, W, C).
        classes: the class c of each image, integers (N,); by default the one with the largest
            logit.

    Raises:
        ValueError: images that do not fit the model, or classes that do not fit the images.

    Source: Simonyan et al. 2013, "Deep inside convolutional networks", section 3.

    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.flatten, fnn.dense(2, bias=False))
    >>> params = {"dense_0": {"w": jnp.array([[1.0, 2.0], [3.0, 5.0]])}}
    >>> image_gradient(model, params, jnp.ones((1, 1, 2, 1)))[0, 0, :, 0].tolist()
    [2.0, 5.0]
    """
    images = fitting(model, params, images)
    classes = chosen_classes(model, params, images, classes)

    def score(image: jax.Array, label: jax.Array, params: PyTree) -> jax.Array:
        return model(params, image[None])[0, label]

    return jax.jit(jax.vmap(jax.grad(score), (0, 0, None)))(images, classes, params)


def saliency_map(gradient: ArrayLike) -> jax.Array:
    """How much each pixel moves the score: the largest |ds_c / dx| of its channels, (N, H, W).

    Source: Simonyan et al. 2013, section 3.1. `gradient` is (N, H, W, C).

    >>> saliency_map(jnp.array([[[[1.0, -3.0]]]])).tolist()
    [[[3.0]]]
    """
    return jnp.abs(jnp.asarray(gradient)).max(-1)


def gradient_times_input(gradient: ArrayLike, images: ArrayLike) -> jax.Array:
    """What each pixel adds to the score, to first order: x ds_c / dx, summed over channels.

    `gradient` and `images` are (N, H, W, C), the result is (N, H, W). In a network of linear, relu
    and max pooling layers without biases the sum over all pixels is the score itself.

    Raises:
        ValueError: the two shapes differ.

    >>> gradient_times_input(jnp.array([[[[1.0, -3.0]]]]), jnp.ones((1, 1, 1, 2))).tolist()
    [[[-2.0]]]
    """
    gradient, images = jnp.asarray(gradient), jnp.asarray(images)
    if gradient.shape != images.shape:
        raise ValueError(f"gradient {gradient.shape} and images {images.shape} differ in shape")
    return (gradient * images).sum(-1)


@styled
def draw_saliency(
    images: ArrayLike,
    gradient: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    title: str = "Saliency",
    figure: Figure | None = None,
) -> Figure:
    """Three rows: the images, their saliency maps, and gradient times input.

    Args:
        images: (N, H, W, C), pixels from 0 to 1.
        gradient: what `image_gradient` returns for them, (N, H, W, C).
        labels: what stands above each image.
        title: what stands above all.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: the shapes differ, or there is not one label for each image.

    >>> figure = draw_saliency(np.ones((2, 8, 8, 1)), np.ones((2, 8, 8, 1)), labels=["3", "5"])
    >>> [axes.get_ylabel() for axes in figure.axes[:9:3]]
    ['image', 'saliency', 'gradient x input']
    """
    positive, signed = saliency_map(gradient), gradient_times_input(gradient, images)
    images = np.asarray(images)
    labels = [""] * len(images) if labels is None else labels
    figure, axes = panels(3, len(images), 1.7, 1.8, title, figure, bars=True)
    maps = [(positive, POSITIVE, "max"), (signed, SIGNED, "both")]
    for column, (image, label) in enumerate(zip(images, labels, strict=True)):
        show_image(axes[0, column], image, label)
    for row, (values, colours, beyond) in enumerate(maps, 1):
        mappables, limit = [], largest(values, _SHARE)
        for panel, value in zip(axes[row], values, strict=False):
            mappables.append(show_map(panel, value, limit, colours=colours))
        colour_bar(figure, axes[row], mappables[-1], beyond)
    for row, text in enumerate(("image", "saliency", "gradient x input")):
        name_row(axes[row, 0], text)
    return figure
