"""A table that comes with scikit-learn: 150 flowers."""

from __future__ import annotations

from funcnn.data.dataset import Dataset
from funcnn.data.tables import bundled_table


def iris(
    standardise: bool = False,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """150 flowers, the length and width of sepal and petal: `x` float32 (N, 4), `y` int32 (N,), the
    three kinds.

    The splits are drawn by `seed`, each class in its share. With `standardise` each column has
    mean 0 and standard deviation 1 in the training rows, and is moved and scaled in the others as
    there.

    >>> data = iris(standardise=True)
    >>> data.train.x.shape, data.test.x.shape, data.classes
    ((120, 4), (30, 4), 3)
    """
    return bundled_table("iris", standardise, seed, test_fraction, validation_fraction)
