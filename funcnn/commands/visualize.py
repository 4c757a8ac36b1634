"""funcnn visualize: pictures of a trained run, as PNG and SVG."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcnn.commands.opened import opened
from funcnn.config import ConfigError
from funcnn.experiment import Experiment
from funcnn.pictures.activations import convolution_outputs, draw_activations
from funcnn.pictures.curves import draw_curves
from funcnn.pictures.filters import draw_filters, first_filters
from funcnn.pictures.network import probabilities
from funcnn.pictures.occlusion import draw_occlusion, occlusion_maps
from funcnn.pictures.saliency import draw_saliency, image_gradient
from funcnn.pictures.style import save_figure
from funcnn.runs.folder import RunFolder
from funcnn.train import read_metrics
from funcnn.train.metrics_log import EVALUATION

MOST_IMAGES = 12  # side by side
_NO_IMAGES = "the run is not about images with a class each"
_LOOKED_AT = 512  # test images among which those to show are looked for
_MOST_SQUARES = 32  # along a side of an image


class Picture(NamedTuple):
    """A picture that can be drawn, or the reason why it cannot.

    >>> Picture("filters", "the filters", skipped="there are none").figure is None
    True
    """

    name: str
    shows: str
    figure: Any = None
    skipped: str = ""


class Shown(NamedTuple):
    """The network of a run, and the images that are shown of it.

    Attributes:
        model, params: the network, ready to evaluate.
        images: (N, H, W, C).
        classes: the class that the network predicts for each of them, (N,).
        labels: what stands above each of them.

    >>> Shown(None, {}, np.zeros((1, 8, 8, 1)), np.array([3]), ["true 3"]).labels
    ['true 3']
    """

    model: Any
    params: Any
    images: Any
    classes: Any
    labels: list[str]


def visualize(
    run: str,
    *,
    out: str | None = None,
    images: int = 6,
    image: str | None = None,
    foreign: bool = True,
    as_json: bool = False,
) -> int:
    """Draw a trained run into its folder `pictures`, or into `out`; a line for each picture.

    Args:
        run: the run folder.
        out: where the pictures go.
        images: how many test images are shown.
        image: show this one instead, a .npy file.
        foreign: whether a function that the config of the run names may be imported.
        as_json: one JSON object a line.

    Raises:
        ConfigError: no such run, no checkpoint, an image that does not fit, too many images.
    """
    if not 1 <= images <= MOST_IMAGES:
        raise ConfigError([f"--images {images}: expected a number from 1 to {MOST_IMAGES}"])
    folder = RunFolder(run)
    target = folder.pictures if out is None else Path(out)
    if folder.holds_run():  # else the next line says that it holds none
        _check_folder(target)
    experiment, state = opened(folder, foreign=foreign)
    params = state.evaluation_params()
    if not _are_images(experiment):
        if image is not None:
            raise ConfigError([f"--image {image}: {_NO_IMAGES}"])
        for picture in (_curves(folder), *_without_images()):
            _tell(picture, target, as_json)
        return 0
    if image is None:
        view = _test_images(experiment, params, images)
    else:
        view = _own_image(experiment, params, image)
    for picture in _pictures(folder, view):
        _tell(picture, target, as_json)
    return 0


def _are_images(experiment: Experiment) -> bool:
    """Whether the model tells classes of images apart: what all pictures but the curves show."""
    task, test = experiment.task, experiment.dataset.test
    inputs = test.get(task.inputs) if isinstance(task.inputs, str) else None
    targets = test.get(task.targets)
    if inputs is None or targets is None:
        return False
    return inputs.ndim == 4 and targets.ndim == 1 and targets.dtype.kind in "iu"


def _without_images() -> Iterator[Picture]:
    for name in ("filters", "activations", "saliency", "occlusion"):
        yield Picture(name, "", skipped=_NO_IMAGES)


def _check_folder(target: Path) -> None:
    """Raise ConfigError where no picture can be written, before anything is computed."""
    there = next(
        path for path in (target.absolute(), *target.absolute().parents) if os.path.lexists(path)
    )
    if not there.is_dir():
        kind = "a file" if there.exists() else "a link that leads nowhere"
        raise ConfigError([f"{there}: is {kind}; the pictures need a folder (--out)"])
    new = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        line = f"{target}: cannot be written: {error.strerror}; take another folder with --out"
        raise ConfigError([line]) from error
    finally:
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()


def _tell(picture: Picture, target: Path, as_json: bool) -> None:
    """Write one picture and say where it is and what it shows."""
    row: dict[str, Any] = {"picture": picture.name, "shows": picture.shows}
    if picture.skipped:
        row["skipped"] = picture.skipped
        line = f"no {picture.name}: {picture.skipped}"
    else:
        target.mkdir(parents=True, exist_ok=True)
        png, svg = save_figure(picture.figure, target / picture.name)
        row |= {"png": str(png), "svg": str(svg)}
        line = f"{png} (and .svg): {picture.shows}"
    print(json.dumps(row) if as_json else line, flush=True)


def _pictures(folder: RunFolder, view: Shown) -> Iterator[Picture]:
    yield _curves(folder)
    yield from _convolution_pictures(view)
    yield _saliency(view)
    yield _occlusion(view)


def _curves(folder: RunFolder) -> Picture:
    name, shows = "learning_curves", "losses and metrics in training, and on the test rows"
    try:
        figure = draw_curves(read_metrics(folder.metrics), evaluation=EVALUATION)
    except FileNotFoundError:
        return Picture(name, shows, skipped=f"there is no {folder.metrics}")
    except ValueError as error:
        message = str(error)
        where = "" if message.startswith(str(folder.metrics)) else f"{folder.metrics}: "
        return Picture(name, shows, skipped=f"{where}{message}")
    return Picture(name, shows, figure)


def _convolution_pictures(view: Shown) -> Iterator[Picture]:
    first = first_filters(view.model, view.params)
    if first is None:
        none = "the model has no convolution layer (fnn.conv)"
        yield Picture("filters", "the filters of the first convolution layer", skipped=none)
        yield Picture("activations", "what each convolution layer returns", skipped=none)
        return
    path, w = first
    size = f"{w.shape[3]} of {w.shape[0]}x{w.shape[1]}"
    shows = f"the filters of the first convolution layer, {path} ({size})"
    yield Picture("filters", shows, draw_filters(w, title=f"Filters of {path}"))
    outputs = convolution_outputs(view.model, view.params, view.images)
    for path, z in outputs.items():
        name = f"activations_{path.replace('/', '_')}"
        shows = f"what {path} returns for {_count(view)}"
        figure = draw_activations(view.images, z, labels=view.labels, title=f"Output of {path}")
        yield Picture(name, shows, figure)


def _saliency(view: Shown) -> Picture:
    gradient = image_gradient(view.model, view.params, view.images, view.classes)
    title = "Saliency: which pixels move the score of the predicted class"
    figure = draw_saliency(view.images, gradient, labels=view.labels, title=title)
    shows = f"the gradient of the winning score by the pixels of {_count(view)}"
    return Picture("saliency", shows, figure)


def _occlusion(view: Shown) -> Picture:
    size = min(view.images.shape[1:3])
    square = max(1, size // 4) // 2 * 2 + 1  # about a quarter of the image, and odd
    square, stride = min(square, size - 1 + size % 2), max(1, size // _MOST_SQUARES)
    window: dict[str, Any] = {"square": square, "stride": stride}
    maps = occlusion_maps(view.model, view.params, view.images, classes=view.classes, **window)
    title = f"Occlusion: what a square of {square}x{square} pixels hides from the predicted class"
    figure = draw_occlusion(view.images, maps, labels=view.labels, title=title, **window)
    shows = f"how much the winning probability drops where a square of {_count(view)} is covered"
    return Picture("occlusion", shows, figure)


def _count(view: Shown) -> str:
    return f"{len(view.images)} image{'s' if len(view.images) > 1 else ''}"


def _test_images(experiment: Experiment, params: Any, count: int) -> Shown:
    test = experiment.dataset.test
    images, truth = test.x[:_LOOKED_AT], test.y[:_LOOKED_AT]
    scores = np.asarray(probabilities(experiment.model, params, images))
    predicted = scores.argmax(-1)
    chosen = choose(predicted, truth, count)
    labels = [_label(scores[i], f"true {truth[i]}\n") for i in chosen]
    return Shown(experiment.model, params, images[chosen], predicted[chosen], labels)


def _label(row: np.ndarray, before: str = "") -> str:
    return f"{before}predicted {row.argmax()}\np = {row.max():.2f}"


def choose(predicted: np.ndarray, truth: np.ndarray, count: int) -> list[int]:
    """The rows to show: right ones, each class in turn, and last, up to a quarter, wrong ones.

    >>> choose(np.array([0, 1, 0, 1, 0]), np.array([0, 1, 0, 1, 1]), 4)
    [0, 1, 2, 4]
    """
    wrong = np.flatnonzero(predicted != truth)[: count // 4]
    right = np.flatnonzero(predicted == truth)
    of_class = [right[truth[right] == label] for label in np.unique(truth)]
    turns = max((len(rows) for rows in of_class), default=0)
    in_turn = [int(rows[turn]) for turn in range(turns) for rows in of_class if turn < len(rows)]
    missing = np.flatnonzero(predicted != truth)[count // 4 :]  # where too few are right
    kept = [*in_turn, *map(int, missing)][: count - len(wrong)]
    return [*kept, *map(int, wrong)]


def _own_image(experiment: Experiment, params: Any, path: str) -> Shown:
    image = read_image(path, experiment.dataset.test.x.shape[1:])
    scores = np.asarray(probabilities(experiment.model, params, image[None]))
    return Shown(experiment.model, params, image[None], scores.argmax(-1), [_label(scores[0])])


def read_image(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """One image of a .npy file as float32, of the shape (H, W, C) that a model takes.

    Raises:
        ConfigError: no such file, not a .npy file of numbers, another shape, or pixels that are
            not from 0 to 1.

    >>> read_image("no_such.npy", (8, 8, 1))
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: --image no_such.npy: no such file
    """
    source = f"--image {path}"
    try:
        image = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ConfigError([f"{source}: no such file"]) from None
    except (OSError, ValueError, EOFError, MemoryError) as error:  # the header may say anything
        message = error.strerror if isinstance(error, OSError) else "not a .npy file"
        raise ConfigError([f"{source}: {message}; numpy.save(file, image) writes one"]) from error
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "fiu":
        raise ConfigError([f"{source}: is not one array of numbers; numpy.save writes one"])
    if image.shape != shape:
        message = f"found an image of shape {image.shape}, the model was trained on {shape}"
        raise ConfigError([f"{source}: {message}"])
    image = image.astype(np.float32)
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 1):  # NaN, too
        message = f"expected pixels from 0 to 1, found {low:g} to {high:g}"
        raise ConfigError([f"{source}: {message}"])
    return image
