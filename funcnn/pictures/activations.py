"""Activations: what each convolution layer makes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from funcnn.core.layer import Layer
from funcnn.core.parts import outputs_of
from funcnn.pictures.network import convolutions, fitting
from funcnn.pictures.panels import largest, name_row, panels, show_image, show_map
from funcnn.pictures.style import styled
from funcnn.types import ArrayLike, Params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CHANNELS = 8
_SHARE = 0.98  # of the numbers are within the scale; the rest have the colour of its end


def convolution_outputs(model: Layer, params: Params, images: ArrayLike) -> dict[str, jax.Array]:
    """What each convolution layer returns in evaluation, by path: (N, H, W, K).

    These are the z = w * x + b, before any activation function: a relu behind the layer passes what
    is positive and cuts off the rest. In a `repeat` the first of the repeated layers is meant.

    Args:
        model, params: the network.
        images: (N, H, W, C).

    Returns:
        `{}` where the model has no convolution layer.

    Raises:
        ValueError: images that do not fit the model.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model, x = fnn.chain(fnn.conv(4, (3, 3)), fnn.relu, fnn.flatten), jnp.ones((2, 8, 8, 1))
    >>> outputs = convolution_outputs(model, model.init(jax.random.key(0), x), x)
    >>> {path: z.shape for path, z in outputs.items()}
    {'conv_0': (2, 8, 8, 4)}
    """
    images = fitting(model, params, images)
    seen = jax.jit(lambda params, x: outputs_of(model, params, x)[1])(params, images)
    outputs = {}
    for layer in convolutions(model, params):
        z = seen[layer.path]
        for _ in range(layer.repeats):
            z = z[0]
        outputs[layer.path] = z
    return outputs


@styled
def draw_activations(
    images: ArrayLike,
    z: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    title: str = "Activations",
    figure: Figure | None = None,
) -> Figure:
    """Images, one a row, and beside each the first eight channels of a layer's output.

    Args:
        images: (N, H, W, C), pixels from 0 to 1.
        z: what the layer returns for them, (N, H', W', K).
        labels: what stands beside each image.
        title: what stands above.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: z is of another number of images, or not of four axes, or there is not one
            label for each image.

    >>> figure = draw_activations(np.ones((2, 8, 8, 1)), np.ones((2, 8, 8, 3)))
    >>> [axes.get_title() for axes in figure.axes[:4]]
    ['image', '0', '1', '2']
    """
    images, z = np.asarray(images), np.asarray(z)
    if z.ndim != 4 or z.shape[0] != len(images):
        wanted = f"one output (H, W, K) for each of {len(images)} images is wanted"
        raise ValueError(f"{wanted}, found {z.shape}")
    count = min(z.shape[-1], _MOST_CHANNELS)
    of_all = "" if count == z.shape[-1] else f", channels 0 to {count - 1} of {z.shape[-1]}"
    heading = f"{title}{of_all}: red is positive, blue is negative"
    figure, axes = panels(len(images), count + 1, 1.2, 1.2, heading, figure)
    limit, mappables = largest(z[..., :count], _SHARE), []
    labels = [""] * len(images) if labels is None else labels
    for row, (image, maps, label) in enumerate(zip(images, z, labels, strict=True)):
        show_image(axes[row, 0], image, "image" if row == 0 else "")
        name_row(axes[row, 0], label)
        for k in range(count):
            number = f"{k}" if row == 0 else ""
            mappables.append(show_map(axes[row, k + 1], maps[..., k], limit, number))
    figure.colorbar(
        mappables[-1],
        ax=axes,
        label="output",
        extend="both",
        shrink=min(1.0, 2.5 / len(images)),
        aspect=15,
    )
    return figure
