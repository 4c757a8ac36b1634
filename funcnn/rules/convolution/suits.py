"""Which shapes an algorithm suits: the conditions of the tables in choice.py, and their thresholds.

A condition may lean on those of the algorithms before its own in a table: they were asked first.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from funcnn.rules.convolution.patches import CHUNK_BYTES, are_chunks_large, is_exchanged
from funcnn.rules.shared.arguments import at_least
from funcnn.rules.shared.windows import Windows
from funcnn.types import DType

# Products of patches. Measured on two CPU cores with windows of 3 to 7 a side, images of 7 to 64,
# 1 to 256 channels.
FEWEST_INPUTS = 16  # below, XLA's own 1x1 convolution is faster than the product
MANY_OUTPUTS = 128  # from here, and more than inputs, dx is faster as products
FEW_INPUTS = 4  # so, too, up to here where each has as many outputs
LARGE_WINDOW = 25  # elements in two dimensions; from here, the patches cost more than they save
FEWEST_OUTPUTS = 32  # below, the product for dw is too thin
FEWEST_MULTIPLICATIONS = 50_000_000  # of dw; below, the chunks are too small
FEWEST_ROWS = 64  # and below so many outputs of an image, too

# Winograd's products. Measured on two CPU cores.
FEWEST_CHANNELS = 32
FEWEST_TILES = 512
FEWEST_DIRECT_MULTIPLICATIONS = 50_000_000  # of a direct dw; below, nothing is gained
MOST_ELEMENTS = 3_000_000  # of x and dy; above, V and S come from memory, not from the cache

# Groups.
MOST_OUTPUTS = 4  # of each channel that stands alone; above, products of patches are faster
FEW_CHANNELS = (
    8  # that stand alone; so many, and the dw of a dense convolution costs less than sums
)
FEWEST_OF_GROUP = 16  # channels on either side; below, one product for each group is faster


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What the choice of an algorithm looks at: I inputs and O outputs of all groups together.

    >>> Shapes(64, Windows.of("conv", (28, 28), (1, 1), 2, "SAME"), 32, 64).is_point
    True
    """

    images: int
    windows: Windows
    inputs: int
    outputs: int
    groups: int = 1
    dtype: DType = dataclasses.field(default_factory=lambda: jnp.result_type(float))
    platform: str = "cpu"

    @property
    def axes(self) -> int:
        """How many spatial axes there are."""
        return len(self.windows.size)

    @property
    def elements(self) -> int:
        """Of a window."""
        return math.prod(self.windows.window)

    @property
    def rows(self) -> int:
        """Of the patches of one image, a row for each output."""
        return math.prod(self.windows.output)

    @property
    def is_point(self) -> bool:
        """Whether a window has one element."""
        return self.elements == 1

    @property
    def is_strided(self) -> bool:
        """Whether a stride is not 1."""
        return set(self.windows.stride) != {1}


def everything(_: Shapes) -> bool:
    """The last of a table."""
    return True


def another_platform(s: Shapes) -> bool:
    """Not a CPU: the vendor's library knows best."""
    return s.platform != "cpu"


# Groups


def depthwise(s: Shapes) -> bool:
    """Each input channel is a group of its own, with few outputs.

    >>> windows = Windows.of("conv", (9,), 3, 1, "SAME")
    >>> [depthwise(Shapes(1, windows, i, o, i)) for i, o in ((8, 8), (8, 32), (8, 40), (1, 3))]
    [True, True, False, False]
    """
    return 1 < s.groups == s.inputs and s.outputs <= MOST_OUTPUTS * s.groups


def depthwise_of_many(s: Shapes) -> bool:
    """The same for dw, whose sums pay where there are more than a few of these channels."""
    return depthwise(s) and s.outputs > FEW_CHANNELS


def wide_groups(s: Shapes) -> bool:
    """y and dx of groups with many channels each are faster one group after the other."""
    wide = min(s.inputs, s.outputs) // s.groups >= FEWEST_OF_GROUP
    return s.groups > 1 and wide and s.axes > 1 and not s.is_point


def grouped(s: Shapes) -> bool:
    """More than one group."""
    return s.groups > 1


def grouped_products(s: Shapes) -> bool:
    """dw of groups whose patches cost little: with a stride, or those of points."""
    return s.groups > 1 and (s.is_strided or s.is_point)


# A single group


