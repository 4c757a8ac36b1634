"""Models: compositions of layers, no mathematics of their own."""

from funcnn.models.image import lenet as lenet
from funcnn.models.image import mlp as mlp
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
