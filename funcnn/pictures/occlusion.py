"""Occlusion: what a network loses when a square of the image is covered (Zeiler, Fergus 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.pictures.network import ROWS, Model, chosen_classes, fitting
from funcnn.pictures.panels import colour_bar, name_row, panels, show_image, show_map
from funcnn.pictures.style import COLOURS, styled
from funcnn.types import ArrayLike, PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cover(
    image: ArrayLike,
    centre: tuple[int, int] | jax.Array,
    square: int,
    fill: ArrayLike | None = None,
) -> jax.Array:
    """The image with a square round the pixel `centre` filled with one colour.

    What of the square lies beyond the border is cut off.

    Args:
        image: (H, W, C).
        centre: its row and column, two integers.
        square: the side of the square in pixels, odd.
        fill: the colour (C,) or one number; by default the `background` of the image.

    Returns:
        (H, W, C).

    >>> cover(jnp.ones((3, 4, 1)), (0, 1), square=3, fill=0.0)[..., 0].tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    image, (row, column) = jnp.asarray(image), centre
    fill = background(image) if fill is None else jnp.asarray(fill, image.dtype)
    near_row = abs(jnp.arange(image.shape[0]) - row) <= square // 2  # (H,)
    near_column = abs(jnp.arange(image.shape[1]) - column) <= square // 2  # (W,)
    covered = near_row[:, None, None] & near_column[None, :, None]  # (H, W, 1)
    return jnp.where(covered, jnp.broadcast_to(fill, image.shape), image)


def background(image: ArrayLike) -> jax.Array:
    """The median of the pixels along the border of an image (H, W, C), by channel: (C,).

    >>> background(jnp.zeros((3, 3, 1)).at[1].set(1.0)).tolist()
    [0.0]
    """
    image = jnp.asarray(image)
    border = [image[0], image[-1], image[:, 0], image[:, -1]]
    return jnp.median(jnp.concatenate(border), axis=0)


def occlusion_maps(
    model: Model,
    params: PyTree,
    images: ArrayLike,
    *,
    square: int,
    stride: int = 1,
    fill: ArrayLike | None = None,
    classes: ArrayLike | Sequence[int] | None = None,
) -> jax.Array:
    """How much the probability of a class drops when a square of the image is covered.

    Element (n, i, j) is p_c(image n) - p_c(image n with the square round row i * stride, column
    j * stride covered): 1 where everything hangs on what is there, below 0 where what is there
    speaks against the class.

    Args:
        model: logits (N, classes) = model(params, images), a layer or any pure function.
        params: its parameters.
        images: (N, H, W, C).
        square: the side of the square in pixels, odd, at most the smaller side of the image.
        stride: how many pixels lie between two squares.
        fill: the colour of the square, see `cover`.
        classes: the class c of each image, integers (N,); by default the most probable one.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: images that do not fit the model, classes that do not fit the images, or a
            square or stride that is out of range.

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", 4.2.

    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.flatten, fnn.dense(2))
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    >>> occlusion_maps(model, params, jnp.ones((2, 8, 8, 1)), square=3, stride=2).shape
    (2, 4, 4)
    """
    images = fitting(model, params, images)
    height, width = images.shape[1:3]
    _check_square(square, stride, min(height, width))
    classes = chosen_classes(model, params, images, classes)
    down, across = jnp.arange(0, height, stride), jnp.arange(0, width, stride)
    centres = jnp.stack(jnp.meshgrid(down, across, indexing="ij"), -1).reshape(-1, 2)  # (P, 2)

    @jax.jit
    def drops(params: PyTree, image: jax.Array, label: jax.Array) -> jax.Array:
        colour = background(image) if fill is None else fill
        before = jax.nn.softmax(model(params, image[None]))[0, label]

        def after(some: jax.Array) -> jax.Array:
            covered = jax.vmap(lambda centre: cover(image, centre, square, colour))(some)
            return jax.nn.softmax(model(params, covered))[:, label]

        return before - _in_batches(after, centres)

    maps = [drops(params, image, label) for image, label in zip(images, classes, strict=True)]
    return jnp.stack(maps).reshape(len(images), len(down), len(across))


def _check_square(square: int, stride: int, most: int) -> None:
    if not isinstance(square, int) or square % 2 == 0 or not 1 <= square <= most:
        raise ValueError(f"square is an odd number of pixels from 1 to {most}, found {square!r}")
    if not isinstance(stride, int) or not 1 <= stride <= most:
        raise ValueError(f"stride is a number of pixels from 1 to {most}, found {stride!r}")


def _in_batches(f: Callable[[jax.Array], jax.Array], rows: jax.Array) -> jax.Array:
    """f(rows) in equal batches, the last one filled up, so that memory does not grow with rows."""
    count = -(-len(rows) // ROWS)
    size = -(-len(rows) // count)
    filled = jnp.concatenate([rows, jnp.repeat(rows[:1], count * size - len(rows), 0)])
    return jax.lax.map(f, filled.reshape(count, size, -1)).reshape(-1)[: len(rows)]


@styled
def draw_occlusion(
    images: ArrayLike,
    maps: ArrayLike,
    *,
    square: int,
    stride: int = 1,
    fill: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    title: str = "Occlusion",
    figure: Figure | None = None,
) -> Figure:
    """Three rows: the images, their maps, and each with the square covered that costs it most.

    Args:
        images: (N, H, W, C), pixels from 0 to 1.
        maps: what `occlusion_maps` returns for them.
        square, stride, fill: what it was told.
        labels: what stands above each image.
        title: what stands above all.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: not one map, and one label, for each image.

    >>> figure = draw_occlusion(np.ones((2, 8, 8, 1)), np.ones((2, 4, 4)), square=3, stride=2)
    >>> [axes.get_ylabel() for axes in figure.axes[:9:3]]
    ['image', 'drop of the\\nprobability', 'covered where it\\ncosts most']
    """
    images, maps = np.asarray(images), np.asarray(maps)
    labels = [""] * len(images) if labels is None else labels
    figure, axes = panels(3, len(images), 1.7, 1.9, title, figure, bars=True)
    mappables = []
    for column, (image, drop, label) in enumerate(zip(images, maps, labels, strict=True)):
        show_image(axes[0, column], image, label)
        # Each number stands where the centre of its square was, in the pixels of the image.
        down, across = np.array(drop.shape) * stride - stride / 2
        start = -stride / 2
        mappables.append(show_map(axes[1, column], drop, 1.0, extent=(start, across, down, start)))
        worst = np.unravel_index(drop.argmax(), drop.shape)
        centre = (int(worst[0]) * stride, int(worst[1]) * stride)
        show_image(axes[2, column], cover(image, centre, square, fill), f"drop of {drop.max():.2f}")
        _outline(axes[2, column], centre, square, image.shape)
    colour_bar(figure, axes[1], mappables[-1])
    rows = ("image", "drop of the probability", "covered where it costs most")
    for row, text in enumerate(rows):
        name_row(axes[row, 0], text)
    return figure


def _outline(axes: Axes, centre: tuple[int, int], square: int, shape: tuple[int, ...]) -> None:
    """A frame round what the square covers."""
    from matplotlib.patches import Rectangle

    low = [max(c - square // 2, 0) - 0.5 for c in centre]
    high = [min(c + square // 2, n - 1) + 0.5 for c, n in zip(centre, shape, strict=False)]
    size = high[1] - low[1], high[0] - low[0]
    frame = Rectangle((low[1], low[0]), *size, fill=False, edgecolor=COLOURS[5], linewidth=2)
    axes.add_patch(frame)
