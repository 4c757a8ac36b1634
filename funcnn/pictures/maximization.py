"""Activation maximisation: an image that a class, or a channel, answers to most strongly.

Source: Simonyan, Vedaldi and Zisserman 2013, "Deep inside convolutional networks", section 2: the
image x that maximises s(x) - penalty * ||x||^2, found by gradient ascent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.layer import Layer
from funcnn.core.parts import outputs_of
from funcnn.pictures.network import Model
from funcnn.pictures.panels import panels, show_image
from funcnn.pictures.style import styled
from funcnn.types import Array, ArrayLike, Params, PyTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Score = Callable[[Array], Array]  # an image (H, W, C) -> one number


class Maximized(NamedTuple):
    """What gradient ascent found.

    Attributes:
        image: (H, W, C), pixels from 0 to 1.
        scores: the score, without the penalty, at the start and after each step, (steps + 1,).

    >>> Maximized(jnp.zeros((1, 1, 1)), jnp.zeros(3)).scores.shape
    (3,)
    """

    image: jax.Array
    scores: jax.Array


def class_score(model: Model, params: PyTree, label: int) -> Score:
    """The logit of a class as a function of one image: s(x) = model(params, x)[label].

    >>> import funcnn as fnn
    >>> score = class_score(fnn.flatten, {}, 1)
    >>> float(score(jnp.array([[[2.0], [3.0]]])))
    3.0
    """

    def score(image: Array) -> Array:
        return model(params, image[None])[0, label]

    return score


def channel_score(
    model: Layer, params: Params, path: str, channel: int, place: tuple[int, int] | None = None
) -> Score:
    """The output of one channel of a layer as a function of one image.

    Args:
        model, params: the network.
        path: where the layer stands in it, "conv_0"; its output is (N, H, W, K).
        channel: which of the K.
        place: the row and column at which the output is taken; by default its mean over all.

    Raises:
        ValueError: when the score is computed: there is no such layer, channel or place.

    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.relu, fnn.flatten)
    >>> float(channel_score(model, {}, "relu_0", 0)(jnp.array([[[2.0], [-4.0]]])))
    1.0
    """

    def score(image: Array) -> Array:
        outputs = outputs_of(model, params, image[None])[1]
        if path not in outputs:
            raise ValueError(f"the model has no layer {path!r}; it has {', '.join(outputs)}")
        output = outputs[path]
        if not 0 <= channel < output.shape[-1]:
            raise ValueError(f"{path} has the channels 0 to {output.shape[-1] - 1}, not {channel}")
        maps = output[0, ..., channel]  # (H, W)
        if place is None:
            return maps.mean()
        if not all(0 <= at < size for at, size in zip(place, maps.shape, strict=True)):
            raise ValueError(f"{path} returns maps of {maps.shape}, which have no place {place}")
        return maps[place]

    return score


def maximize(
    score: Score,
    start: ArrayLike,
    *,
    steps: int = 200,
    step_size: float = 0.1,
    penalty: float = 0.0,
    roughness: float = 0.0,
) -> Maximized:
    """Gradient ascent on the pixels of an image, which stay between 0 and 1.

    x <- clip(x + step_size * g / max|g|), where g is the gradient of
    score(x) - penalty * sum x^2 - roughness * sum of squared differences of neighbouring pixels.
    The step size falls linearly to 0. A score that a little noise drives up as far as a stroke does
    is what the last two terms are for: without them the image looks like noise.

    Args:
        score: an image (H, W, C) -> a number; see `class_score` and `channel_score`.
        start: the image to start from, (H, W, C), floating point.
        steps: how many steps.
        step_size: how far the pixel of the steepest slope moves in the first step.
        penalty: the weight of the squared pixels, from 0.
        roughness: the weight of the squared differences, from 0.

    Raises:
        ValueError: an option out of range, or a start that is not (H, W, C).

    >>> ascent = maximize(lambda x: x[0, 0, 0] - x[0, 1, 0], jnp.full((1, 2, 1), 0.5))
    >>> ascent.image[0, :, 0].tolist(), float(ascent.scores[0]), float(ascent.scores[-1])
    ([1.0, 0.0], 0.0, 1.0)
    """
    start = jnp.asarray(start)
    if start.ndim != 3 or not jnp.issubdtype(start.dtype, jnp.floating):
        given = f"found {start.dtype} {start.shape}"
        raise ValueError(f"start is a floating point image of shape (H, W, C), {given}")
    if steps < 1 or step_size <= 0 or penalty < 0 or roughness < 0:
        given = f"steps={steps}, step_size={step_size}, penalty={penalty}, roughness={roughness}"
        raise ValueError(f"steps and step_size are positive, the weights at least 0, found {given}")

    def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        s = score(x)
        return s - penalty * (x**2).sum() - roughness * _rough(x), s

    def step(x: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
        (_, s), g = jax.value_and_grad(objective, has_aux=True)(x)
        g = g / jnp.maximum(jnp.abs(g).max(), jnp.finfo(x.dtype).tiny)
        return jnp.clip(x + size * g, 0.0, 1.0), s

    @jax.jit
    def ascend(x: jax.Array) -> Maximized:
        sizes = step_size * (1 - jnp.arange(steps, dtype=x.dtype) / steps)
        x, scores = jax.lax.scan(step, x, sizes)
        return Maximized(x, jnp.append(scores, score(x)))

    return ascend(start)


def _rough(x: jax.Array) -> jax.Array:
    return (jnp.diff(x, axis=0) ** 2).sum() + (jnp.diff(x, axis=1) ** 2).sum()


@styled
def draw_maximized(
    images: ArrayLike | Sequence[ArrayLike],
    labels: Sequence[str],
    *,
    title: str = "Activation maximisation",
    columns: int = 5,
    figure: Figure | None = None,
) -> Figure:
    """The images, each under its label.

    Args:
        images: (N, H, W, C), pixels from 0 to 1.
        labels: what stands above each image.
        title: what stands above all.
        columns: how many stand side by side.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: there is not one label for each image.

    >>> figure = draw_maximized(np.ones((2, 8, 8, 1)), ["class 0", "class 1"])
    >>> [axes.get_title() for axes in figure.axes]
    ['class 0', 'class 1']
    """
    images = np.asarray(images)
    columns = min(columns, len(images))
    figure, axes = panels(-(-len(images) // columns), columns, 1.6, 1.9, title, figure)
    for panel in axes.flat[len(images) :]:
        panel.set_axis_off()
    for panel, image, label in zip(axes.flat[: len(images)], images, labels, strict=True):
        show_image(panel, image, label)
    return figure
