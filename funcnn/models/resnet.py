"""Residual networks: sums of a few convolutions and their input."""

from __future__ import annotations

from collections.abc import Callable

from funcnn import layers
from funcnn.core.composition import chain, residual
from funcnn.core.layer import Layer

# (width, stride, whether the shortcut is a projection) -> block
Block = Callable[[int, int, bool], Layer]


def _normalised(width: int, window: int, stride: int = 1) -> list[Layer]:
    """A convolution, without the bias that the batch norm after it has."""
    # Torchvision's: what is beyond the image is alike on both sides, at stride 2 too.
    around = (window // 2, window // 2)
    convolution = layers.conv(width, (window, window), stride, (around, around), bias=False)
    return [convolution, layers.batch_norm()]


def _block(body: list[Layer], width: int, stride: int, projects: bool) -> Layer:
    shortcut = chain(*_normalised(width, 1, stride)) if projects else None
    return chain(residual(chain(*body), shortcut=shortcut), layers.relu)


def _basic(width: int, stride: int, projects: bool) -> Layer:
    """Two 3x3 convolutions."""
    body = [*_normalised(width, 3, stride), layers.relu, *_normalised(width, 3)]
    return _block(body, width, stride, projects)


def _bottleneck(width: int, stride: int, projects: bool) -> Layer:
    """1x1, 3x3 and 1x1 convolutions; the last one is four times as wide."""
    body = [*_normalised(width, 1), layers.relu, *_normalised(width, 3, stride), layers.relu]
    return _block([*body, *_normalised(4 * width, 1)], 4 * width, stride, projects)


def _stages(block: Block, width: int, depths: tuple[int, ...], widens: bool) -> dict[str, Layer]:
    """Stages of blocks, each twice as wide as the one before, and on images half as large."""
    stages = {}
    for i, depth in enumerate(depths):
        first = block(width * 2**i, 1 if i == 0 else 2, i > 0 or widens)
        further = [block(width * 2**i, 1, False) for _ in range(depth - 1)]
        stages[f"stage_{i}"] = chain(first, *further)
    return stages


def resnet18(classes: int = 10, width: int = 64) -> Layer:
    """ResNet-18 for small images (N, H, W, C), such as CIFAR-10's 32x32x3; returns logits.

    A 3x3 stem without pooling and four stages of two basic blocks. It has 11,173,962 parameters
    for three channels and ten classes; the means and variances of batch norm are not among them.
    It is trained with a key, and evaluated with the params of `fnn.fold_statistics`.

    Args:
        classes: how many logits come out.
        width: the channels of the first stage; each further stage has twice as many.

    Source: He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016.

    >>> model = resnet18(width=8)
    >>> list(model.parts)[:3], list(model.parts)[-3:]
    (['stem', 'stage_0', 'stage_1'], ['stage_3', 'pool', 'head'])
    """
    return chain(
        stem=chain(*_normalised(width, 3), layers.relu),
        **_stages(_basic, width, (2, 2, 2, 2), widens=False),
        pool=layers.global_average_pool,
        head=layers.dense(classes),
    )


def resnet50(classes: int = 1000, width: int = 64) -> Layer:
    """ResNet-50 for images (N, H, W, C), such as ImageNet's 224x224x3; returns logits.

    A 7x7 stem of stride 2, max pooling, and stages of 3, 4, 6 and 3 bottlenecks, whose stride is
    that of their 3x3 convolution (as in torchvision). It has 25,557,032 parameters for three
    channels and a thousand classes; the means and variances of batch norm are not among them.

    Args:
        classes: how many logits come out.
        width: the channels of the stem; the stages have 4, 8, 16 and 32 times as many.

    Source: He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016.

    >>> model = resnet50(width=8)
    >>> [len(model.parts[f"stage_{i}"].parts) for i in range(4)]
    [3, 4, 6, 3]
    """
    around = ((1, 1), (1, 1))
    return chain(
        stem=chain(*_normalised(width, 7, 2), layers.relu),
        stem_pool=layers.max_pool((3, 3), stride=2, padding=around),
        **_stages(_bottleneck, width, (3, 4, 6, 3), widens=True),
        pool=layers.global_average_pool,
        head=layers.dense(classes),
    )