def planes(s: Shapes) -> bool:
    """Windows of a volume that take planes one after the other, and more than a point of each."""
    windows = s.windows
    one_by_one = s.axes == 3 and windows.stride[0] == 1 and windows.window[1:] != (1, 1)
    return s.groups == 1 and one_by_one


def dx_by_planes(s: Shapes) -> bool:
    """The same for dx, whose z would hold zeros with a stride; few inputs have products."""
    return planes(s) and not s.is_strided and s.inputs > FEW_INPUTS


def dw_by_planes(s: Shapes) -> bool:
    """The same for dw, whose planes must have outputs enough."""
    return planes(s) and math.prod(s.windows.output[1:]) >= FEWEST_ROWS


def phases(s: Shapes) -> bool:
    """dx of a window so large, and larger than its stride, that few zeros fill it up."""
    large = s.axes == 2 and s.elements >= LARGE_WINDOW
    return s.groups == 1 and large and set(s.windows.dilation) == {1} and s.is_strided


def winograd(s: Shapes) -> bool:
    """y and dx of plain 3x3 windows with many channels and many tiles of 2x2 outputs."""
    tiles = at_least(s.images) * s.rows // 4
    return _is_3x3(s) and min(s.inputs, s.outputs) >= FEWEST_CHANNELS and tiles >= FEWEST_TILES


def dw_by_winograd(s: Shapes) -> bool:
    """dw of plain 3x3 windows with many channels, as long as all of it stays in the cache."""
    positions = at_least(s.images) * s.rows
    enough = 9 * positions * s.inputs * s.outputs >= FEWEST_DIRECT_MULTIPLICATIONS
    fitting = positions * (s.inputs + s.outputs) <= MOST_ELEMENTS
    return _is_3x3(s) and min(s.inputs, s.outputs) >= FEWEST_CHANNELS and enough and fitting


def _is_3x3(s: Shapes) -> bool:
    windows = s.windows
    plain = windows.window == (3, 3) and windows.stride == windows.dilation == (1, 1)
    # With fewer digits the sums would lose too many of them.
    return s.groups == 1 and plain and jnp.finfo(s.dtype).bits >= 32


def products(s: Shapes) -> bool:
    """y where XLA has no fast convolution: of groups, volumes, and points of many channels."""
    fast = s.groups == 1 and s.axes < 3
    if s.is_point:
        return not fast or (s.axes == 2 and not s.is_strided and s.inputs >= FEWEST_INPUTS)
    return not fast and _have_large_chunks(s)


def dx_by_products(s: Shapes) -> bool:
    """dx of groups, volumes, points and strides; else of many outputs or few inputs."""
    if s.is_point and (s.groups > 1 or s.axes > 1):
        return True
    if s.groups == 1 and s.axes < 3 and not s.is_strided:
        many = s.outputs >= MANY_OUTPUTS and s.outputs > s.inputs and s.axes == 2
        few = s.inputs <= FEW_INPUTS and s.outputs >= FEW_INPUTS * s.inputs
        return (many or few) and _have_large_chunks(s)
    return _have_large_chunks(s)


def _have_large_chunks(s: Shapes) -> bool:
    columns = s.elements * s.inputs
    return are_chunks_large(s.images, s.rows, columns, jnp.dtype(s.dtype).itemsize)


def one_product(s: Shapes) -> bool:
    """dw where the patches are x itself; on every platform."""
    return s.groups == 1 and s.is_point and s.windows.output == s.windows.size


def dw_by_products(s: Shapes) -> bool:
    """dw of volumes and points, and of planes with patches neither large nor thin nor few.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> dw_by_products(Shapes(64, windows, 32, 64)), dw_by_products(Shapes(64, windows, 16, 16))
    (True, False)
    """
    if s.is_point or s.axes > 2:
        return True
    if s.axes == 1 or s.elements >= LARGE_WINDOW or s.rows < FEWEST_ROWS:
        return False
    wider = s.inputs if is_exchanged(s.windows, s.inputs, s.outputs) else s.outputs
    patches = s.rows * s.elements * s.inputs  # elements, of one image
    # To write large patches costs more than a product with few outputs saves.
    fewest = FEWEST_OUTPUTS if 8 * patches <= CHUNK_BYTES else 2 * FEWEST_OUTPUTS
    return wider >= fewest and at_least(s.images) * patches * s.outputs >= FEWEST_MULTIPLICATIONS
