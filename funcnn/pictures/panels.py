"""Small panels side by side: an image, or a map of numbers, one a panel."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from funcnn.pictures.style import PLAIN, SIGNED
from funcnn.types import ArrayLike

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_NARROWEST = 4.5  # inches, so that a title has room above a single panel


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    title: str,
    figure: Figure | None = None,
    bars: bool = False,
) -> tuple[Figure, np.ndarray]:
    """(figure, axes) of rows x columns panels, each `width` x `height` inches, without ticks.

    Args:
        rows, columns: how many panels.
        width, height: of one panel.
        title: what stands above all.
        figure: draw into this one, such as `plt.figure()`, in place of a new one.
        bars: whether a narrow further column has room for a colour bar beside each row.

    Returns:
        The figure, and an array of shape (rows, columns), or (rows, columns + 1), of its axes.

    >>> figure, axes = panels(2, 3, 1.5, 1.5, "Six panels")
    >>> axes.shape, figure.get_size_inches().tolist()
    ((2, 3), [4.5, 3.5])
    """
    from matplotlib.figure import Figure

    figure = Figure() if figure is None else figure
    across = max((columns + bars / 2) * width, _NARROWEST)
    figure.set_size_inches(across, rows * height + 0.5)
    figure.set_layout_engine("constrained")
    ratios = [1.0] * columns + [0.08] * bars
    axes = figure.subplots(rows, columns + bars, squeeze=False, width_ratios=ratios)
    for bar in axes[:, columns:].flat:
        bar.set_axis_off()
    figure.suptitle(textwrap.fill(title, int(10 * across)))
    for panel in axes[:, :columns].flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set(visible=True, color="0.6", linewidth=0.6)  # white maps need an edge
    return figure, axes


def show_image(axes: Axes, image: ArrayLike, title: str = "") -> None:
    """An image (H, W, C), pixels from 0 to 1: three channels as colours, else their mean as grey.

    >>> _, axes = panels(1, 1, 2.0, 2.0, "")
    >>> show_image(axes[0, 0], np.zeros((8, 8, 1)), "a zero")
    >>> axes[0, 0].get_title()
    'a zero'
    """
    image = np.clip(np.asarray(image, np.float64), 0.0, 1.0)
    pixels = image if image.shape[-1] == 3 else image.mean(-1)  # (H, W, 3) or (H, W)
    axes.imshow(pixels, cmap=PLAIN, vmin=0.0, vmax=1.0)
    axes.set_title(title)


def show_map(
    axes: Axes,
    values: ArrayLike,
    limit: float,
    title: str = "",
    colours: str = SIGNED,
    extent: tuple[float, float, float, float] | None = None,
) -> AxesImage:
    """A map (H, W) of numbers; what `figure.colorbar` takes.

    With the signed colours the scale goes from -limit to limit, so that white is 0; with others it
    goes from 0 to limit.

    >>> _, axes = panels(1, 1, 2.0, 2.0, "")
    >>> show_map(axes[0, 0], np.zeros((8, 8)), limit=2.0).get_clim()
    (-2.0, 2.0)
    """
    low = -limit if colours == SIGNED else 0.0
    mappable = axes.imshow(np.asarray(values), cmap=colours, vmin=low, vmax=limit, extent=extent)
    axes.set_title(title)
    return mappable


def largest(values: npt.ArrayLike, share: float = 1.0) -> float:
    """The absolute value that this share of all values do not exceed, for the limit of a scale.

    With less than 1 the few largest do not make all others pale. It is 1 where all are 0.

    >>> largest([[-3.0, 2.0]]), largest(np.zeros(2))
    (3.0, 1.0)
    """
    sizes = np.abs(np.asarray(values, np.float64))
    return float(np.quantile(sizes, share)) or float(sizes.max()) or 1.0


def name_row(axes: Axes, text: str) -> None:
    """Write what a row of panels shows beside its first panel.

    >>> _, axes = panels(1, 2, 2.0, 2.0, "")
    >>> name_row(axes[0, 0], "image")
    >>> axes[0, 0].get_ylabel()
    'image'
    """
    axes.set_ylabel("\n".join(textwrap.fill(line, 16) for line in text.splitlines()))


def colour_bar(
    figure: Figure, axes: np.ndarray, mappable: AxesImage, beyond: str = "neither"
) -> None:
    """The scale of a row of maps in the place that `panels` kept free for it, the last of `axes`.

    `beyond`, "max" or "both", says at which ends there are numbers off the scale.

    >>> figure, axes = panels(1, 1, 2.0, 2.0, "", bars=True)
    >>> colour_bar(figure, axes[0], show_map(axes[0, 0], np.zeros((8, 8)), limit=2.0))
    >>> [float(end) for end in axes[0, 1].get_ylim()]
    [-2.0, 2.0]
    """
    axes[-1].set_axis_on()
    figure.colorbar(mappable, cax=axes[-1], extend=beyond)
