"""Augmentation: images drawn anew for each step, from a key, inside the compiled step.

Each is a pure function `f(key, x, **options)` of a batch x (N, H, W, C) that keeps its shape and
dtype, draws for each image its own numbers from the one key, and gives x itself without a key.
Called with options alone it makes a layer, to stand in a chain: `chain(augment.flip(), ...)`.

augmentation: what makes a function one, the first file to read. flip, crop, cutout: where the
pixels of an image go. normalise: its colours, with or without a key. mixup: pairs of images and
their labels.
"""

from funcnn.augment.crop import crop as crop
from funcnn.augment.cutout import cutout as cutout
from funcnn.augment.flip import flip as flip
from funcnn.augment.mixup import MixedLabels as MixedLabels
from funcnn.augment.mixup import mixed_losses as mixed_losses
from funcnn.augment.mixup import mixup as mixup
from funcnn.augment.normalise import normalise as normalise
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
