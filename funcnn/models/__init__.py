"""Models: compositions of layers, no mathematics of their own."""

from funcnn.models.image import lenet, mlp

__all__ = ["lenet", "mlp"]
