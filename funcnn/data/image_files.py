"""Files of images as arrays of one form, read by Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from funcnn.data.dataset import DataError
from funcnn.data.optional import needed, said

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow calls the two, and what it calls images of one channel with 8 bits or less.
MODES = {"grey": "L", "rgb": "RGB"}
GREY = ("1", "L", "LA", "La")


class Form(NamedTuple):
    """What all images of a data set are.

    Attributes:
        size: height and width.
        colour: "grey" or "rgb".
        scales: whether an image of another size is scaled, or an error.
        converts: whether an image of another colour is made so, or an error.
        first: the file that has this form, for a message.
    """

    size: tuple[int, int]
    colour: str
    scales: bool
    converts: bool
    first: Path


def form_of(path: Path, size: tuple[int, int] | None, colour: str | None) -> Form:
    """The size and the colour wanted, else those of the image in a file.

    >>> form_of(Path("no.png"), None, None)
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no.png: no image that can be read: [Errno 2] No such file ...
    """
    image = _opened(path)
    found = (image.height, image.width)
    scales, converts = size is not None, colour is not None
    return Form(size or found, colour or _colour(image), scales, converts, path)


def read_image(path: Path, form: Form) -> np.ndarray:
    """The image in a file: uint8 (H, W, 1 or 3).

    Raises `DataError` for a file that Pillow cannot read or whose channels have more than 8 bits,
    and for another size or colour than the form's where it does not say that they are changed.

    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> Image.new("RGB", (4, 2), (255, 0, 9)).save(path)
    >>> read_image(path, form_of(path, None, None))[0, 0].tolist()
    [255, 0, 9]
    """
    image = _opened(path)
    size, colour = (image.height, image.width), _colour(image)
    if colour != form.colour and not form.converts:
        other = f"{form.first} is {form.colour}"
        raise DataError(f'{path}: is {colour}, and {other}; colour = "rgb" or "grey" makes all so')
    if size != form.size and not form.scales:
        sizes = "{}x{} pixels, and {} has {}x{}".format(*size, form.first, *form.size)
        raise DataError(f"{path}: {sizes}; size = [height, width] scales all to one")
    image = image.convert(MODES[form.colour])
    if size != form.size:
        from PIL.Image import Resampling

        image = image.resize((form.size[1], form.size[0]), Resampling.BILINEAR)
    array = np.asarray(image)  # (H, W) or (H, W, 3)
    return array if array.ndim == 3 else array[..., None]


def _opened(path: Path) -> Image:
    with needed("Pillow", path):
        from PIL import Image, ImageOps
    if path.is_dir():
        raise DataError(f"{path}: is a folder among the images of a class")
    try:
        with Image.open(path) as file:
            # Cameras store which side is up beside the pixels.
            image = ImageOps.exif_transpose(file)
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no image that can be read: {said(error)}") from None
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path}: has more than 8 bits a channel (Pillow's mode {image.mode})")
    return image


def _colour(image: Image) -> str:
    return "grey" if image.mode in GREY else "rgb"
