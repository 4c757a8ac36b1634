"""Filters of a convolution layer: what its weights look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funcnn.core.layer import Layer
from funcnn.pictures.network import convolutions
from funcnn.pictures.panels import largest, name_row, panels, show_map
from funcnn.pictures.style import styled
from funcnn.types import ArrayLike, Params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FILTERS, _MOST_CHANNELS, _COLUMNS = 64, 4, 8


def first_filters(model: Layer, params: Params) -> tuple[str, np.ndarray] | None:
    """The path and the weights (H, W, C, K) of the first convolution layer; None without one.

    >>> import jax, jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.conv(4, (3, 3)), fnn.flatten)
    >>> path, w = first_filters(model, model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1))))
    >>> path, w.shape
    ('conv_0', (3, 3, 1, 4))
    """
    layers = convolutions(model, params)
    return (layers[0].path, np.asarray(layers[0].params["w"])) if layers else None


@styled
def draw_filters(w: ArrayLike, *, title: str = "Filters", figure: Figure | None = None) -> Figure:
    """The filters of one convolution layer as maps with one scale, white where a weight is 0.

    With one input channel each panel is a filter. With more there is a row for each of the first
    four channels, and a column for each filter.

    Args:
        w: the weights (H, W, C, K): K filters, each of H x W weights for each of C channels. The
            first 64 filters are drawn, with several channels the first 8.
        title: what stands above.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.

    Raises:
        ValueError: w has another shape.

    >>> figure = draw_filters(np.ones((3, 3, 1, 4)))
    >>> [axes.get_title() for axes in figure.axes[:4]]
    ['0', '1', '2', '3']
    """
    w = np.asarray(w)
    if w.ndim != 4 or w.size == 0:
        raise ValueError(f"filters have the shape (H, W, C, K), none of them 0, found {w.shape}")
    alone = w.shape[2] == 1
    count = min(w.shape[3], _MOST_FILTERS if alone else _COLUMNS)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns) if alone else min(w.shape[2], _MOST_CHANNELS)
    of_all = "" if count == w.shape[3] else f", the first {count} of {w.shape[3]}"
    figure, axes = panels(rows, columns, 1.15, 1.3, f"{title}{of_all}", figure)
    limit, mappables = largest(w), []
    for place, panel in enumerate(axes.flat):
        if alone and place >= count:
            panel.set_axis_off()
            continue
        channel, k = (0, place) if alone else divmod(place, columns)
        number = f"{k}" if alone or channel == 0 else ""
        mappables.append(show_map(panel, w[:, :, channel, k], limit, number))
        if not alone and k == 0:
            name_row(panel, f"channel {channel}")
    figure.colorbar(mappables[-1], ax=axes, label="weight", shrink=min(1.0, 2.0 / rows), aspect=12)
    return figure
